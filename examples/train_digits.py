"""Read handwritten digits row by row: a GRU trained on treadle's kernels, in seconds.

    pip install ".[torch,plot]" scikit-learn tqdm
    python examples/train_digits.py            # --torch: the same on PyTorch's own module
                                               # --plot loss.png: the loss as a picture

scikit-learn's 1797 digits are 8 x 8 pixels: a sequence of eight rows, eight numbers each. The state
after the last row goes to a linear layer. Seeds are fixed; one digit in five is held out.
"""

from __future__ import annotations

import argparse
import time
from contextlib import closing

import numpy as np
import torch
from show_training import Live, draw, picture
from sklearn.datasets import load_digits

import treadle
import treadle.torch


def load() -> tuple[torch.Tensor, ...]:
    """(x, labels) to train with and (x, labels) held out; x [rows, 8, 8] in 0..1."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = torch.tensor(digits.images[order] / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target[order])
    held = len(labels) // 5
    return x[held:], labels[held:], x[:held], labels[:held]


class Reader(torch.nn.Module):
    def __init__(self, hidden: int = 96) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(8, hidden, batch_first=True)
        self.head = torch.nn.Linear(hidden, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x)[1][0])


def accuracy(model: torch.nn.Module, x: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.inference_mode():
        return float((model(x).argmax(1) == labels).float().mean())


def train(
    model: torch.nn.Module,
    x: torch.Tensor,
    labels: torch.Tensor,
    epochs: int,
    part: slice = slice(None),
) -> list[float]:
    """Returns each epoch's mean loss. ``part``: that of each batch which this process takes."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    losses = []
    with closing(Live(epochs, "epoch", show=not part.start)) as live:
        for _ in range(epochs):
            total, seen = 0.0, 0
            for batch in torch.randperm(len(x)).split(64):  # the same order in every process
                rows = batch[part]
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(model(x[rows]), labels[rows])
                loss.backward()
                optimizer.step()
                total += loss.item() * len(rows)
                seen += len(rows)
            schedule.step()
            losses.append(total / seen)
            live.update(f"loss {losses[-1]:.4f}")
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torch", action="store_true", help="train on PyTorch's own GRU")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--plot", type=picture, help="a file for the picture of the loss")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    treadle.set_num_threads(1)
    x, labels, held_x, held_labels = load()
    model = Reader()
    if not options.torch:
        print(treadle.torch.accelerate(model))
    start = time.perf_counter()
    losses = train(model, x, labels, options.epochs)
    seconds = time.perf_counter() - start
    found = accuracy(model, held_x, held_labels)
    print(f"loss {losses[-1]:.5f}, {found:.1%} of {len(held_x)} digits held out, {seconds:.1f} s")
    if options.plot:
        curves = {"torch" if options.torch else "treadle": losses}
        draw(options.plot, "Handwritten digits", "epoch", curves)


if __name__ == "__main__":
    main()
