"""This module runs the loop over time of one of Keras' cells on treadle's kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from treadle.keras import cell_weights
from treadle.keras.backend import Unable
from treadle.keras.low_precision import without_backward
from treadle.torch import autograd, ops
from treadle.torch.fallback import obstacle, watched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle.keras.cell_weights import Weights
    from treadle.torch.tensors import TensorLike
    from treadle.torch.weight_cache import RecurrentLayer

_NARROW = (torch.float16, torch.bfloat16)


class Steps(NamedTuple):
    """The results of a loop in the order in which the steps were taken."""

    y: TensorLike
    """[B, T, D*H]: a masked step repeats the output before it, zeros at first."""
    h: TensorLike
    """[D, B, H]"""
    c: TensorLike | None
    """[D, B, H], of an LSTM."""


def widened(tensor: Any) -> Any:
    """Return a tensor of a half precision, or of integers, in float32; others as they are."""
    if tensor is None or tensor.dtype is torch.float32:
        return tensor
    narrow = tensor.dtype in _NARROW or not tensor.is_floating_point()
    return tensor.to(torch.float32) if narrow else tensor


def mask_of(mask: Any, x: TensorLike) -> TensorLike | None:
    """Return a mask of Keras as bool [B, T]. Raises Unable, with a reason, for another shape.

    A mask that hides nothing is None, but where PyTorch records or watches what runs.
    """
    if isinstance(mask, (list, tuple)):
        mask = mask[0] if mask else None
    if mask is None:
        return None
    if len(mask.shape) == 3 and mask.shape[2] == 1:
        mask = mask.squeeze(2)
    if tuple(mask.shape) != tuple(x.shape[:2]):
        raise Unable(f"its mask is {list(mask.shape)}, for an input {list(x.shape)}")
    mask = mask.to(torch.bool)
    return mask if watched((x, mask)) or not bool(mask.all()) else None


def run(
    owner: object,
    layer: RecurrentLayer,
    weights: Sequence[Weights],
    arrays: tuple[TensorLike, Sequence[TensorLike], TensorLike | None],
    dtype: str = "float32",
) -> Steps:
    """Take all steps of a layer: y, h and c at the end.

    owner    the cell, or the layer, for which packed weights are kept
    weights  those of each direction, as Keras has them
    arrays   (x [B, T, I], the states [D, B, H] or none for zeros, mask bool [B, T] or None)
    dtype    that of the products; a call in another than float32 cannot be differentiated

    Raises Unable, with a reason, where the kernels cannot run on these tensors.
    """
    x, states, mask = arrays
    x, states = widened(x), [widened(state) for state in states]
    weights = [(widened(k), widened(r), widened(b)) for k, r, b in weights]
    tensors = [x, *states, *(t for own in weights for t in own if t is not None)]
    reason = obstacle(tensors)
    if reason is not None:
        raise Unable(reason)
    h, c = (*states, None, None)[:2]
    if watched(tuple(tensors)):
        if dtype != "float32":
            raise Unable(f"it is in {dtype}, and PyTorch records or watches what runs")
        own = cell_weights.in_treadles_order(layer, weights)
        return Steps(*ops.run_layer(layer, own, (h, c), x, (None, mask, True)))
    # The mask is copied, since a backward pass reads it again.
    rows = (None, None if mask is None else mask.contiguous().numpy().copy(), True)
    kept = cell_weights.kept_for(owner)
    learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if learns and dtype == "float32":
        own = cell_weights.in_treadles_order(layer, weights)
        found, placed = kept.learning(layer, own, x.shape[0] * x.shape[1])
        return Steps(*autograd.run_layer(found, placed, own, (h, c), x, rows))
    found = kept.packed(layer, weights, dtype)
    with torch.no_grad():
        y, h_n, c_n = autograd.run_layer(found, None, (), (h, c), x, rows)
    if learns:
        results = [y, h_n] if c_n is None else [y, h_n, c_n]
        y, h_n, *rest = without_backward(dtype, results, tensors)
        c_n = rest[0] if rest else None
    return Steps(y, h_n, c_n)
