"""treadle itself: treadle.torch's modules, which take `lengths` as they are, and its attention."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

import treadle.torch

from ...data import Array
from ...training.cases import AttentionTrainingCase
from ...training.limits import AnyCase
from .. import Prepared
from ..torch import module_of
from . import autograd


def variants(case: AnyCase, threads: int) -> tuple[str, ...]:
    """One way only: what a user would write."""
    return ("treadle.torch",)


def release() -> None:
    """Nothing outlives what `prepare` returned."""


def prepare(case: AnyCase, inputs: Any, dy: Array, threads: int, variant: str) -> Prepared:
    """A module or a function of treadle.torch."""
    if isinstance(case, AttentionTrainingCase):
        function = treadle.torch.scaled_dot_product_attention
        attend = functools.partial(function, is_causal=case.causal)
        return autograd.prepare_attention(attend, inputs, dy)
    weights, x = inputs
    lengths = np.array(case.lengths, np.int64) if case.lengths else None

    def forward(module: Any, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = module(x, lengths=lengths)[0]
        return y

    return autograd.prepare_module(lambda: module_of(case, weights, treadle.torch), x, dy, forward)
