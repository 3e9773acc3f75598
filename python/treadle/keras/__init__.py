"""Keras as a guest: its layers run on treadle's kernels, and its files become treadle's models.

loading        `load`: a file becomes a model, without Keras
files          a file of Keras as a description: what is in it, checked
building       the layers of a description as nodes of a graph
models         `accelerate` and `restore` for models of Keras
layers         subclasses of Keras' layers that run on treadle's kernels
classes        their definitions, and the class that a layer gets by `accelerate`
recurrent      their loop over time
loop           a loop over the steps of one cell
bidirectional  both directions in one loop
attention      attention between Keras' projections
cells          what a cell of Keras is to treadle
callables      what its activations are
low_precision  inference in bfloat16 and int8
quantize       `quantize` of a layer, by which it infers in int8
cell_weights   the weights of cells in treadle's order: turned where they are learned, or packed
gates          Keras' order of gates
activations    the activations that Keras' layers and treadle's have
obstacles      why treadle cannot run a layer
backend        on which backend Keras has to run

Reading needs neither Keras nor h5py. Nothing else in the package imports Keras, and this does so
only where it is used.
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
