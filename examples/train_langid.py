"""Train the network of `treadle demo`: a character-level LSTM that tells the language of a text.

It trains on treadle's kernels through PyTorch's autograd and optimiser. It needs PyTorch (`pip
install ".[torch,plot]" tqdm`; without the last two there is no picture and no live line) and
Debian's word lists, which it reads from /usr/share/dict:

    apt-get install wamerican wfrench wngerman wspanish witalian wportuguese wdutch wpolish \\
        wswedish wdanish wnorwegian wukrainian
    python examples/train_langid.py --out python/treadle/demo/langid.safetensors --plot loss.png

One core needs about a quarter of an hour. Seeds are fixed: the same machine and the same versions
give the same file; another CPU, or the other module, rounds differently and gives another network,
as good on held-out words to a few tenths of a percent. `--torch` trains on PyTorch's own LSTM;
`--compare` on both, step by step on the same texts: the log has the loss and the time of each.
`--quick` tries everything in seconds.

*Texts.* langid_texts.py makes them up from the word lists.

*Held out.* One word in twenty, chosen by the CRC-32 of its spelling (so the same word is held out
in every language), is never seen in training unless it is in the hand-written list. Accuracy is
measured on texts made of such words only. Inflected forms of a held-out word may be in training.

*Network.* Character -> embedding [20] -> LSTM [120] -> linear [12], read after every character:

    p(language | x_1..x_t) = softmax(W h_t + b),  h_t = LSTM(E[x_t], h_{t-1})

The state goes on from batch to batch, as the texts do; gradients end where a batch begins.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from langid_texts import ALPHABET, LANGUAGES, Batch, Texts, Words, held_out, read_list
from safetensors.torch import save_file
from show_training import Live, draw, picture

import treadle
import treadle.torch
from treadle.demo.reader import FORMAT, encode

EMBEDDING, HIDDEN = 20, 120
STEPS, TEXTS = 52_000, 2000  # of training; texts of each language and length to measure with
QUICK_STEPS, QUICK_TEXTS = 200, 50
LINES, RECENT = 24, 100  # lines of the log; steps whose mean loss is shown

LSTMS = {"treadle": treadle.torch.LSTM, "torch": torch.nn.LSTM}


class LanguageNet(torch.nn.Module):
    def __init__(self, lstm: type[torch.nn.RNNBase]) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(len(ALPHABET), EMBEDDING)
        self.lstm = lstm(EMBEDDING, HIDDEN)
        self.head = torch.nn.Linear(HIDDEN, len(LANGUAGES))

    def forward(
        self, x: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Characters [T, B] -> logits [T, B, languages], and the state after them."""
        output, state = self.lstm(self.embedding(x), state)
        return self.head(output), state


class Training:
    """A network, what trains it, the loss of every step and the seconds they took."""

    def __init__(self, lstm: type[torch.nn.RNNBase], steps: int, seed: int) -> None:
        torch.manual_seed(seed)  # the same parameters to start from, whichever the module
        self.net = LanguageNet(lstm)
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=4e-3)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, max_lr=4e-3, total_steps=steps, pct_start=0.1
        )
        self.state: tuple[torch.Tensor, ...] | None = None  # of the rows, after the last batch
        self.losses: list[float] = []
        self.seconds = 0.0

    def step(self, batch: Batch) -> None:
        start = time.perf_counter()
        kept = torch.from_numpy(~batch.anew).float()[:, None]
        state = tuple(part.detach() * kept for part in self.state) if self.state else None
        logits, self.state = self.net(torch.from_numpy(batch.characters), state)
        languages, weights = map(torch.from_numpy, (batch.languages, batch.weights))
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), languages.flatten(), reduction="none"
        )
        loss = (loss * weights.flatten()).sum() / weights.sum()
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        self.losses.append(loss.item())
        self.seconds += time.perf_counter() - start

    def __str__(self) -> str:
        return f"loss {np.mean(self.losses[-RECENT:]):.4f}, {self.seconds:.0f} s"


