"""This module has Keras' activations that treadle's recurrent layers have, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from treadle.layers.activation import Activation

FUNCTIONS: dict[str, Activation] = {
    "linear": "linear",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "relu": "relu",
    "relu6": ("clip", 0.0, 6.0),
    "leaky_relu": ("leaky_relu", 0.2),
    "elu": "elu",
    "celu": "elu",
    "softplus": "softplus",
    "softsign": "softsign",
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "hard_sigmoid": "hard_sigmoid",
    "sparse_sigmoid": ("hard_sigmoid", 0.5, 0.5),
    "hard_silu": "hard_swish",
    "hard_swish": "hard_swish",
    "hard_tanh": ("clip", -1.0, 1.0),
}
"""The functions of keras.activations in Keras 3, with their default parameters."""
