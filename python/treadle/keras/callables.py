"""This module finds treadle's activation for what a Keras layer calls as its activation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import torch

from treadle.keras.activations import FUNCTIONS
from treadle.keras.backend import Unable

if TYPE_CHECKING:
    from treadle.layers.activation import Activation

_KNOWN: dict[Any, Activation] = {
    getattr(keras.activations, name): activation
    for name, activation in FUNCTIONS.items()
    if hasattr(keras.activations, name)
}
for _name in ("tanh", "sigmoid", "relu"):
    _KNOWN |= {getattr(module, _name): _name for module in (keras.ops, torch)}


def activation_of(value: Any) -> Activation:
    """Return the activation of a function of keras.activations, or of a layer that is one.

    Raises Unable for any other callable, which treadle cannot look into.

    >>> activation_of(keras.activations.relu6)
    ('clip', 0.0, 6.0)
    """
    if value is None:
        return "linear"
    try:
        known = _KNOWN.get(value)
    except TypeError:  # it has no hash
        known = None
    if known is not None:
        return known
    if type(value) is keras.layers.Activation:
        return activation_of(value.activation)
    if type(value) is keras.layers.LeakyReLU:
        return "leaky_relu", float(value.negative_slope)
    if type(value) is keras.layers.ELU:
        return "elu", float(value.alpha)
    name = getattr(value, "__name__", type(value).__name__)
    raise Unable(f"its activation {name} is none that treadle has")
