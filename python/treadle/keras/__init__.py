"""Keras as a guest: its layers run on treadle's kernels, and its files become treadle's models.

read          a file of Keras as a description: what is in it, checked, without Keras
description   the classes of such a description
archive       the ZIP archive of a .keras file
hdf5          an HDF5 file: its groups, texts and arrays
hdf5_image, hdf5_headers, hdf5_links, hdf5_attributes, hdf5_types, hdf5_dataset
              the parts of the format, from bytes up to arrays
config, graph  the layers of a configuration, and which is called with what
kinds, options, origin  what layers there are, what options they have, and where they come from
variables, weights  the variables of a layer, and where files have them
loading       `load`: the description becomes a model
models        `accelerate` and `restore` for models of Keras
layers, classes  subclasses of Keras' layers that run on treadle's kernels
recurrent     their loop over time
loop          a loop over the steps of one cell
bidirectional  both directions in one loop
attention     attention between Keras' projections
cells, callables  what a cell of Keras and its activations are to treadle
low_precision, quantize  inference in bfloat16 and int8
cell_weights  the weights of cells in treadle's order: turned where they are learned, or packed
gates         Keras' order of gates
activations   the activations that Keras' layers and treadle's have
obstacles, backend  why treadle cannot run a layer, and on which backend Keras has to

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
