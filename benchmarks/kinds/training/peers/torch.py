"""PyTorch runs nn.LSTM, GRU and RNN in train mode and F.scaled_dot_product_attention, through
autograd.

Ragged batches: `packed` is pack_padded_sequence, run and pad_packed_sequence; `packed before`
starts from a PackedSequence, rows sorted by length, as a data loader may hand it over, and ends in
one: the loss looks at its data; `padded` runs every row to the end, with a loss that does not look
beyond the lengths, which gives the same gradients where there is one direction only. An nn.LSTM off
oneDNN was two to seven times slower (2.13); torch.compile does not take recurrent modules.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from ....core.dtypes import Array
from ....core.kind import Prepared
from ....core.models.recurrent.torch import module_of
from ..cases import AnyCase, AttentionTrainingCase, TrainingCase, TrainingInputs
from ..reference import Gradients
from . import autograd

PACKED = ("packed", "packed before")


def variants(case: AnyCase, threads: int) -> tuple[str, ...]:
    """Return the ways that give the right answer and might be fastest."""
    if isinstance(case, AttentionTrainingCase):
        return ("function",)
    if not case.lengths:
        return ("module",)
    return (*PACKED, "padded") if case.D == 1 else PACKED


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def prepare(
    case: AnyCase, inputs: TrainingInputs, threads: int, variant: str
) -> Prepared[Gradients]:
    """Make the call ready in one of the variants."""
    given, dy = inputs
    if isinstance(case, AttentionTrainingCase):
        attend = functools.partial(scaled_dot_product_attention, is_causal=case.causal)
        return autograd.prepare_attention(attend, given, dy)
    weights, x = given
    return prepare_net(case, lambda: module_of(case, weights), x, dy, variant)


def prepare_net(
    case: TrainingCase, make: Callable[[], Any], x: Array, dy: Array, variant: str
) -> Prepared[Gradients]:
    """Make one of the variants with any module that is called as PyTorch's are."""
    if variant == "packed":
        lengths = torch.tensor(case.lengths)

        def forward(module: Any, x: torch.Tensor) -> torch.Tensor:
            y, _ = module(pack_padded_sequence(x, lengths, enforce_sorted=False))
            return pad_packed_sequence(y, total_length=case.T)[0]

        return autograd.prepare_module(make, x, dy, forward)
    if variant == "packed before":
        return _packed_before(case, make, x, dy)
    return autograd.prepare_module(make, x, dy)


def _packed_before(
    case: TrainingCase, make: Callable[[], Any], x: Array, dy: Array
) -> Prepared[Gradients]:
    order = np.argsort(-np.array(case.lengths), kind="stable")
    lengths = torch.tensor(case.lengths)[order]

    def pack(values: Array) -> PackedSequence:
        return pack_padded_sequence(torch.from_numpy(values[:, order]), lengths)

    sizes = pack(x).batch_sizes

    def forward(module: Any, data: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = module(PackedSequence(data, sizes))[0].data
        return y

    call = autograd.prepare_module(make, pack(x).data.numpy(), pack(dy).data.numpy(), forward)

    def outputs(result: Any) -> Gradients:
        found = call.outputs(result)
        data = PackedSequence(torch.from_numpy(found["x"]), sizes)
        d_x = np.zeros_like(x)
        d_x[:, order] = pad_packed_sequence(data, total_length=case.T)[0]
        return found | {"x": d_x}

    return Prepared(call.run, outputs)
