"""This module finds the native layer for the weights of Keras' cells as they are now.

Keras' variables stay where they are. A call that learns turns them into treadle's order by
operators of PyTorch, so that gradients come back in Keras' order; any other call compares their
bits with those that were packed last, and turns them only if they have changed.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from treadle import _core
from treadle._storage.formats import encode
from treadle.keras.gates import turned
from treadle.torch.tensors import shared_array
from treadle.torch.weight_cache import (
    PlacedWeights,
    UnpackedLayer,
    WeightCache,
    reads_weights,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from treadle._inputs.types import Float
    from treadle.torch.tensors import TensorLike
    from treadle.torch.weight_cache import NativeLayer, RecurrentLayer

    Weights: TypeAlias = tuple[TensorLike, TensorLike, TensorLike | None]
    """(kernel, recurrent_kernel, bias or None) of one direction, in float32."""


def in_treadles_order(layer: RecurrentLayer, weights: Sequence[Weights]) -> tuple[TensorLike, ...]:
    """Return tensors for the names of `RecurrentLayer.names`, one direction after the other."""
    tensors: list[TensorLike] = []
    for own in weights:
        ih, hh, bias_ih, bias_hh = turned(layer.mode, own, torch.cat)
        tensors += [ih.contiguous(), hh.contiguous()]
        if bias_ih is not None:
            tensors += [bias_ih, torch.zeros(bias_ih.shape) if bias_hh is None else bias_hh]
    return tuple(tensors)


class _Packed(NamedTuple):
    """A native layer, and what it was packed from."""

    layer: RecurrentLayer
    values: list[Float]
    """Copies of the arrays in Keras' order."""
    found: UnpackedLayer


class CellWeights:
    """The packed layers of one cell, or of the two cells of both directions."""

    def __init__(self) -> None:
        self._learning = WeightCache()
        self._packed: dict[str, _Packed] = {}

    def learning(
        self, layer: RecurrentLayer, tensors: tuple[TensorLike, ...], rows: int
    ) -> tuple[NativeLayer, PlacedWeights]:
        """Return the native layer of tensors in treadle's order, for a call of so many rows."""
        weights = PlacedWeights(layer, tensors)
        if reads_weights(rows, True) and not layer.has_to_pack:
            return weights.unpacked(layer), weights
        return self._learning.get(None, layer, weights), weights

    def packed(
        self, layer: RecurrentLayer, weights: Sequence[Weights], dtype: str = "float32"
    ) -> UnpackedLayer:
        """Return the native layer of the present weights in a dtype, for calls without autograd."""
        arrays: list[Float] = [
            shared_array(tensor.contiguous())
            for own in weights
            for tensor in own
            if tensor is not None
        ]
        last = self._packed.get(dtype)
        if last is not None and last.layer == layer and _core.same_bits(arrays, last.values):
            return last.found
        # The copies are packed, not the weights, which another thread may write to meanwhile.
        values = [array.copy() for array in arrays]
        count = len(values) // layer.directions
        named = [_named(layer, values[d * count :][:count], dtype) for d in range(layer.directions)]
        native = layer.spec._replace(dtype=dtype).pack(layer.function, named)
        found = UnpackedLayer(layer, native)
        self._packed[dtype] = _Packed(layer, values, found)
        return found


def _named(layer: RecurrentLayer, values: Sequence[Float], dtype: str) -> dict[str, Any]:
    """Return the arrays of one direction by treadle's names, its matrices in a dtype."""
    kernel, recurrent, bias = (*values, None)[:3]
    arrays = turned(layer.mode, (kernel, recurrent, bias), np.concatenate)
    dense = [None if array is None else np.ascontiguousarray(array) for array in arrays]
    return {
        name: encode(array, dtype) if array is not None and array.ndim == 2 else array
        for name, array in zip(layer.names, dense, strict=False)
    }


_OF_CELLS: weakref.WeakKeyDictionary[Any, CellWeights] = weakref.WeakKeyDictionary()


def kept_for(owner: object) -> CellWeights:
    """Return what is kept for a cell or a layer, which its copies and files do not contain."""
    found = _OF_CELLS.get(owner)
    # Where threads come first at the same time, one decides what all of them get.
    return _OF_CELLS.setdefault(owner, CellWeights()) if found is None else found
