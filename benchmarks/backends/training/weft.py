"""weft itself: weft.torch's modules, which take `lengths` as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import weft.torch

from ...data import Array, Weights
from ...training.cases import TrainingCase
from .. import Prepared
from ..torch import module_of
from . import autograd


def variants(case: TrainingCase, threads: int) -> tuple[str, ...]:
    """One way only: what a user would write."""
    return ("weft.torch",)


def release() -> None:
    """Nothing outlives what `prepare` returned."""


def prepare(
    case: TrainingCase, weights: list[Weights], x: Array, dy: Array, threads: int, variant: str
) -> Prepared:
    """A module of weft.torch."""
    lengths = np.array(case.lengths, np.int64) if case.lengths else None

    def forward(module: Any, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = module(x, lengths=lengths)[0]
        return y

    return autograd.prepare(lambda: module_of(case, weights, weft.torch), x, dy, forward)
