"""This module describes a cell of Keras as a layer of treadle, and says why it cannot be one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from treadle.keras.backend import Unable
from treadle.keras.callables import activation_of
from treadle.torch.weight_cache import RecurrentLayer

if TYPE_CHECKING:
    from treadle.layers.activation import Activation
    from treadle.torch.tensors import TensorLike

CELLS: dict[type, str] = {
    keras.layers.SimpleRNNCell: "rnn",
    keras.layers.LSTMCell: "lstm",
    keras.layers.GRUCell: "gru",
}
"""Keras' own cells, with treadle's modes."""


def inner_cells(cell: Any) -> list[Any]:
    """Return the cells that a layer's cell goes through in each step."""
    return list(cell.cells) if type(cell) is keras.layers.StackedRNNCells else [cell]


def check(cell: Any) -> tuple[str, Activation, Activation]:
    """Return (mode, activation, recurrent_activation) of a cell, which need not be built yet.

    Raises Unable for a cell or an activation that treadle does not have.
    """
    mode = CELLS.get(type(cell))
    if mode is None:
        raise Unable(f"its cell {type(cell).__name__} is none of Keras' own")
    gates = "sigmoid" if mode == "rnn" else activation_of(cell.recurrent_activation)
    return mode, activation_of(cell.activation), gates


def described(function: str, cell: Any, directions: int = 1) -> RecurrentLayer:
    """Return the layer that a cell is, in one direction or two. Raises Unable as `check` does."""
    mode, activation, gates = check(cell)
    bias, reset_after = cell.bias is not None, mode != "gru" or cell.reset_after
    sizes = cell.kernel.shape[0], cell.units, 0
    return RecurrentLayer(function, mode, *sizes, bias, directions, activation, gates, reset_after)


def dropped_out(cell: Any, x: TensorLike, training: bool) -> TensorLike:
    """Return the input of a cell [B, T, I] with the dropout that the cell has drawn for a call.

    Raises Unable, with a reason, where Keras draws more than one mask, or none.
    """
    if not training:
        return x
    if cell.recurrent_dropout:
        raise Unable("it trains with recurrent_dropout, which gives each gate its own state")
    if not cell.dropout:
        return x
    if cell.dropout == 1 or getattr(cell, "dropout_mask_count", None) is not None:
        raise Unable("it trains with a dropout of 1, or one for each gate (implementation=1)")
    mask: TensorLike = cell.get_dropout_mask(x[:, 0, :])
    return x * mask.unsqueeze(1)


def weights_of(cell: Any) -> tuple[TensorLike, TensorLike, TensorLike | None]:
    """Return (kernel, recurrent_kernel, bias or None) of a cell, as Keras' policy casts them."""
    bias = cell.bias
    return cell.kernel.value, cell.recurrent_kernel.value, None if bias is None else bias.value
