"""Describe pictures: a convolutional encoder, and an LSTM that looks at places of the picture.

    pip install ".[torch]" tqdm
    python examples/caption_shapes.py            # --quick: a few steps, to see that it runs

"a red circle above a blue square": two shapes of four kinds and five colours, drawn at random
places with noise. Convolutions turn a picture into 36 places of 64 numbers each; before each word
the LSTM looks at the places (Show, Attend and Tell, Xu et al., arXiv:1502.03044). PyTorch trains
the pair through `treadle.torch.Seq2Seq`; treadle alone then captions new pictures, of which one in
five shows two shapes that never were together in the training.
"""

from __future__ import annotations

import argparse
import time
from contextlib import closing
from typing import NamedTuple

import numpy as np
import torch
from show_training import Live

import treadle
import treadle.torch

SIZE, REACH = 24, 4  # pixels of a picture's side, and of a shape from its middle
COLOURS = {
    "red": (1, 0, 0), "green": (0, 0.8, 0), "blue": (0.1, 0.1, 1), "yellow": (1, 0.9, 0),
    "white": (1, 1, 1),
}  # fmt: skip
SHAPES = ["circle", "square", "triangle", "cross"]
WORDS = ["<pad>", "<start>", "<end>", "a", "above", "left", "of", *COLOURS, *SHAPES]
PAD, START, END = range(3)
LENGTH = 10  # tokens of the longest caption, the start and the end among them
KINDS = [(colour, shape) for colour in COLOURS for shape in SHAPES]


class Pictures(NamedTuple):
    """Pictures, and what they show."""

    images: np.ndarray
    """float32 [B, 5, H, W]: red, green, blue, and how far right and how far down a pixel is."""
    captions: list[str]
    unseen: np.ndarray
    """bool [B]: whether the two shapes never are together in the training."""


def inside(shape: str, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Tell which pixels a shape covers; y and x count from its middle."""
    if shape == "circle":
        return y**2 + x**2 <= REACH**2
    if shape == "square":
        return np.maximum(abs(y), abs(x)) <= REACH - 0.5
    if shape == "triangle":
        return (abs(y) <= REACH) & (abs(x) <= (y + REACH) / 2)
    return (np.minimum(abs(y), abs(x)) <= 1) & (np.maximum(abs(y), abs(x)) <= REACH)


def held_out(first: int, second: int) -> bool:
    """Tell whether a pair of kinds is kept from the training: one pair in five."""
    return (3 * first + second) % 5 == 0


def draw(seed: int, count: int, training: bool = False) -> Pictures:
    """Draw pictures of two shapes each. The upper one is named first, or else the left one."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    images = np.empty((count, 5, SIZE, SIZE), np.float32)
    captions, unseen = [], np.zeros(count, bool)
    for row in range(count):
        while True:
            first, second = (int(kind) for kind in rng.integers(len(KINDS), size=2))
            if not (training and held_out(first, second)):
                break
        beside = bool(rng.integers(2))
        apart = rng.integers(2 * REACH + 2, SIZE - 2 * REACH - 1)
        start = rng.integers(REACH, SIZE - REACH - apart)
        # The shapes lie apart along one axis, and nearly level along the other.
        level = rng.integers(REACH + 1, SIZE - REACH - 1)
        levels = np.clip(level + rng.integers(-2, 3, 2), REACH, SIZE - REACH - 1)
        image = rng.normal(0, 0.06, (3, SIZE, SIZE)) + rng.uniform(0, 0.2)
        for kind, along, across in zip(
            (first, second), (start, start + apart), levels, strict=True
        ):
            colour, shape = KINDS[kind]
            middle = (across, along) if beside else (along, across)
            covered = inside(shape, y - middle[0], x - middle[1])
            tint = np.array(COLOURS[colour]) * rng.uniform(0.75, 1)
            image[:, covered] = tint[:, None] + rng.normal(0, 0.06, (3, int(covered.sum())))
        images[row] = np.stack([*image, x / SIZE, y / SIZE])
        names = [f"a {' '.join(KINDS[kind])}" for kind in (first, second)]
        captions.append(f" {'left of' if beside else 'above'} ".join(names))
        unseen[row] = held_out(first, second)
    return Pictures(images, captions, unseen)


def tokens(captions: list[str]) -> np.ndarray:
    """Return [B, T]: the start, the words, the end, padding."""
    rows = np.full((len(captions), LENGTH), PAD)
    for row, caption in zip(rows, captions, strict=True):
        words = [START, *(WORDS.index(word) for word in caption.split()), END]
        row[: len(words)] = words
    return rows


def model(hidden: int = 96, channels: int = 64) -> treadle.torch.Seq2Seq:
    """Return three convolutions, and an LSTM that takes a word and what it looked at."""
    nn = torch.nn
    encoder = nn.Sequential(
        nn.Conv2d(5, 32, 5, stride=2, padding=2),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, channels, 3, stride=2, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )
    decoder = nn.Sequential(
        nn.Embedding(len(WORDS), 32),
        nn.LSTM(32 + channels, hidden, batch_first=True),
        nn.Linear(hidden + channels, len(WORDS)),
    )
    options = {"decoder_start_token_id": START, "eos_token_id": END, "pad_token_id": PAD}
    return treadle.torch.Seq2Seq(
        encoder, decoder, "additive", bridge=True, generation={**options, "max_new_tokens": LENGTH}
    )


def train(net: torch.nn.Module, steps: int, batch: int = 64) -> float:
    """Train on new pictures in each step; return the loss of the last steps."""
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 5e-3, total_steps=steps, pct_start=0.2
    )
    losses = []
    with closing(Live(steps, "step")) as live:
        for step in range(steps):
            pictures = draw(step + 1, batch, training=True)
            y = torch.tensor(tokens(pictures.captions))
            logits = net(torch.from_numpy(pictures.images), y[:, :-1])
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), y[:, 1:].flatten(), ignore_index=PAD
            )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            live.update(f"loss {losses[-1]:.4f}")
    return float(np.mean(losses[-20:]))


def describe(net: treadle.Seq2Seq, images: np.ndarray, **options: object) -> list[str]:
    """Return the captions that treadle writes."""
    found = net.generate(images, **options)
    return [" ".join(WORDS[token] for token in row if token > END) for row in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="20 steps: it learns nothing much")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    start = time.perf_counter()
    trained = model()
    loss = train(trained, 20 if options.quick else options.steps)
    print(f"loss {loss:.4f} after {time.perf_counter() - start:.0f} s of training")

    net = treadle.from_torch(trained)  # from here on PyTorch plays no part
    pictures = draw(0, 100 if options.quick else 1000)
    found = describe(net, pictures.images)
    right = np.array([a == b for a, b in zip(found, pictures.captions, strict=True)])
    print(f"{right.mean():.1%} of {len(right)} new pictures have the right caption, word for word;")
    print(f"{right[pictures.unseen].mean():.1%} of the {pictures.unseen.sum()} with new pairs")
    for caption, expected in zip(found[:4], pictures.captions, strict=False):
        print(f"  {caption}{'' if caption == expected else f'   (it is {expected})'}")


if __name__ == "__main__":
    main()
