"""This module draws what a program learns from, and the weights that it begins with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.dtypes import Array
from .cases import EMBEDDING, WORDS, KerasCase

SAMPLES = 8  # that are checked where a call is of one sample
LENGTH = 100  # steps of a sample, also where a call takes one of them


@dataclass(frozen=True)
class KerasInputs:
    """The samples x [N, T, I] or words [N, T], the answers y [N, 1], and the weights."""

    x: Array
    y: Array
    weights: list[Array]


@dataclass(frozen=True)
class Order:
    """An order tells a worker which program to build."""

    case: KerasCase
    inputs: KerasInputs
    variant: str = ""
    floatx: str = "float32"  # of Keras
    path: str = ""  # of the file in which Keras has saved the model


def arguments(case: KerasCase) -> KerasInputs:
    """Return a sum of two sines with noise, cut into windows, whose next value is to be said.

    Of words, the share of the first half of all words is to be said. Rows are padded at their ends
    to the lengths of the case, which are the same in each batch.
    """
    rng = np.random.default_rng(17)
    count = case.B * case.steps if case.steps > 1 else SAMPLES
    steps = case.T if case.T > 1 else LENGTH
    if case.mask == EMBEDDING:
        x: Array = rng.integers(1, WORDS, (count, steps)).astype(np.int32)
    else:
        t = np.arange(count + steps)
        series = np.sin(t / 8) + 0.5 * np.sin(t / 3) + 0.1 * rng.standard_normal(t.size)
        x = np.lib.stride_tricks.sliding_window_view(series, steps)[:count, :, None]
        x = np.repeat(x, case.I, 2).astype(np.float32)
        y = series[steps:, None]
    for row, length in enumerate(case.lengths * case.steps):
        x[row, length:] = 0
    if case.mask == EMBEDDING:
        y = ((x > 0) & (x < WORDS // 2)).sum(1, keepdims=True) / (x > 0).sum(1, keepdims=True)
    return KerasInputs(x, y.astype(np.float32), [_drawn(rng, shape) for shape in case.shapes])


def _drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return weights as Keras draws them (Glorot's), and small biases."""
    bound = (6 / sum(shape)) ** 0.5 if len(shape) > 1 and shape[0] != 2 else 0.05
    return rng.uniform(-bound, bound, shape).astype(np.float32)
