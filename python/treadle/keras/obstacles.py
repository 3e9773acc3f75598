"""This module says, before any call, why treadle cannot run a layer of Keras."""

from __future__ import annotations

from typing import Any

import keras

from treadle.keras import cells
from treadle.keras.backend import Unable
from treadle.layers.attention import MAX_HEAD_SIZE


def check(layer: Any) -> None:
    """Raise Unable, with a reason, for a layer that would run Keras' own code in every call."""
    if layer.compute_dtype == "float64":
        raise Unable("it computes in float64")
    if isinstance(layer, keras.layers.RNN):
        for cell in cells.inner_cells(layer.cell):
            cells.check(cell)
    if isinstance(layer, keras.layers.MultiHeadAttention) and layer._key_dim > MAX_HEAD_SIZE:
        raise Unable(f"a head has more than {MAX_HEAD_SIZE} floats")
