"""This module says in words what a whole model is: its nodes, what fusions made of them, its time.

`treadle info` prints these lines.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.graph.inputs import WIDENED, described
from treadle.graph.ir import subgraphs
from treadle.graph.optimise import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from treadle.graph.ir import Graph, Value
    from treadle.graph.model import Model


def describe(model: Model) -> list[str]:
    """Return lines that describe a model.

    They name its inputs and outputs, the number of its nodes before and after the passes, how often
    each fusion was made, the nodes by operator, and the bytes of its constants.

    >>> from treadle.graph.ir import Graph, Node, Value
    >>> from treadle.graph.model import Model
    >>> x, y = Value("x", "float32", ("n", 3)), Value("y", "float32", ("n", 3))
    >>> nodes = [Node("Identity", ["x"], ["a"]), Node("Softmax", ["a"], ["y"])]
    >>> print("\\n".join(describe(Model(Graph([x], [y], nodes, {})))))
    input     x: float32 [n, 3]
    output    y: float32 [n, 3]
    nodes     1, in the file 2
    constants 0 bytes
    passes    simplified 1
    <BLANKLINE>
    operator                    nodes
    Softmax                         1
    """
    graph, report = model.graph, model.report
    lines = [f"{'input':<10}{value.name}: {described(value)}" for value in graph.inputs]
    lines += [f"{'output':<10}{value.name}: {described(value)}" for value in graph.outputs]
    before = f", in the file {report.nodes_before:,}" if report.nodes_before else ""
    lines.append(f"{'nodes':<10}{count(graph):,}{before}")
    lines.append(f"{'constants':<10}{model.weight_bytes:,} bytes")
    if report.changes:
        made = ", ".join(f"{name} {times:,}" for name, times in report.changes.items())
        lines.append(f"{'passes':<10}{made}")
    lines += ["", f"{'operator':<24}{'nodes':>9}"]
    operators = Counter(_operators(graph))
    ordered = sorted(operators.items(), key=lambda item: (-item[1], item[0]))
    return lines + [f"{name:<24}{number:>9,}" for name, number in ordered]


def _operators(graph: Graph) -> Iterator[str]:
    for node in graph.nodes:
        yield node.op
        for sub in subgraphs(node):
            yield from _operators(sub)


def example_inputs(model: Model, chosen: Mapping[str, int]) -> dict[str, Any]:
    """Return inputs for a model: random numbers where it takes floats, else zeros.

    ``chosen`` gives numbers for the sizes that a call chooses, by their symbol ("batch") or as the
    input and the axis ("x.0"); the others are 1. It also gives the elements of inputs of integers
    and bools, by the input's name. Raises ValueError for a name that is none of these, and for an
    input whose rank is not known.

    >>> from treadle.graph.ir import Graph, Node, Value
    >>> from treadle.graph.model import Model
    >>> x = Value("x", "float32", ("n", 3))
    >>> model = Model(Graph([x], [x], [], {}))
    >>> example_inputs(model, {"n": 2})["x"].shape
    (2, 3)
    """
    function = "treadle.graph.example_inputs"
    random = np.random.default_rng(0)
    used: set[str] = set()
    inputs: dict[str, Any] = {}
    for value in model.graph.inputs:
        if value.shape is None:
            raise ValueError(f"{function}: the file does not say how many axes {value.name} has")
        shape = []
        for axis, size in enumerate(value.shape):
            names = [f"{value.name}.{axis}", *([size] if isinstance(size, str) else [])]
            used.update(names if not isinstance(size, int) else ())
            found = next((chosen[name] for name in names if name in chosen), 1)
            shape.append(size if isinstance(size, int) else max(found, 0))
        inputs[value.name] = _filled(value, shape, chosen, random)
        used.add(value.name)
    negative = [name for name in chosen if name not in inputs and chosen[name] < 0]
    if negative:
        name = negative[0]
        raise ValueError(f"{function}: {name} is {chosen[name]}, expected a size")
    unknown = set(chosen) - used
    if unknown:
        known = ", ".join(sorted(used))
        raise ValueError(f"{function}: there is no {min(unknown)!r}, expected some of {known}")
    return inputs


def _filled(value: Value, shape: list[int], chosen: Mapping[str, int], random: Any) -> Any:
    dtype = "float32" if value.dtype in WIDENED else value.dtype
    if dtype.startswith("float") and value.name not in chosen:
        return random.standard_normal(shape).astype(dtype)
    return np.full(shape, chosen.get(value.name, 0), dtype)


def profile(model: Model, inputs: Mapping[str, Any], rounds: int = 20) -> list[str]:
    """Return lines with the time of each node in a call: the least of several rounds.

    A node with branches or a body is one line, whatever it runs. Raises what a call raises.
    """
    best: list[float] = []
    for _ in range(rounds):
        timed = [seconds for _, seconds in model.profile(**inputs)]
        best = [min(pair) for pair in zip(best or timed, timed, strict=True)]
    total = sum(best) or 1.0
    lines = [f"{'us':>10} {'share':>6}  {'operator':<24}node"]
    for node, seconds in zip(model.graph.nodes, best, strict=True):
        name = node.name or next((name for name in node.outputs if name), "")
        lines.append(f"{1e6 * seconds:>10.2f} {seconds / total:>6.1%}  {node.op:<24}{name}")
    return [*lines, f"{1e6 * total:>10.2f} {1:>6.1%}  all"]
