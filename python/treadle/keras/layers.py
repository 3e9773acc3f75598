"""Keras' layers on treadle's kernels: subclasses with Keras' constructors and weights.

Keras has to run on PyTorch (KERAS_BACKEND=torch). A model that is made of these layers is saved as
a model of Keras' own, and loads where there is no treadle.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from treadle.keras.backend import require_torch

_NAMES = ("GRU", "LSTM", "RNN", "Bidirectional", "MultiHeadAttention", "SimpleRNN")

__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_torch(f"treadle.keras.layers.{name}")
    return getattr(import_module("treadle.keras.classes"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
