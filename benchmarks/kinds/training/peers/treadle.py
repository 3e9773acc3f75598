"""treadle itself runs treadle.torch's modules, which take `lengths`, and its attention."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

import treadle.torch

from ....core.kind import Prepared
from ....core.models.recurrent.torch import module_of
from ..cases import AnyCase, AttentionTrainingCase, TrainingInputs
from ..reference import Gradients
from . import autograd


def variants(case: AnyCase, threads: int) -> tuple[str, ...]:
    """Return the only way, which is what a user would write."""
    return ("treadle.torch",)


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def prepare(
    case: AnyCase, inputs: TrainingInputs, threads: int, variant: str
) -> Prepared[Gradients]:
    """Return a call of a module or a function of treadle.torch."""
    given, dy = inputs
    if isinstance(case, AttentionTrainingCase):
        function = treadle.torch.scaled_dot_product_attention
        attend = functools.partial(function, is_causal=case.causal)
        return autograd.prepare_attention(attend, given, dy)
    weights, x = given
    lengths = np.array(case.lengths, np.int64) if case.lengths else None

    def forward(module: Any, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = module(x, lengths=lengths)[0]
        return y

    return autograd.prepare_module(lambda: module_of(case, weights, treadle.torch), x, dy, forward)