def train(trainings: dict[str, Training], texts: Texts, steps: int) -> None:
    """All of them take each step on the same texts."""
    with closing(Live(steps, "step")) as live:
        for step in range(1, steps + 1):
            batch = texts.batch()
            for training in trainings.values():
                training.step(batch)
            text = "   ".join(f"{name}: {training}" for name, training in trainings.items())
            live.update(text)
            if step * LINES // steps > (step - 1) * LINES // steps:
                live.say(f"step {step:5d} of {steps}   {text}")


def compare(ours: Training, theirs: Training) -> str:
    """How far apart the losses of two networks are that saw the same texts, and the times."""
    apart = np.abs(np.subtract(ours.losses, theirs.losses))
    first = min(50, len(apart))  # later steps amplify the differences of rounding
    ratio = theirs.seconds / ours.seconds
    return (
        f"the losses differ by at most {apart[:first].max():.1e} in the first {first} steps, "
        f"by {apart.max():.1e} in all {len(apart)}\n"
        f"treadle {ours.seconds:.1f} s, torch {theirs.seconds:.1f} s: {ratio:.2f} times"
    )


@torch.inference_mode()
def predict(net: LanguageNet, texts: list[str]) -> list[int]:
    """The likeliest language of each text, read to its end and one space."""
    answers = []
    for start in range(0, len(texts), 256):
        rows = [encode(text + " ", ALPHABET, True) for text in texts[start : start + 256]]
        x = torch.zeros(max(map(len, rows)), len(rows), dtype=torch.long)
        for column, row in enumerate(rows):
            x[: len(row), column] = torch.tensor(row)
        ends = torch.tensor([len(row) - 1 for row in rows])
        answers += net(x)[0][ends, torch.arange(len(rows))].argmax(-1).tolist()
    return answers


def read_table(path: Path) -> dict[str, str]:
    """{code: rest of the line} of langid_words.txt and langid_sentences.txt."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split(": ", 1) for line in lines if not line.startswith("#"))


def measure(net: LanguageNet, lists: list[Words], texts_each: int) -> tuple[dict, np.ndarray]:
    """Accuracy on texts of 1, 3, 5 held-out words, and the confusion [true, told] for 3 words."""
    accuracy, confusion = {}, np.zeros((len(lists), len(lists)), int)
    for words in (1, 3, 5):
        right = 0
        for language, source in enumerate(lists):
            texts = [source.text(words) for _ in range(texts_each)]
            told = np.array(predict(net, texts))
            right += int((told == language).sum())
            if words == 3:
                confusion[language] = np.bincount(told, minlength=len(lists))
        accuracy[str(words)] = round(right / (texts_each * len(lists)), 4)
    return accuracy, confusion


def read_words(directory: Path, seed: int) -> tuple[list[Words], list[Words], list[Words]]:
    """Read each language's words: to train with, the common ones among them, and held out."""
    here, rng = Path(__file__).parent, np.random.default_rng(seed)
    written = {k: v.split() for k, v in read_table(here / "langid_words.txt").items()}
    hand_written = {word for words in written.values() for word in words}
    seen, unseen = [], []
    for code, (name, *_) in LANGUAGES.items():
        words = read_list(code, directory)
        test = [w for w in words if held_out(w) and w not in hand_written]
        seen.append(Words([w for w in words if not held_out(w)], rng))
        unseen.append(Words(test, np.random.default_rng(seed + 1)))
        print(f"{name:<11}{len(words):7d} words, {len(test):5d} held out")
    return seen, [Words(written[code], rng, ranked=True) for code in LANGUAGES], unseen


