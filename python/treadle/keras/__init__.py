"""Keras as a guest: its layers run on treadle's kernels, and its files become treadle's models.

read          a file of Keras as a description: what is in it, checked, without Keras
description   the classes of such a description
loading       `load`: the description becomes a model
models        `accelerate` and `restore` for models of Keras
layers        subclasses of Keras' layers that run on treadle's kernels

Reading needs h5py and not Keras. Nothing else in the package imports Keras, and this does so only
where it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULES = {  # of the names that need no Keras
    "load": "loading",
}
_KERAS_MODULES = {  # of those that do
    "Report": "models",
    "accelerate": "models",
    "restore": "models",
    "layers": "layers",
}

__all__ = [
    "Report",
    "accelerate",
    "layers",
    "load",
    "restore",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"treadle.keras.{_MODULES[name]}"), name)
    if name not in _KERAS_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import_module("keras")
    except ImportError as error:
        raise ImportError(
            f"treadle.keras.{name}: Keras cannot be imported ({error}); pip install treadle[keras]"
        ) from error
    module = import_module(f"treadle.keras.{_KERAS_MODULES[name]}")
    return module if name == "layers" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
