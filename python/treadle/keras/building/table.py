"""This module collects what `treadle.Model.summary` prints of a model of Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from treadle.graph.summary import Row, Table
from treadle.keras.building.builder import Tensor
from treadle.keras.files.description import references

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from treadle.keras.files.description import Layer, ModelDescription

_MEASURED = ("moving_mean", "moving_variance", "mean", "variance", "count")


class _Weight(NamedTuple):
    size: int
    trained: bool


def table(description: ModelDescription, shapes: Mapping[str, Sequence[Tensor]]) -> Table:
    """Return the rows of a model's layers; ``shapes`` has the outputs of each layer."""
    chain = description.kind == "Sequential" or _is_chain(description)
    layers = description.layers
    if description.kind == "Sequential":
        layers = tuple(layer for layer in layers if layer.kind != "InputLayer")
    batch = [shape[0] if shape else None for shape in description.input_shapes]
    rows = [
        Row(
            layer.name,
            layer.kind.removeprefix("ops."),
            _shapes(shapes.get(layer.name, ()), batch[0] if batch else None),
            sum(one.size for one in _weights(layer)),
            "" if chain else _connections(description, layer),
        )
        for layer in layers
    ]
    weights = [one for layer in layers for one in _weights(layer)]
    fixed = sum(one.size for one in weights if not one.trained)
    return Table(description.name, tuple(rows), sum(one.size for one in weights), fixed)


def _weights(layer: Layer, trained: bool = True) -> Iterator[_Weight]:
    """Yield the weights of a layer, inner layers included."""
    trained = trained and bool(layer.config.get("trainable", True))
    for name, array in layer.weights.items():
        yield _Weight(int(array.size), trained and name not in _MEASURED)
    if layer.kind == "Normalization" and layer.weights:
        yield _Weight(1, False)  # Keras counts what it measured
    for part in layer.parts.values():
        yield from _weights(part, trained)
    if layer.model is not None:
        for inner in layer.model.layers:
            yield from _weights(inner, trained)


def _shapes(outputs: Sequence[Tensor], batch: int | None) -> str:
    """Describe the shapes of a layer's outputs, None for a size that a call chooses."""
    texts = []
    for tensor in outputs:
        sizes = [str(size) if isinstance(size, int) else "None" for size in tensor.shape]
        if sizes and tensor.shape[0] == "batch" and batch is not None:
            sizes[0] = str(batch)
        texts.append(f"({', '.join(sizes)})")
    if not texts:
        return "?"
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _is_chain(description: ModelDescription) -> bool:
    """Return whether each layer is called once, with what the one before it gave."""
    last = {reference.layer for reference in description.inputs}
    if len(last) != 1:
        return False
    seen: set[str] = set()
    for call in description.calls:
        given = list(references([call.args, call.kwargs]))
        if len(given) != 1 or given[0].layer not in last or call.layer in seen:
            return False
        seen.add(call.layer)
        last = {call.layer}
    return True


def _connections(description: ModelDescription, layer: Layer) -> str:
    """Return the tensors that a layer is called with, as Keras writes them."""
    found = [
        f"{one.layer}[{one.call}][{one.output}]"
        for call in description.calls
        if call.layer == layer.name
        for one in references([call.args, call.kwargs])
    ]
    return ", ".join(found) or "-"
