"""Train the network of `treadle demo`: a character-level LSTM that tells the language of a text.

It trains on treadle's kernels through PyTorch's autograd and optimiser. It needs PyTorch (`pip
install ".[torch,plot]" tqdm`; without the last two there is no picture and no live line) and
Debian's word lists, which it reads from /usr/share/dict:

    apt-get install wamerican wfrench wngerman wspanish witalian wportuguese wdutch wpolish \\
        wswedish wdanish wnorwegian wukrainian
    python examples/train_langid.py --out python/treadle/demo/langid.safetensors --plot loss.png

One core needs about fifteen minutes. Seeds are fixed: the same machine and the same versions give
the same file; another CPU, or the other module, rounds differently and gives another network, as
good on held-out words to a few tenths of a percent. `--torch` trains on PyTorch's own LSTM, as the
file in the package was; `--compare` on both, step by step on the same texts: the log has the loss
and the time of each. `--quick` tries everything in seconds.

*Texts.* Word lists hold no sentences and no frequencies, so a text is made up: with probability
0.45 the next word comes from a short hand-written list of very common words (langid_words.txt),
otherwise from the Debian list, shorter words more often. A few rows are gibberish with a random
label, which teaches the network to say "I do not know".

*Held out.* One word in twenty, chosen by the CRC-32 of its spelling (so the same word is held out
in every language), is never seen in training unless it is in the hand-written list. Accuracy is
measured on texts made of such words only. Inflected forms of a held-out word may be in training.

*Network.* Character -> embedding [20] -> LSTM [120] -> linear [12], read after every character:

    p(language | x_1..x_t) = softmax(W h_t + b),  h_t = LSTM(E[x_t], h_{t-1})
"""

from __future__ import annotations

import argparse
import json
import re
import time
import zlib
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from show_training import Live, draw, picture

import treadle
import treadle.torch
from treadle.demo.reader import FORMAT, encode

LANGUAGES = {  # code of langid_words.txt: name, file in /usr/share/dict, its encoding
    "en": ("English", "american-english", "utf-8"),
    "fr": ("French", "french", "utf-8"),
    "de": ("German", "ngerman", "utf-8"),
    "es": ("Spanish", "spanish", "utf-8"),
    "it": ("Italian", "italian", "utf-8"),
    "pt": ("Portuguese", "portuguese", "utf-8"),
    "nl": ("Dutch", "dutch", "utf-8"),
    "pl": ("Polish", "polish", "utf-8"),
    "sv": ("Swedish", "swedish", "latin-1"),
    "da": ("Danish", "danish", "utf-8"),
    "nb": ("Norwegian", "bokmaal", "latin-1"),
    "uk": ("Ukrainian", "ukrainian", "utf-8"),
}
LATIN = "abcdefghijklmnopqrstuvwxyzßàáâãäåæçèéêëìíîïñòóôõöøùúûüýąćęłńœśźż"
UKRAINIAN = "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя"
ALPHABET = " '" + LATIN + UKRAINIAN  # index 0 is every other character, then these
OTHER, SPACE = encode("#" + " ", ALPHABET)

EMBEDDING, HIDDEN = 20, 120
LENGTH, BATCH = 40, 96  # characters in a training text, texts in a step
COMMON, PUNCTUATION, GIBBERISH = 0.45, 0.12, 0.03  # probabilities
LIST_WORDS = 150_000  # taken evenly from each list
STEPS, TEXTS = 24_000, 2000  # of training; texts of each language and length to measure with
QUICK_STEPS, QUICK_TEXTS = 200, 50
LINES, RECENT = 24, 100  # lines of the log; steps whose mean loss is shown

LSTMS = {"treadle": treadle.torch.LSTM, "torch": torch.nn.LSTM}


def held_out(word: str) -> bool:
    return zlib.crc32(word.encode()) % 20 == 0


