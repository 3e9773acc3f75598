"""This module finds the weights of a model's layers in an HDF5 file and checks their shapes.

Keras 3, and the `.keras` files of TensorFlow 2.12 and later, name groups after classes: the second
Dense of a model has the variables "layers/dense_1/vars/0", "1", ... The `.h5` files of Keras 2 have
a group for each layer, under its own name, with the names of its variables in order: those that are
trained before those that are not.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from treadle._storage.json import short
from treadle.keras.files.variables import NOT_TRAINED, check_shape, variables

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from treadle.keras.files.description import Layer, ModelDescription
    from treadle.keras.files.hdf5 import File
    from treadle.keras.files.variables import Shape, Variables

# Keras' attributes for the parts of layers, as they are called in paths.
_PARTS = {"forward": "forward_layer", "backward": "backward_layer"}
_OLD_ROOT = "_layer_checkpoint_dependencies"  # of TensorFlow 2.12 and 2.13, for "layers"
_RENAMED = {"depthwise_kernel": "kernel"}  # of DepthwiseConv in Keras 2


def with_weights(model: ModelDescription, file: File) -> ModelDescription:
    """Return a model with the weights of a file. Raises ValueError for any that do not fit."""
    for root in ("model_weights", ""):
        if file.texts(root, "layer_names") is not None:
            return _Old(file, root).model(model)
    if not file.has("layers") and not file.has(_OLD_ROOT):
        if not any(True for _ in _leaves(model)):
            return model
        raise ValueError(
            f"{file.where} has the groups {short(file.names(''))}, expected 'layers' as Keras 3 "
            "writes or 'model_weights' as Keras 2 does"
        )
    return _New(file).model(model, "")


def class_path(name: str) -> str:
    """Return a class's name as files have it: "GlobalMaxPooling1D" is global_max_pooling1d."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


class _New:
    """This finds variables by paths of classes and attributes.

    A layer that two models in a model share is in the file once: where the second would be, there
    is nothing, and the weights are those of the layer that has its name and options.
    """

    def __init__(self, file: File) -> None:
        self.file = file
        self.root = "layers" if file.has("layers") else _OLD_ROOT
        self.known: dict[tuple[str, str], Layer] = {}

    def model(self, model: ModelDescription, path: str) -> ModelDescription:
        """Return a model with the weights that are below a path."""
        used: dict[str, int] = {}
        layers = []
        for layer in model.layers:
            is_input = model.kind == "Sequential" and layer.kind == "InputLayer"
            if is_input or layer.kind.startswith("ops."):  # which are not among Keras' layers
                layers.append(layer)
                continue
            name = class_path(layer.kind)
            index = used.get(name, 0)
            # TensorFlow 2.12 and 2.13 count layers that have weights twice.
            twice = self.root == _OLD_ROOT and any(True for _ in _leaves(layer))
            used[name] = index + 1 + twice
            name = f"{name}_{index}" if index else name
            layers.append(self.layer(layer, f"{path}{self.root}/{name}"))
        return replace(model, layers=tuple(layers))

    def layer(self, layer: Layer, path: str) -> Layer:
        """Return a layer with its weights, those of its parts and those of a model in it."""
        if layer.model is not None:
            return replace(layer, model=self.model(layer.model, f"{path}/"))
        parts = {}
        cells = [name for name in layer.parts if name.startswith("cell")]
        used: dict[str, int] = {}
        for name, part in layer.parts.items():
            inner = _PARTS.get(name, name)
            if name in cells and len(cells) == 1:
                inner = "cell"
            elif name in cells:
                kind = class_path(part.kind)
                used[kind] = used.get(kind, -1) + 1
                inner = f"cell/cells/{kind}" + (f"_{used[kind]}" if used[kind] else "")
            parts[name] = self.layer(part, f"{path}/{inner}")
        weights: dict[str, np.ndarray] = {}
        letters: dict[str, int] = {}
        groups = variables(layer)
        known = self.known.get((layer.kind, layer.name))
        if known is not None and known.config == layer.config and not self.file.has(path):
            return replace(layer, parts=parts, weights=known.weights)
        for group in groups:
            weights |= self._variables(group, f"{path}/{group.path}".rstrip("/"), letters)
        found = replace(layer, parts=parts, weights=weights)
        self.known.setdefault((layer.kind, layer.name), found)
        return found

    def _variables(
        self, group: Variables, path: str, letters: dict[str, int]
    ) -> dict[str, np.ndarray]:
        place = f"{path}/vars"
        if not self.file.has(place) and self.file.has(_private(place)):
            place = _private(place)  # Keras 2 has them in attributes like _query_dense
        found = self.file.names(place)
        if sorted(found) != sorted(str(index) for index in range(len(group.shapes))):
            raise ValueError(
                f"{self.file.where}: {place} has {short(found)}, expected {len(group.shapes)} "
                f"variables: {', '.join(group.shapes)}"
            )
        return {
            name: _read(self.file, f"{place}/{index}", shape, letters)
            for index, (name, shape) in enumerate(group.shapes.items())
            if name != "count"
        }