def evaluate(net: LanguageNet, unseen: list[Words], texts_each: int) -> dict[str, float]:
    """Accuracy on held-out words and on the hand-written sentences, which it prints as tables."""
    names = [name for name, *_ in LANGUAGES.values()]
    accuracy, confusion = measure(net, unseen, texts_each)
    for kind in ("sentences", "noisy"):
        table = read_table(Path(__file__).parent / f"langid_{kind}.txt")
        sentences = [table[code].split(" | ") for code in LANGUAGES]
        told = [predict(net, texts) for texts in sentences]
        right = sum(answer == k for k, answers in enumerate(told) for answer in answers)
        accuracy[kind] = round(right / sum(map(len, told)), 4)
        for k, texts in enumerate(sentences):
            for text, answer in zip(texts, told[k], strict=True):
                if answer != k:
                    print(f"wrong: {text!r} is {names[k]}, told {names[answer]}")
    print("\n| text | accuracy |\n|---|---|")
    for words in ("1", "3", "5"):
        plural = "" if words == "1" else "s"
        print(f"| {words} held-out word{plural} | {100 * accuracy[words]:.1f} % |")
    print(f"| 120 everyday sentences | {100 * accuracy['sentences']:.1f} % |")
    print(
        f"| 120 sentences with numbers, signs and foreign words | {100 * accuracy['noisy']:.1f} % |"
    )
    print("\n| 3 held-out words of | right | most often taken for |\n|---|---|---|")
    for k, row in enumerate(confusion):
        rival = int(np.argmax(np.where(np.arange(len(row)) == k, -1, row)))
        print(f"| {names[k]} | {row[k] / row.sum():.1%} | {names[rival]} |")
    return accuracy


@torch.no_grad()
def round_weights(net: LanguageNet) -> None:
    """Give each parameter the nearest value that float16 has, in which the file keeps it."""
    for parameter in net.parameters():
        parameter.copy_(parameter.half())


def save(net: LanguageNet, path: Path, **about: object) -> None:
    """Write the file that `treadle demo` reads, whose weights `round_weights` has rounded."""
    about |= {"format": FORMAT, "alphabet": ALPHABET}
    about["languages"] = [name for name, *_ in LANGUAGES.values()]
    tensors = {name: tensor.half().contiguous() for name, tensor in net.state_dict().items()}
    save_file(tensors, path, {"treadle": json.dumps(about)})
    path.chmod(0o644)  # safetensors makes it private, a wheel would keep that
    print(f"\nwrote {path}, {path.stat().st_size} bytes")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("langid.safetensors"))
    parser.add_argument("--plot", type=picture, help="a file for the picture of the loss")
    module = parser.add_mutually_exclusive_group()
    module.add_argument("--torch", action="store_true", help="train on PyTorch's own LSTM")
    module.add_argument("--compare", action="store_true", help="train on both, keep treadle's")
    parser.add_argument("--dict", type=Path, default=Path("/usr/share/dict"), help="word lists")
    parser.add_argument("--steps", type=int, help=f"default {STEPS}")
    parser.add_argument("--threads", type=int, default=1, help="default 1")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_STEPS} steps, to try it: a poor network"
    )
    options = parser.parse_args()
    if options.steps is None:
        options.steps = QUICK_STEPS if options.quick else STEPS
    if not options.out.parent.is_dir():
        parser.error(f"there is no directory {options.out.parent} for --out")
    missing = [name for _, name, _ in LANGUAGES.values() if not (options.dict / name).is_file()]
    if missing:
        parser.error(
            f"{options.dict} has no {', '.join(missing)}: --help names the packages of word lists"
        )
    return options


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    treadle.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    seen, common, unseen = read_words(options.dict, options.seed)

    chosen = LSTMS if options.compare else ["torch" if options.torch else "treadle"]
    trainings = {name: Training(LSTMS[name], options.steps, options.seed) for name in chosen}
    train(trainings, Texts(seen, common, options.seed), options.steps)
    if options.compare:
        print(compare(trainings["treadle"], trainings["torch"]))

    net = next(iter(trainings.values())).net
    round_weights(net)
    accuracy = evaluate(net, unseen, QUICK_TEXTS if options.quick else TEXTS)
    save(net, options.out, accuracy=accuracy, steps=options.steps, seed=options.seed)
    if options.plot:
        losses = {name: training.losses for name, training in trainings.items()}
        draw(options.plot, "Languages told from characters", "step", losses)


if __name__ == "__main__":
    main()
