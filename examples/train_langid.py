"""Train the network of `weft demo`: a character-level LSTM that tells the language of a text.

Needs PyTorch (`pip install weft[torch]`) and Debian's word lists, which it reads from
/usr/share/dict:

    apt-get install wamerican wfrench wngerman wspanish witalian wportuguese wdutch wpolish \\
        wswedish wdanish wnorwegian wukrainian
    python examples/train_langid.py --out python/weft/data/langid.safetensors

One core needs ten to fifteen minutes. Seeds are fixed: the same machine and the same versions give
the same file; another CPU rounds differently and gives one as good.

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
import time
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from weft.demo import FORMAT, encode, normalise

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


def held_out(word: str) -> bool:
    return zlib.crc32(word.encode()) % 20 == 0


def read_list(code: str, directory: Path) -> list[str]:
    """The words of a Debian list: 3 to 18 letters, no names, no English genitives."""
    _, name, encoding = LANGUAGES[code]
    letters = set(UKRAINIAN if code == "uk" else LATIN) | {"'"}
    words = set()
    for line in (directory / name).read_text(encoding=encoding).splitlines():
        if code == "de":  # German nouns are capitalised; elsewhere a capital means a name
            line = line[:1].lower() + line[1:]
        if 3 <= len(line) <= 18 and letters.issuperset(line) and not line.endswith("'s"):
            words.add(normalise(line))
    ordered = sorted(words)
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
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(len(ALPHABET) + 1, EMBEDDING)
        self.lstm = torch.nn.LSTM(EMBEDDING, HIDDEN)
        self.head = torch.nn.Linear(HIDDEN, len(LANGUAGES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Characters [T, B] -> logits [T, B, languages]."""
        return self.head(self.lstm(self.embedding(x))[0])


def train(net: LanguageNet, texts: Texts, steps: int) -> None:
    optimiser = torch.optim.Adam(net.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=4e-3, total_steps=steps, pct_start=0.1
    )
    start, running = time.perf_counter(), 2.5
    for step in range(1, steps + 1):
        x, language = texts.batch()
        weight = 1.0 + 3.0 * (x == SPACE)  # the end of a word is where the demo asks
        loss = torch.nn.functional.cross_entropy(
            net(x).flatten(0, 1), language.repeat(LENGTH), reduction="none"
        )
        loss = (loss * weight.flatten()).sum() / weight.sum()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        running += 0.01 * (loss.item() - running)
        if step % 1000 == 0:
            seconds = time.perf_counter() - start
            print(f"step {step:5d} of {steps}   loss {running:.3f}   {seconds:4.0f} s", flush=True)


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("langid.safetensors"))
    parser.add_argument("--dict", type=Path, default=Path("/usr/share/dict"), help="word lists")
    parser.add_argument("--steps", type=int, default=24000, help="default 24000")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch (default 1)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    torch.use_deterministic_algorithms(True)
    here, rng = Path(__file__).parent, np.random.default_rng(options.seed)
    common_words = {k: v.split() for k, v in read_table(here / "langid_words.txt").items()}
    hand_written = {word for words in common_words.values() for word in words}
    seen, unseen = [], []
    for code, (name, *_) in LANGUAGES.items():
        words = read_list(code, options.dict)
        test = [w for w in words if held_out(w) and w not in hand_written]
        seen.append(Words([w for w in words if not held_out(w)], rng))
        unseen.append(Words(test, np.random.default_rng(options.seed + 1)))
        print(f"{name:<11}{len(words):7d} words, {len(test):5d} held out")

    net = LanguageNet()
    start = time.process_time()
    common = [Words(common_words[code], rng, ranked=True) for code in LANGUAGES]
    train(net, Texts(seen, common, options.seed), options.steps)
    minutes = (time.process_time() - start) / 60

    names = [name for name, *_ in LANGUAGES.values()]
    accuracy, confusion = measure(net, unseen, 2000)
    sentences = {k: v.split(" | ") for k, v in read_table(here / "langid_sentences.txt").items()}
    told = [predict(net, sentences[code]) for code in LANGUAGES]
    right = sum(answer == k for k, answers in enumerate(told) for answer in answers)
    accuracy["sentences"] = round(right / sum(map(len, told)), 4)
    for k, code in enumerate(LANGUAGES):
        for text, answer in zip(sentences[code], told[k], strict=True):
            if answer != k:
                print(f"wrong: {text!r} is {names[k]}, told {names[answer]}")

    about = {"format": FORMAT, "alphabet": ALPHABET, "languages": names, "accuracy": accuracy}
    about |= {"steps": options.steps, "seed": options.seed}
    tensors = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    save_file(tensors, options.out, {"weft": json.dumps(about)})
    options.out.chmod(0o644)  # safetensors makes it private, a wheel would keep that
    size = options.out.stat().st_size
    print(f"\n{options.out}: {size} bytes, trained in {minutes:.1f} minutes of processor time")
    print("\n| text | accuracy |\n|---|---|")
    for words in ("1", "3", "5"):
        plural = "" if words == "1" else "s"
        print(f"| {words} held-out word{plural} | {100 * accuracy[words]:.1f} % |")
    print(f"| {sum(map(len, told))} everyday sentences | {100 * accuracy['sentences']:.1f} % |")
    print("\n| 3 held-out words of | right | most often taken for |\n|---|---|---|")
    for k, row in enumerate(confusion):
        rival = int(np.argmax(np.where(np.arange(len(row)) == k, -1, row)))
        print(f"| {names[k]} | {row[k] / row.sum():.1%} | {names[rival]} |")


if __name__ == "__main__":
    main()