def _private(path: str) -> str:
    """Return a path to the variables of an attribute whose name begins with "_"."""
    return re.sub(r"([^/]+)/vars$", r"_\1/vars", path)


class _Old:
    """This takes the variables of each layer in the order in which they are listed."""

    def __init__(self, file: File, root: str) -> None:
        self.file, self.root = file, f"{root}/" if root else ""

    def model(self, model: ModelDescription) -> ModelDescription:
        """Return a model with its weights."""
        names = self.file.texts(self.root, "layer_names") or []
        if len(set(names)) != len(names):
            raise ValueError(f"{self.file.where}: layer_names has a name twice")
        layers = []
        for layer in model.layers:
            expected = list(_leaves(layer))
            if expected and layer.name not in names:
                raise ValueError(
                    f"{self.file.where} has no weights of layer {layer.name!r}, expected them "
                    f"among {short(names)}"
                )
            layers.append(_filled(layer, self._arrays(layer, expected)) if expected else layer)
        return replace(model, layers=tuple(layers))

    def _arrays(
        self, layer: Layer, expected: list[tuple[Layer, str, Shape, bool]]
    ) -> dict[int, dict[str, np.ndarray]]:
        """Return the weights of a layer and of all in it, by the identity of each."""
        path = f"{self.root}{layer.name}"
        where = f"{self.file.where}: {path}"
        names = self.file.texts(path, "weight_names") or []
        if len(names) != len(expected):
            raise ValueError(
                f"{where} has the variables {short(names)}, expected {len(expected)}: "
                f"{short([name for _, name, _, _ in expected])}"
            )
        order = sorted(expected, key=lambda entry: not entry[3])  # stable: trained ones first
        for name, (leaf, variable, _, _) in zip(names, order, strict=True):
            last = re.sub(r"(_\d+)?(:0)?$", "", name.rpartition("/")[2])
            if last != variable.rpartition("/")[2] and _RENAMED.get(last) != variable:
                raise ValueError(
                    f"{where} has the variable {short(name)}, expected {variable} of layer "
                    f"{leaf.name!r}"
                )
        found: dict[int, dict[str, np.ndarray]] = {}
        letters: dict[int, dict[str, int]] = {}
        for name, (leaf, variable, shape, _) in zip(names, order, strict=True):
            array = _read(self.file, f"{path}/{name}", shape, letters.setdefault(id(leaf), {}))
            if variable != "count":
                found.setdefault(id(leaf), {})[variable] = array
        return found


def _leaves(
    layer: Layer | ModelDescription, trained: bool = True
) -> Iterator[tuple[Layer, str, Shape, bool]]:
    """Yield the variables of a layer and of all in it: their layer, name, shape, and whether
    training changes them.
    """
    config: dict[str, Any] = getattr(layer, "config", {})
    trained = trained and config.get("trainable", True)
    inner: Any = getattr(layer, "model", None)
    if hasattr(layer, "layers"):
        for part in layer.layers:
            yield from _leaves(part, trained)
        return
    if inner is not None:
        yield from _leaves(inner, trained)
        return
    for group in variables(layer):
        for name, shape in group.shapes.items():
            yield layer, name, shape, trained and name not in NOT_TRAINED
    for part in layer.parts.values():
        yield from _leaves(part, trained)


def _filled(layer: Layer, found: dict[int, dict[str, np.ndarray]]) -> Layer:
    """Return a layer with the weights found for it and for all in it."""
    model = layer.model
    if model is not None:
        inner = tuple(_filled(part, found) for part in model.layers)
        return replace(layer, model=replace(model, layers=inner))
    parts = {name: _filled(part, found) for name, part in layer.parts.items()}
    return replace(layer, parts=parts, weights=found.get(id(layer), {}))


def _read(file: File, path: str, shape: Shape, letters: dict[str, int]) -> np.ndarray:
    dataset = file.array(path)
    check_shape(shape, dataset.shape, letters, f"{file.where}: {path}")
    return dataset.read()