def read_list(code: str, directory: Path) -> list[str]:
    """The words of a Debian list: 3 to 18 letters, no names, no English genitives."""
    _, name, encoding = LANGUAGES[code]
    text = (directory / name).read_text(encoding=encoding)
    if code == "de":  # German nouns are capitalised; elsewhere a capital means a name
        text = re.sub("^.", lambda first: first[0].lower(), text, flags=re.MULTILINE)
    letters = UKRAINIAN if code == "uk" else LATIN
    words = re.findall(f"^[{letters}']{{3,18}}$", text, re.MULTILINE)
    # In the order of the file, which is nearly this one, millions are sorted at once.
    ordered = sorted(word for word in dict.fromkeys(words) if not word.endswith("'s"))
    return ordered[:: -(-len(ordered) // LIST_WORDS)]


class Words:
    """Draws words of one language, the shorter ones or the earlier ones more often."""

    def __init__(self, words: list[str], rng: np.random.Generator, ranked: bool = False) -> None:
        self.words = words
        self.codes = [encode(word, ALPHABET) for word in words]
        # Word lists are alphabetical; the hand-written ones are ranked: the law of Zipf-Mandelbrot.
        length = np.array([len(word) for word in words])
        weight = 1 / (30.0 + np.arange(len(words))) if ranked else np.exp2(-length / 3)
        self.cumulative = np.cumsum(weight) / weight.sum()
        self.rng = rng

    def draw(self, count: int) -> list[int]:
        places = np.searchsorted(self.cumulative, self.rng.random(count))
        return np.minimum(places, len(self.words) - 1).tolist()

    def text(self, count: int) -> str:
        return " ".join(self.words[i] for i in self.draw(count))


class Texts:
    """Batches of made-up texts [LENGTH, BATCH] with the language of each."""

    def __init__(self, lists: list[Words], common: list[Words], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.lists, self.common = lists, common

    def row(self, language: int) -> list[int]:
        row: list[int] = []
        source, often = self.lists[language], self.common[language]
        count = LENGTH // 3  # more words than fit: the row is cut
        is_common = self.rng.random(count) < COMMON * self.rng.integers(0, 3)
        opening = self.rng.random(count) < PUNCTUATION / 3
        closing = self.rng.random(count) < PUNCTUATION
        drawn = zip(source.draw(count), often.draw(count), strict=True)
        for i, (rare, frequent) in enumerate(drawn):
            row += [OTHER] if opening[i] else []  # ( or ¿ or a quotation mark
            row += often.codes[frequent] if is_common[i] else source.codes[rare]
            row += [OTHER, SPACE] if closing[i] else [SPACE]
            if len(row) >= LENGTH:
                break
        return (row + LENGTH * [SPACE])[:LENGTH]

    def gibberish(self) -> list[int]:
        """Letters in any order, or characters that are in no alphabet."""
        row = self.rng.integers(0, len(ALPHABET) + 1, LENGTH)
        row = np.where(self.rng.random(LENGTH) < self.rng.random(), row % 29, row)
        row[self.rng.random(LENGTH) < self.rng.choice([0.0, 0.3, 1.0])] = OTHER
        row[self.rng.random(LENGTH) < 0.15] = SPACE
        return [int(i) for i in row]

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        languages = np.arange(BATCH) % len(self.lists)
        noise = self.rng.random(BATCH) < GIBBERISH
        rows = [
            self.gibberish() if n else self.row(k) for n, k in zip(noise, languages, strict=True)
        ]
        return torch.tensor(rows).T.contiguous(), torch.from_numpy(languages)


class LanguageNet(torch.nn.Module):
    def __init__(self, lstm: type[torch.nn.RNNBase]) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(len(ALPHABET) + 1, EMBEDDING)
        self.lstm = lstm(EMBEDDING, HIDDEN)
        self.head = torch.nn.Linear(HIDDEN, len(LANGUAGES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Characters [T, B] -> logits [T, B, languages]."""
        return self.head(self.lstm(self.embedding(x))[0])


class Training:
    """A network, what trains it, the loss of every step and the seconds they took."""

    def __init__(self, lstm: type[torch.nn.RNNBase], steps: int, seed: int) -> None:
        torch.manual_seed(seed)  # the same parameters to start from, whichever the module
        self.net = LanguageNet(lstm)
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=4e-3)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, max_lr=4e-3, total_steps=steps, pct_start=0.1
        )
        self.losses: list[float] = []
        self.seconds = 0.0

    def step(self, x: torch.Tensor, language: torch.Tensor) -> None:
        start = time.perf_counter()
        weight = 1.0 + 3.0 * (x == SPACE)  # the end of a word is where the demo asks
        loss = torch.nn.functional.cross_entropy(
            self.net(x).flatten(0, 1), language.repeat(LENGTH), reduction="none"
        )
        loss = (loss * weight.flatten()).sum() / weight.sum()
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
                training.step(*batch)
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
        rows = [encode(text + " ", ALPHABET) for text in texts[start : start + 256]]
        x = torch.zeros(max(map(len, rows)), len(rows), dtype=torch.long)
        for column, row in enumerate(rows):
            x[: len(row), column] = torch.tensor(row)
        ends = torch.tensor([len(row) - 1 for row in rows])
        answers += net(x)[ends, torch.arange(len(rows))].argmax(-1).tolist()
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
    """Accuracy on held-out words and on the everyday sentences, which it prints as tables."""
    names = [name for name, *_ in LANGUAGES.values()]
    accuracy, confusion = measure(net, unseen, texts_each)
    table = read_table(Path(__file__).parent / "langid_sentences.txt")
    sentences = [table[code].split(" | ") for code in LANGUAGES]
    told = [predict(net, texts) for texts in sentences]
    count = sum(map(len, told))
    right = sum(answer == k for k, answers in enumerate(told) for answer in answers)
    accuracy["sentences"] = round(right / count, 4)
    for k, texts in enumerate(sentences):
        for text, answer in zip(texts, told[k], strict=True):
            if answer != k:
                print(f"wrong: {text!r} is {names[k]}, told {names[answer]}")
    print("\n| text | accuracy |\n|---|---|")
    for words in ("1", "3", "5"):
        plural = "" if words == "1" else "s"
        print(f"| {words} held-out word{plural} | {100 * accuracy[words]:.1f} % |")
    print(f"| {count} everyday sentences | {100 * accuracy['sentences']:.1f} % |")
    print("\n| 3 held-out words of | right | most often taken for |\n|---|---|---|")
    for k, row in enumerate(confusion):
        rival = int(np.argmax(np.where(np.arange(len(row)) == k, -1, row)))
        print(f"| {names[k]} | {row[k] / row.sum():.1%} | {names[rival]} |")
    return accuracy


def save(net: LanguageNet, path: Path, **about: object) -> None:
    """The file that `treadle demo` reads."""
    about |= {"format": FORMAT, "alphabet": ALPHABET}
    about["languages"] = [name for name, *_ in LANGUAGES.values()]
    tensors = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
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
    accuracy = evaluate(net, unseen, QUICK_TEXTS if options.quick else TEXTS)
    save(net, options.out, accuracy=accuracy, steps=options.steps, seed=options.seed)
    if options.plot:
        losses = {name: training.losses for name, training in trainings.items()}
        draw(options.plot, "Languages told from characters", "step", losses)


if __name__ == "__main__":
    main()
