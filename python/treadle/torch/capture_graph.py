"""This module writes the graph of a recorded program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from treadle.graph.ir import Graph, Node, Value
from treadle.torch import (
    capture_activations,  # noqa: F401 - they fill the table
    capture_creation,  # noqa: F401
    capture_indexing,  # noqa: F401
    capture_layers,  # noqa: F401
    capture_pooling,  # noqa: F401
    capture_reductions,  # noqa: F401
    capture_sequences,  # noqa: F401
)
from treadle.torch.capture_builder import (
    FUNCTION,
    TABLE,
    Builder,
    Call,
    Missing,
    dtype_of,
    key_of,
    place,
    refusal,
)
from treadle.torch.capture_conditions import required
from treadle.torch.capture_program import IGNORED, INLINED, targets
from treadle.torch.capture_sizes import expression

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from treadle.torch.capture_program import Recorded

_PREFIX = "module."  # of the names of weights, in `capture_program.Flat`


class Symbols:
    """Symbols names the sizes that calls choose."""

    def __init__(self) -> None:
        self.names: dict[Any, str] = {}

    def add(self, size: Any, wish: str) -> None:
        """Name a size that is a symbol of its own, unless it has a name."""
        found = expression(size)
        if getattr(found, "is_Symbol", False) and found not in self.names:
            taken, name, number = set(self.names.values()), wish, 1
            while name in taken:
                name, number = f"{wish}_{number}", number + 1
            self.names[found] = name

    def shown(self, size: Any) -> int | str | None:
        """Return a size for the shape of a graph's value."""
        found = expression(size)
        if isinstance(found, int):
            return found
        symbols = found.free_symbols
        if not all(symbol in self.names for symbol in symbols):
            return None
        named = {s: type(s)(self.names[s], integer=True, positive=True) for s in symbols}
        return str(found.xreplace(named)).replace(" ", "")


def graph_of(
    recorded: Recorded, inputs: Sequence[str], outputs: Sequence[str], axes: Mapping[Any, str]
) -> Graph:
    """Return the graph of a recorded module.

    ``inputs`` and ``outputs`` are names; ``axes`` names sizes, by (number of the input, axis).
    """
    program = recorded.program
    _refuse_all_missing(program.graph_module)
    builder, symbols = Builder(), Symbols()
    values: dict[Any, Any] = {}
    kinds = torch.export.graph_signature.InputKind
    specs = program.graph_signature.input_specs
    holders = [node for node in program.graph.nodes if node.op == "placeholder"]
    fakes: list[Any] = []
    for name in (*inputs, *outputs):
        builder.name(name)
    for node, spec in zip(holders, specs, strict=True):
        if spec.kind == kinds.USER_INPUT:
            values[node] = inputs[len(fakes)]
            fakes.append(node.meta["val"])
            continue
        if spec.kind not in (kinds.PARAMETER, kinds.BUFFER, kinds.CONSTANT_TENSOR):
            raise NotImplementedError(f"{FUNCTION}: {spec.target} is no tensor")
        if node.users:
            values[node] = _weight(builder, program, spec)
    for (number, axis), wish in axes.items():
        symbols.add(fakes[number].shape[axis], wish)
    for name, fake in zip(inputs, fakes, strict=True):
        for axis, size in enumerate(fake.shape):
            first = axis == 0 and "batch" not in symbols.names.values()
            symbols.add(size, "batch" if first else f"{name}_{axis}")
    results = _written(builder, program.graph_module, values)
    if results and recorded.conditions:
        results[0] = required(builder, values, recorded.conditions, results[0])
    found = [
        Value(name, dtype_of(fake), tuple(map(symbols.shown, fake.shape)))
        for name, fake in zip(inputs, fakes, strict=True)
    ]
    ends = _outputs(builder, program, results, outputs, symbols)
    return _named(_pruned(Graph(found, ends, builder.nodes, builder.constants)))


def _weight(builder: Builder, program: Any, spec: Any) -> str:
    name = str(spec.target).removeprefix(_PREFIX)
    found = program.state_dict.get(spec.target)
    tensor = program.constants[spec.target] if found is None else found
    if tensor.dtype is torch.float64 and tensor.dim() == 0:
        tensor = tensor.float()  # a Python number
    return builder.weight(name, tensor)


def _refuse_all_missing(graph_module: Any) -> None:
    """Raise for the operators that cannot be captured: all of them, with their places."""
    missing: dict[str, str] = {}
    for node in targets(graph_module):
        skipped = str(node.target) in IGNORED or _inlined(node)
        if not skipped and key_of(node.target) is None:
            missing.setdefault(str(node.target), refusal(node, "the operator is not supported"))
    if missing:
        raise Missing("\n".join(missing.values()))


def _inlined(node: Any) -> bool:
    return str(getattr(node.target, "__name__", "")) in INLINED


