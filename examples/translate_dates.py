"""Translate dates in words into ISO's form: sequence to sequence with attention, in a minute.

    pip install ".[torch]" tqdm
    python examples/translate_dates.py            # --quick: a few steps, to see that it runs

"thursday the third of may nineteen seventy nine" becomes "1979-05-03". A GRU reads the letters in
both directions; another writes the digits, and before each it looks at the letters that matter
(Bahdanau et al., arXiv:1409.0473). PyTorch trains the pair through `treadle.torch.Seq2Seq`, then
treadle alone translates dates that were not among those of the training, and shows as text where
it looked.
"""

from __future__ import annotations

import argparse
import datetime
import time
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import torch
from show_training import Live

import treadle
import treadle.torch

if TYPE_CHECKING:
    from collections.abc import Sequence

MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
NTH = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth"}
NTH |= {"nine": "ninth", "twelve": "twelfth"}
LETTERS = ["", *"abcdefghijklmnopqrstuvwxyz0123456789 ,.'"]  # 0 is no letter
DIGITS = ["<pad>", "<start>", "<end>", *"0123456789-"]
PAD, START, END = range(3)
FIRST, LAST = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)
SHADES = " .:-=+*#%@"


def number(n: int) -> str:
    """Say a number below 100."""
    if n < 20:
        return ONES[n]
    return TENS[n // 10] + (f" {ONES[n % 10]}" if n % 10 else "")


def nth(n: int) -> str:
    """Say the n-th."""
    first, _, last = number(n).rpartition(" ")
    last = NTH.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")
    return f"{first} {last}".strip()


def year(n: int) -> str:
    """Say a year."""
    if n // 100 == 20 and n % 100 < 10:
        return "two thousand" + (f" and {number(n % 100)}" if n % 100 else "")
    rest = n % 100
    return f"{number(n // 100)} " + (
        "hundred" if not rest else f"oh {number(rest)}" if rest < 10 else number(rest)
    )


def said(date: datetime.date, rng: np.random.Generator) -> str:
    """Say a date in one of many ways."""
    day, month = date.day, MONTHS[date.month - 1]
    end = "th" if 10 < day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    written = [nth(day), f"{day}{end}", str(day)][rng.integers(3)]
    when = [year(date.year), str(date.year)][rng.integers(2)]
    if rng.integers(4) == 0:
        month = month[:3]
    text = [
        f"{written} of {month} {when}",
        f"{month} {written}, {when}",
        f"{written} {month} {when}",
    ]
    chosen = text[rng.integers(3)]
    if rng.integers(3) == 0:
        chosen = f"{DAYS[date.weekday()]} {'the ' * int(chosen[0] != month[0])}{chosen}"
    return chosen


def dates(seed: int, count: int) -> tuple[list[str], list[str]]:
    """Draw dates: (in words, in ISO's form). Even seeds have days that odd seeds do not have."""
    rng = np.random.default_rng(seed)
    days = rng.integers(0, (LAST - FIRST).days // 2, count) * 2 + seed % 2
    found = [FIRST + datetime.timedelta(int(day)) for day in days]
    return [said(date, rng) for date in found], [date.isoformat() for date in found]


def letters(texts: Sequence[str]) -> tuple[np.ndarray, list[int]]:
    """Return the numbers of letters [B, S], zeros behind the end, and the lengths."""
    lengths = [len(text) for text in texts]
    x = np.zeros((len(texts), max(lengths)), np.int64)
    for row, text in zip(x, texts, strict=True):
        row[: len(text)] = [LETTERS.index(letter) for letter in text]
    return x, lengths


def digits(texts: Sequence[str]) -> np.ndarray:
    """Return [B, T]: the start, the digits, the end."""
    return np.array([[START, *(DIGITS.index(letter) for letter in text), END] for text in texts])


def model(hidden: int = 64) -> treadle.torch.Seq2Seq:
    """Return an encoder of both directions and a decoder that takes the context with each digit."""
    encoder = torch.nn.Sequential(
        torch.nn.Embedding(len(LETTERS), 32),
        torch.nn.GRU(32, hidden, bidirectional=True, batch_first=True),
    )
    decoder = torch.nn.Sequential(
        torch.nn.Embedding(len(DIGITS), 16),
        torch.nn.GRU(16 + 2 * hidden, hidden, batch_first=True),
        torch.nn.Linear(hidden + 2 * hidden, len(DIGITS)),
    )
    options = {"decoder_start_token_id": START, "eos_token_id": END, "pad_token_id": PAD}
    return treadle.torch.Seq2Seq(
        encoder, decoder, "additive", bridge=True, generation={**options, "max_new_tokens": 12}
    )


def train(net: torch.nn.Module, steps: int, batch: int = 64) -> float:
    """Train by teacher forcing; return the loss of the last steps."""
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    losses = []
    with closing(Live(steps, "step")) as live:
        for step in range(steps):
            texts, answers = dates(seed=2 * step + 1, count=batch)
            x, lengths = letters(texts)
            y = torch.tensor(digits(answers))
            logits = net(torch.tensor(x), y[:, :-1], lengths=lengths)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            live.update(f"loss {losses[-1]:.4f}")
    return float(np.mean(losses[-20:]))


def translate(net: treadle.Seq2Seq, texts: Sequence[str], **options: object) -> list[str]:
    """Return the dates that treadle writes."""
    x, lengths = letters(texts)
    found = net.generate(x, lengths=lengths, **options)
    return ["".join(DIGITS[token] for token in row if token > END) for row in found]


def show(net: treadle.Seq2Seq, text: str) -> None:
    """Print the digits of a date, and beside each how much it looked at each letter."""
    x, lengths = letters([text])
    tokens = net.generate(x, lengths=lengths)
    _, looks = net(x, tokens[:, :-1], lengths=lengths, output_attentions=True)
    print(f"\n    {text}")
    for token, look in zip(tokens[0, 1:], looks[0], strict=True):
        if token == END:
            break
        shades = (look * (len(SHADES) - 1)).round().astype(int)
        print(f"  {DIGITS[token]} {''.join(SHADES[shade] for shade in shades)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--quick", action="store_true", help="20 steps: it learns nothing much")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    start = time.perf_counter()
    trained = model()
    loss = train(trained, 20 if options.quick else options.steps)
    print(f"loss {loss:.5f} after {time.perf_counter() - start:.0f} s of training")

    net = treadle.from_torch(trained)  # from here on PyTorch plays no part
    texts, answers = dates(seed=0, count=100 if options.quick else 1000)
    for name, choice in {"float32": net, "int8": net.to("int8")}.items():
        found = translate(choice, texts)
        right = sum(a == b for a, b in zip(found, answers, strict=True))
        print(f"{right / len(texts):.1%} of {len(texts)} new dates exact, in {name}")
    for text in texts[:2]:
        show(net, text)


if __name__ == "__main__":
    main()
