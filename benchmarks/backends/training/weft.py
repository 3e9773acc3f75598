"""weft itself: weft.torch's modules, `lengths` as they are, and attention's two functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import weft.torch

from ...data import Array
from ...training.cases import AttentionTrainingCase
from ...training.limits import AnyCase
from .. import Prepared
from ..torch import module_of
from . import autograd


def variants(case: AnyCase, threads: int) -> tuple[str, ...]:
    """One way only: what a user would write."""
    return ("functional",) if isinstance(case, AttentionTrainingCase) else ("weft.torch",)


def release() -> None:
    """Nothing outlives what `prepare` returned."""


def prepare(case: AnyCase, inputs: Any, dy: Array, threads: int, variant: str) -> Prepared:
    """A module of weft.torch, or a forward and a backward pass of attention."""
    if isinstance(case, AttentionTrainingCase):
        return _attention(case, inputs, dy)
    weights, x = inputs
    lengths = np.array(case.lengths, np.int64) if case.lengths else None

    def forward(module: Any, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = module(x, lengths=lengths)[0]
        return y

    return autograd.prepare_module(lambda: module_of(case, weights, weft.torch), x, dy, forward)


def _attention(
    case: AttentionTrainingCase, inputs: tuple[Array, Array, Array], dy: Array
) -> Prepared:
    forward = weft.functional.scaled_dot_product_attention_forward
    backward = weft.functional.scaled_dot_product_attention_backward

    def run() -> dict[str, Array]:
        _, saved = forward(*inputs, is_causal=case.causal)
        return backward(saved, dy)

    return Prepared(run, lambda gradients: gradients)
