"""In this way a worker runs the file that Keras has saved, by treadle.keras.load, without Keras."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import treadle.keras

from ...core.dtypes import Array
from .data import KerasInputs, Order


def build(order: Order) -> Any:
    """Load the file of an order."""
    model = treadle.keras.load(order.path)
    found = {"keras", "torch", "jax", "tensorflow"} & set(sys.modules)
    if found:
        raise RuntimeError(f"{', '.join(sorted(found))} is imported, expected none of them")
    return (_Stream if order.case.T == 1 else _Call)(model, order.inputs)


class _Call:
    """A call with one sample."""

    def __init__(self, model: Any, inputs: KerasInputs) -> None:
        self.model, self.samples = model, inputs.x
        self.one = inputs.x[:1].copy()

    def restore(self) -> None:
        """Do nothing: a call begins with nothing."""

    def call(self) -> Any:
        """Make the call."""
        return self.model(self.one)

    def answer(self) -> list[Array]:
        """Return the results for each sample alone."""
        return [np.concatenate([self.model(row[None]) for row in self.samples])]


class _Stream:
    """A step of a stream."""

    def __init__(self, model: Any, inputs: KerasInputs) -> None:
        self.model = model
        self.steps = inputs.x[0][:, None, None]  # [T, 1, 1, I]
        self.first = self.steps[0].copy()
        self.restore()

    def restore(self) -> None:
        """Begin a new stream."""
        self.stream = self.model.stream(1)

    def call(self) -> Any:
        """Make a step."""
        return self.stream.step(self.first)

    def answer(self) -> list[Array]:
        """Return the results after each step of one sample."""
        self.restore()
        return [np.stack([np.array(self.stream.step(x)) for x in self.steps])]
