"""This module reads which layer is called with what: the calls of a Sequential or Functional model.

Keras 3 writes a call as {"args", "kwargs"}, in which tensors are {"class_name":
"__keras_tensor__"}; Keras 2 as a list of tensors [layer, call, output, kwargs]. Both count the
calls of a layer, but not from the same number where the layer is itself a model: such a model has
been called once, on its own inputs, before others call it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._storage.json import short
from treadle.keras.files import options
from treadle.keras.files.description import Call, Layer, ModelDescription, Reference, references

if TYPE_CHECKING:
    from treadle.keras.files.description import Nested

MOST_CALLS = 100_000
_RECURRENT = ("SimpleRNN", "LSTM", "GRU", "RNN", "Bidirectional")
_SEVERAL = (*_RECURRENT, "MultiHeadAttention", "Attention", "AdditiveAttention", "ops.Split")
_MOST_OUTPUTS = 1000


def sequential(
    name: str, config: dict[str, Any], layers: dict[str, Layer], where: str, version: str
) -> ModelDescription:
    """Return a Sequential: every layer is called with what the one before gave."""
    rest = list(layers.values())
    if not rest:
        raise ValueError(f"{where} has no layers, expected at least one")
    if rest[0].kind == "InputLayer":
        first = rest.pop(0)
    else:
        first = _input(rest[0], config, where, set(layers))
    tensor = Reference(first.name)
    calls = []
    for layer in rest:
        if layer.kind == "InputLayer":
            raise ValueError(f"{where}: {layer.name!r} is an InputLayer, expected it first or not")
        calls.append(Call(layer.name, 0, [tensor]))
        tensor = Reference(layer.name)
    return ModelDescription(
        kind="Sequential",
        name=name,
        layers=(first, *rest),
        calls=tuple(calls),
        inputs=(Reference(first.name),),
        outputs=(tensor,),
        input_names=(first.name,),
        output_names=(tensor.layer,),
        input_structure=Reference(first.name),
        output_structure=tensor,
        input_shapes=(first.config["batch_shape"],),
        keras_version=version,
    )


def _input(first: Layer, config: dict[str, Any], where: str, names: set[str]) -> Layer:
    """Return the input of a Sequential that has none of its own."""
    entry = config["layers"][0]
    inner = entry.get("config")
    shape = None
    if isinstance(inner, dict):
        shape = inner.get("batch_shape", inner.get("batch_input_shape"))
    if shape is None and first.model is not None:
        shape = first.model.input_shapes[0] if len(first.model.input_shapes) == 1 else None
    if shape is None:
        shape = config.get("build_input_shape")
    try:
        shape = options.optional(options.shape)(shape)
    except ValueError as error:
        raise ValueError(
            f"{where}: the shape of its input is {short(shape)}, expected {error}"
        ) from None
    name = f"{first.name}_input"
    while name in names:
        name += "_"
    dtype = "int32" if first.kind == "Embedding" else "float32"
    return Layer("InputLayer", name, {"dtype": dtype, "batch_shape": shape})


def functional(
    name: str, config: dict[str, Any], layers: dict[str, Layer], where: str, version: str
) -> ModelDescription:
    """Return a Functional: its calls in an order in which they can run."""
    graph = _Graph(config, layers, where)
    calls = graph.ordered(graph.calls())
    inputs, outputs = (graph.ends(end) for end in ("input_layers", "output_layers"))
    first, last = tuple(references(inputs)), tuple(references(outputs))
    for tensor in first:
        if layers[tensor.layer].kind != "InputLayer":
            raise ValueError(f"{where}: its input {tensor.layer!r} is not an InputLayer")
    known = set(first)
    for layer in layers.values():
        if layer.kind == "InputLayer" and Reference(layer.name) not in known:
            raise ValueError(f"{where}: the InputLayer {layer.name!r} is not among its inputs")
    if len(known) != len(first):
        raise ValueError(f"{where} has an input twice, expected each once")
    if not first or not last:
        raise ValueError(f"{where} has no inputs or no outputs, expected at least one each")
    return ModelDescription(
        kind="Functional",
        name=name,
        layers=tuple(layers.values()),
        calls=calls,
        inputs=first,
        outputs=last,
        input_names=_names(inputs, first),
        output_names=_names(outputs, last),
        input_structure=inputs,
        output_structure=outputs,
        input_shapes=tuple(layers[tensor.layer].config["batch_shape"] for tensor in first),
        keras_version=version,
    )


def _names(structure: Nested, tensors: tuple[Reference, ...]) -> tuple[str, ...]:
    if isinstance(structure, dict) and len(structure) == len(tensors):
        return tuple(structure)
    return tuple(tensor.layer for tensor in tensors)


class _Graph:
    """This reads the calls of one Functional."""

    def __init__(self, config: dict[str, Any], layers: dict[str, Layer], where: str) -> None:
        self.config, self.layers, self.where = config, layers, where
        self.nodes: dict[str, list[Any]] = {}
        for entry, layer_name in zip(config["layers"], layers, strict=True):
            complaint = f"{where}: the calls of layer {layer_name!r} are no list, expected one"
            nodes = options.as_list(entry.get("inbound_nodes", []), complaint)
            self.nodes[layer_name] = [node for node in nodes if node not in ([], {}, None)]
        if sum(map(len, self.nodes.values())) > MOST_CALLS:
            raise ValueError(f"{where} has more than {MOST_CALLS} calls")
        # Keras 2 wrote lists. It counts the first call of an inner model whose input is explicit.
        self.old = any(isinstance(node, list) for nodes in self.nodes.values() for node in nodes)
        self.begun = {
            entry_name
            for entry, entry_name in zip(config["layers"], layers, strict=True)
            if layers[entry_name].model is not None and _has_input(entry)
        }

    def calls(self) -> list[Call]:
        """Return the calls in the order of the file."""
        calls = []
        for name, nodes in self.nodes.items():
            kind = self.layers[name].kind
            if kind == "InputLayer" and nodes:
                raise ValueError(f"{self.where}: the InputLayer {name!r} is called, expected not")
            for index, node in enumerate(nodes):
                place = f"{self.where}: call {index} of layer {name!r}"
                args, kwargs = self._arguments(node, place)
                if kind in _RECURRENT and args and isinstance(args[0], list):
                    if len(args[0]) > 1:  # Keras 2: [input, *states]
                        kwargs = {**kwargs, "initial_state": args[0][1:]}
                    args = [*args[0][:1], *args[1:]]
                if kind in _RECURRENT and not _only_tensors([args, kwargs.get("initial_state")]):
                    raise ValueError(f"{place} has numbers among its inputs and states")
                if not any(True for _ in references([args, kwargs])):
                    raise ValueError(f"{place} has no tensor, expected at least one")
                calls.append(Call(name, index, args, kwargs))
        return calls

    def _arguments(self, node: Any, place: str) -> tuple[list[Any], dict[str, Any]]:
        complaint = f"{place} is {short(node)}, expected lists of arguments"
        if isinstance(node, dict):
            args = options.as_list(node.get("args"), complaint)
            kwargs = options.as_object(node.get("kwargs", {}), complaint)
            return (
                [self._value(value, place) for value in args],
                self._named({k: self._value(v, place) for k, v in kwargs.items()}),
            )
        kwargs = {}
        args = [self._old_value(value, kwargs, place) for value in options.as_list(node, complaint)]
        return [args[0] if len(args) == 1 else args], self._named(kwargs)

    @staticmethod
    def _named(kwargs: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in kwargs.items() if v is not None and k != "training"}

    def _value(self, value: Any, place: str) -> Any:
        """Read an argument that Keras 3 wrote."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list):
            return [self._value(item, place) for item in value]
        value = options.as_object(value, f"{place}: an argument is {short(value)}")
        if "class_name" not in value or "config" not in value:
            return {key: self._value(item, place) for key, item in value.items()}
        kind, config = value["class_name"], value["config"]
        reader = {
            "__keras_tensor__": self._tensor,
            "__slice__": self._slice,
            "__tensor__": _array,
            "__numpy__": _array,
        }.get(str(kind))
        if kind == "__ellipsis__":
            return Ellipsis
        if reader is None or not isinstance(config, dict):
            raise ValueError(
                f"{place}: an argument is of class {short(kind)}, expected tensors, numbers and "
                "slices"
            )
        return reader(config, place)

    def _tensor(self, config: dict[str, Any], place: str) -> Reference:
        history = config.get("keras_history")
        if not isinstance(history, list) or len(history) != 3:
            raise ValueError(f"{place}: a tensor is of {short(history)}, expected a layer's call")
        return self._reference(history, place, 0)

    def _slice(self, config: dict[str, Any], place: str) -> slice:
        ends = [config.get(end) for end in ("start", "stop", "step")]
        for end in ends:
            if end is not None and (isinstance(end, bool) or not isinstance(end, int)):
                raise ValueError(f"{place}: a slice has the end {short(end)}, expected an integer")
        return slice(*ends)

    def _old_value(self, value: Any, kwargs: dict[str, Any], place: str) -> Any:
        """Read an argument that Keras 2 wrote, and add what it names to ``kwargs``."""
        if isinstance(value, dict):
            return {key: self._old_value(item, kwargs, place) for key, item in value.items()}
        if not isinstance(value, list) or not value:
            raise ValueError(f"{place}: an argument is {short(value)}, expected a tensor")
        if not isinstance(value[0], str):
            return [self._old_value(item, kwargs, place) for item in value]
        if len(value) not in (3, 4) or (len(value) == 4 and not isinstance(value[3], dict)):
            raise ValueError(
                f"{place}: a tensor is {short(value)}, expected [layer, call, output, kwargs]"
            )
        if len(value) == 4:
            kwargs.update({k: self._old_named(v, place) for k, v in value[3].items()})
        if value[0] == "_CONSTANT_VALUE":
            return self._old_named(value[2], place)
        return self._reference(value[:3], place, int(value[0] in self.begun))

    def _old_named(self, value: Any, place: str) -> Any:
        """Read a named argument that Keras 2 wrote: [layer, call, output] is a tensor."""
        if isinstance(value, list):
            if len(value) == 3 and isinstance(value[0], str) and value[0] in self.layers:
                return self._reference(value, place, int(value[0] in self.begun))
            return [self._old_named(item, place) for item in value]
        if isinstance(value, dict):
            return {key: self._old_named(item, place) for key, item in value.items()}
        return value

    def _reference(self, value: list[Any], place: str, begin: int) -> Reference:
        """Return the tensor [layer, call, output], where calls are counted from ``begin``."""
        name, call, output = value
        if not isinstance(name, str) or name not in self.layers:
            raise ValueError(f"{place}: a tensor is of layer {short(name)}, which is not there")
        layer = self.layers[name]
        calls = 1 if layer.kind == "InputLayer" else len(self.nodes[name])
        outputs = 1
        if layer.model is not None:
            outputs = len(layer.model.outputs)
        elif layer.kind in _SEVERAL:
            outputs = _MOST_OUTPUTS
        try:
            call = options.integer(begin, begin + calls - 1)(call) - begin
            output = options.integer(0, outputs - 1)(output)
        except ValueError:
            raise ValueError(
                f"{place}: a tensor is output {short(output)} of call {short(call)} of layer "
                f"{name!r}, which has {calls} calls (from {begin}) with at most {outputs} outputs"
            ) from None
        return Reference(name, call, output)

    def ends(self, end: str) -> Nested:
        """Return the inputs or outputs as they are nested; a list of one is that one."""
        place = f"{self.where}: {end}"
        result = self._ends(self.config.get(end), place)
        return result[0] if isinstance(result, list) and len(result) == 1 else result

    def _ends(self, value: Any, place: str) -> Any:
        if isinstance(value, dict):
            return {key: self._ends(item, place) for key, item in value.items()}
        value = options.as_list(value, f"{place} have {short(value)}, expected tensors")
        if len(value) == 3 and isinstance(value[0], str):
            begun = value[0] in self.begun if self.old else self._is_functional(value[0])
            return self._reference(value, place, int(begun))
        return [self._ends(item, place) for item in value]

    def _is_functional(self, name: str) -> bool:
        return name in self.layers and self.layers[name].kind == "Functional"

    def ordered(self, calls: list[Call]) -> tuple[Call, ...]:
        """Return the calls so that each follows those whose tensors it takes."""
        waiting: dict[tuple[str, int], set[tuple[str, int]]] = {}
        users: dict[tuple[str, int], list[tuple[str, int]]] = {}
        by_key: dict[tuple[str, int], Call] = {(call.layer, call.index): call for call in calls}
        for key, call in by_key.items():
            needed = {(t.layer, t.call) for t in references([call.args, call.kwargs])}
            waiting[key] = {k for k in needed if self.layers[k[0]].kind != "InputLayer"}
            for other in waiting[key]:
                users.setdefault(other, []).append(key)
        ready = [key for key, needed in waiting.items() if not needed]
        result: list[Call] = []
        for key in ready:
            result.append(by_key[key])
            for user in users.get(key, ()):
                waiting[user].discard(key)
                if not waiting[user]:
                    ready.append(user)
        if len(result) != len(calls):
            stuck = next(key for key, needed in waiting.items() if needed)
            raise ValueError(
                f"{self.where}: call {stuck[1]} of layer {stuck[0]!r} waits for itself: the calls "
                "form a circle"
            )
        return tuple(result)


def _only_tensors(nested: Nested) -> bool:
    """Return whether all leaves of a tree are tensors or None."""
    if isinstance(nested, list):
        return all(_only_tensors(item) for item in nested)
    return nested is None or isinstance(nested, Reference)


def _has_input(entry: dict[str, Any]) -> bool:
    """Return whether the first layer of an inner model is an InputLayer, said or implied."""
    config: Any = entry.get("config")
    layers = config.get("layers") if isinstance(config, dict) else config
    first = layers[0] if isinstance(layers, list) and layers else {}
    inner = first.get("config") if isinstance(first, dict) else None
    return first.get("class_name") == "InputLayer" or (
        isinstance(inner, dict) and "batch_input_shape" in inner
    )


def _array(config: dict[str, Any], place: str) -> np.ndarray:
    """Return a constant of several numbers."""
    dtype = str(config.get("dtype"))
    try:
        values = np.asarray(options.numbers(config.get("value")))
    except ValueError as error:
        raise ValueError(f"{place}: a constant is not made of numbers, expected {error}") from None
    integers = dtype.startswith(("int", "uint")) and bool(np.all(np.abs(values) < 2**53))
    return values.astype(np.int64 if integers else np.float32)
