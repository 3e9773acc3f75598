"""This module has the classes in which a file of Keras is described, whichever Keras wrote it.

A description has plain values only: strings, numbers, lists, dictionaries and arrays. Everything in
it was checked when the file was read: the layers are known ones, their options have the types and
ranges that Keras gives them, and the arrays have the shapes that the options ask for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

# A tree of lists and dictionaries, whose leaves are References and constants of JSON.
Nested: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class Reference:
    """This names one tensor: output number ``output`` of call number ``call`` of layer ``layer``.

    Layers are named within the model whose calls use the reference.
    """

    layer: str
    call: int = 0
    output: int = 0


@dataclass(frozen=True, slots=True)
class Layer:
    """This is a layer with its options and its weights.

    ``kind`` is the name of Keras' class, "LSTM"; that of an operation which `x + y` or `x[:, -1]`
    put into a functional model begins with "ops.": "ops.Add", "ops.GetItem".

    ``config`` has every option that changes results, under the name it has in Keras 3 and with the
    default filled in where the file lacks it, and "trainable"; initializers, regularizers and
    constraints are left out. An activation is the name of Keras' function, "linear" for none, and
    None where it is a layer with options of its own, which is then ``parts["activation"]``.

    ``parts`` has inner layers: "layer" of TimeDistributed, "forward" and "backward" of
    Bidirectional, "cell0", "cell1", ... of RNN (one for a single cell), "activation".

    ``model`` is the model that a layer of kind "Sequential" or "Functional" stands for.

    ``weights`` has float32 arrays in Keras' layout under the names of Keras' variables: kernel,
    recurrent_kernel, bias, gamma, ...; those of a MultiHeadAttention are named after their
    projections, "query/kernel". The weights of a part are in the part.
    """

    kind: str
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Layer] = field(default_factory=dict)
    model: ModelDescription | None = None
    weights: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """This is one call of a layer: a layer that is shared among inputs has several.

    ``args`` is a list with one entry for each positional argument, ``kwargs`` has the named ones
    (mask, initial_state, ...) that are not None; ``training`` is left out. Their leaves are
    References and constants: those of JSON, slices, Ellipsis, and arrays of float32 or int64. The
    states that Keras 2 gives a recurrent layer behind its input are ``initial_state`` here.
    """

    layer: str
    index: int
    args: list[Nested]
    kwargs: dict[str, Nested] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """This is a model: its layers, and their calls in an order in which they can run.

    ``kind`` is "Sequential" or "Functional"; both are described alike. Layers of kind "InputLayer"
    are among ``layers`` and have no calls: their only output is Reference(name). ``inputs`` and
    ``outputs`` are the tensors in Keras' order, ``input_names`` and ``output_names`` their names
    (the keys, where a model takes or gives a dictionary; else those of the layers).
    ``output_structure`` holds the same outputs nested as the model gives them: a Reference, a list
    or a dictionary; ``input_structure`` likewise.
    ``input_shapes`` has a shape for each input, with None for a size that may be any; it is None
    where the file says none.

    ``keras_version`` is the version that wrote the file ("2.15.0"), "" where it is unknown.
    """

    kind: str
    name: str
    layers: tuple[Layer, ...]
    calls: tuple[Call, ...]
    inputs: tuple[Reference, ...]
    outputs: tuple[Reference, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    input_structure: Nested
    output_structure: Nested
    input_shapes: tuple[tuple[int | None, ...] | None, ...] = ()
    keras_version: str = ""

    def layer(self, name: str) -> Layer:
        """Return the layer with this name. Raises KeyError."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)


def references(nested: Nested) -> Iterator[Reference]:
    """Yield the References in a tree, in their order."""
    if isinstance(nested, Reference):
        yield nested
    elif isinstance(nested, dict):
        for value in nested.values():
            yield from references(value)
    elif isinstance(nested, list | tuple):
        for value in nested:
            yield from references(value)
