"""This module goes through the calls of a model that a file of Keras describes, and writes each.

Nothing here knows what a layer means: the tables of its neighbours do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from treadle._storage.json import short
from treadle.keras.building import (
    activations,
    attention,
    conv,
    core,
    merge,
    movement,
    norm,
    operations,
    pooling,
    recurrent,
    reshape,
)
from treadle.keras.building.builder import Builder, Tensor
from treadle.keras.building.site import Site
from treadle.keras.building.wrappers import time_distributed
from treadle.keras.files.description import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from treadle.keras.files.description import Layer, ModelDescription, Nested

KINDS: dict[str, Callable[[Site], Tensor | Sequence[Tensor]]] = {
    **activations.KINDS,
    **attention.KINDS,
    **conv.KINDS,
    **core.KINDS,
    **merge.KINDS,
    **movement.KINDS,
    **norm.KINDS,
    **operations.KINDS,
    **pooling.KINDS,
    **recurrent.KINDS,
    **reshape.KINDS,
}


def apply(site: Site) -> list[Tensor]:
    """Write the nodes of one call of a layer; return its outputs in Keras' order."""
    layer = site.layer
    if layer.model is not None:
        given = tensors([*site.args, *site.kwargs.values()])
        mask = site.kwargs.get("mask")
        if isinstance(mask, Tensor):
            given = [replace(given[0], mask=mask)]
        return run(site.builder, layer.model, given, f"{site.path}/")
    if layer.kind == "TimeDistributed":
        return [time_distributed(site, apply)]
    if layer.kind not in KINDS:
        raise site.error("is none that treadle has")
    made = KINDS[layer.kind](site)
    return [made] if isinstance(made, Tensor) else list(made)


class Run:
    """A Run is the way through one model: the tensors that are known, and what its layers made.

    ``shapes`` has, for each layer, the outputs of its last call.
    """

    def __init__(self, builder: Builder, model: ModelDescription, path: str) -> None:
        self.builder, self.model, self.path = builder, model, path
        self.known: dict[Reference, Tensor] = {}
        self.shapes: dict[str, list[Tensor]] = {}
        self.layers = {layer.name: layer for layer in model.layers}

    def start(self, inputs: Sequence[Tensor]) -> None:
        """Give the model its inputs."""
        if len(inputs) != len(self.model.inputs):
            raise ValueError(
                f"{self.builder.where}: model {short(self.model.name)} is called with "
                f"{len(inputs)} tensors, expected {len(self.model.inputs)}"
            )
        for reference, tensor in zip(self.model.inputs, inputs, strict=True):
            self.known[reference] = tensor
            self.shapes[reference.layer] = [tensor]

    def finish(self) -> list[Tensor]:
        """Write the calls in their order; return the model's outputs."""
        for call in self.model.calls:
            self.builder.count_call()
            layer = self.layers[call.layer]
            args = [self.read(nested, layer) for nested in call.args]
            kwargs = {name: self.read(nested, layer) for name, nested in call.kwargs.items()}
            site = Site(self.builder, layer, args, kwargs, self.path + layer.name)
            outputs = apply(site)
            for number, tensor in enumerate(outputs):
                self.known[Reference(call.layer, call.index, number)] = tensor
            self.shapes[layer.name] = outputs
            if layer.kind == "MultiHeadAttention":
                self._unmask(tensors([*args, *kwargs.values()]))
        return [self.find(reference) for reference in self.model.outputs]

    def _unmask(self, used: Sequence[Tensor]) -> None:
        """Take the masks from tensors, as MultiHeadAttention does to what it is called with."""
        names = {tensor.name for tensor in used}
        for reference, tensor in self.known.items():
            if tensor.name in names and tensor.mask is not None:
                self.known[reference] = tensor.masked(None)

    def read(self, nested: Nested, layer: Layer) -> Any:
        """Return an argument with tensors in the place of References."""
        if isinstance(nested, Reference):
            return self.find(nested)
        if isinstance(nested, list | tuple):
            return [self.read(part, layer) for part in nested]
        if isinstance(nested, dict):
            return {name: self.read(part, layer) for name, part in nested.items()}
        return nested

    def find(self, reference: Reference) -> Tensor:
        """Return the tensor that a Reference names. Raises ValueError where there is none."""
        if reference not in self.known:
            raise ValueError(
                f"{self.builder.where}: model {short(self.model.name)} reads output "
                f"{reference.output} of call {reference.call} of layer {short(reference.layer)}, "
                "which nothing makes"
            )
        return self.known[reference]


def run(
    builder: Builder, model: ModelDescription, inputs: Sequence[Tensor], path: str
) -> list[Tensor]:
    """Write a whole model; return its outputs."""
    way = Run(builder, model, path)
    way.start(inputs)
    return way.finish()


def tensors(nested: Any) -> list[Tensor]:
    """Return the tensors in lists and dicts, in their order.

    >>> tensors([Tensor("x", "float32", (1,)), {"mask": None}])[0].name
    'x'
    """
    if isinstance(nested, Tensor):
        return [nested]
    if isinstance(nested, dict):
        nested = list(nested.values())
    if isinstance(nested, list | tuple):
        return [one for part in nested for one in tensors(part)]
    return []