def _written(builder: Builder, graph_module: Any, values: dict[Any, Any]) -> list[Any]:
    """Write all nodes of a recorded graph, and return its results: values, numbers or None."""
    for node in graph_module.graph.nodes:
        if node.op == "output":
            return [_result(builder, values, end) for end in node.args[0]]
        if node.op == "get_attr":
            found = getattr(graph_module, node.target)
            if isinstance(found, torch.Tensor):
                found = builder.weight(str(node.target), found)
            values[node] = found
        if node.op != "call_function" or str(node.target) in IGNORED:
            continue
        builder.place = place(node)
        if _inlined(node):
            values[node] = _inline(builder, node, values)
            continue
        call = Call(builder, node, values)
        try:
            values[node] = TABLE[key_of(node.target)](call)  # type: ignore[index]
        except NotImplementedError as error:
            if str(error).startswith(FUNCTION):
                raise
            raise call.refuse(str(error)) from None
    raise AssertionError("a recorded graph ends with its output")


def _result(builder: Builder, values: Mapping[Any, Any], end: Any) -> Any:
    return values[end] if isinstance(end, torch.fx.Node) else end


def _inline(builder: Builder, node: Any, values: dict[Any, Any]) -> Any:
    """Write the graph that a node holds in the node's place."""
    arguments = list(node.args)
    at = next(
        i
        for i, a in enumerate(arguments)
        if isinstance(a, torch.fx.Node) and isinstance(values.get(a), torch.fx.GraphModule)
    )
    inner = values[arguments[at]]
    own = dict(values)
    holders = [n for n in inner.graph.nodes if n.op == "placeholder"]
    for holder, argument in zip(holders, arguments[at + 1 :], strict=True):
        own[holder] = values[argument] if isinstance(argument, torch.fx.Node) else argument
    return tuple(_written(builder, inner, own))


def _outputs(
    builder: Builder, program: Any, results: list[Any], names: Sequence[str], symbols: Symbols
) -> list[Value]:
    """Name the results, and return them as the outputs of the graph."""
    kinds = torch.export.graph_signature.OutputKind
    ends = list(program.graph.nodes)[-1].args[0]
    found: list[Value] = []
    renamed: set[str] = set()
    for result, end, spec in zip(results, ends, program.graph_signature.output_specs, strict=True):
        if spec.kind in (kinds.BUFFER_MUTATION, getattr(kinds, "PARAMETER_MUTATION", None)):
            raise NotImplementedError(
                f"{FUNCTION}: forward changes {str(spec.target).removeprefix(_PREFIX)}, and a "
                "captured model keeps nothing between calls: let forward take this state as an "
                "argument and return the new one"
            )
        if spec.kind == kinds.USER_INPUT_MUTATION:
            raise NotImplementedError(
                f"{FUNCTION}: forward changes its input {spec.target}, which belongs to the caller"
            )
        name = names[len(found)]
        fake = end.meta["val"] if isinstance(end, torch.fx.Node) else end
        if isinstance(fake, torch.Tensor):
            dtype, shape = dtype_of(fake), tuple(map(symbols.shown, fake.shape))
        else:
            kind = type(fake)
            symbolic = {torch.SymInt: "int64", torch.SymFloat: "float32", torch.SymBool: "bool"}
            plain = {bool: "bool", int: "int64", float: "float32"}
            dtype, shape = symbolic.get(kind) or plain[kind], ()
            if isinstance(end, torch.fx.Node):
                result = builder.emit("Reshape", result, builder.integers([]))
            else:
                result = builder.constant(np.array(end, dtype))
        maker = builder.maker(result)
        if result in builder.constants:
            builder.constants[name] = builder.constants[result]
        elif maker is None or result in renamed:
            builder.nodes.append(Node("Identity", [result], [name]))
        else:
            _rename(builder, result, name)
            renamed.add(name)
            results[:] = [name if other == result else other for other in results]
        found.append(Value(name, dtype, shape))
    return found


def _rename(builder: Builder, old: str, new: str) -> None:
    for node in builder.nodes:
        node.inputs = [new if name == old else name for name in node.inputs]
        node.outputs = [new if name == old else name for name in node.outputs]
    builder._makers[new] = builder._makers.pop(old)


def _named(graph: Graph) -> Graph:
    """Return a graph whose products and recurrent layers have the names of their modules, by which
    `Model.to` keeps them as they are.
    """
    for node in graph.nodes:
        first = {"treadle.Linear": 1, "Conv": 1, "ConvTranspose": 1, "treadle.Recurrent": 4}
        weight = node.inputs[first[node.op]] if node.op in first else ""
        if weight in graph.constants and "." in weight:
            node.name = weight.rpartition(".")[0]
    return graph


def _pruned(graph: Graph) -> Graph:
    """Return a graph without nodes and constants that no output needs."""
    needed = {value.name for value in graph.outputs}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.isdisjoint(node.outputs):
            continue
        needed |= set(node.inputs)
        node.outputs = [name if name in needed else "" for name in node.outputs]
        kept.append(node)
    constants = {name: array for name, array in graph.constants.items() if name in needed}
    return Graph(graph.inputs, graph.outputs, kept[::-1], constants)
