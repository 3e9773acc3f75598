"""Constant folding: what is computed once, what is left, and what no file can make large."""

import numpy as np
import pytest

from reference import graph as reference
from reference.graph import graph_of
from treadle.graph import Graph, Node, Value
from treadle.graph.fold import GROWTH, LEAST_BYTES, fold
from treadle.graph.optimise import copied
from treadle.graph.shapes import infer
from treadle.graph.simplify import simplify

OPERATORS = frozenset(reference.OPERATORS)


@pytest.fixture(autouse=True)
def all_operators(monkeypatch):
    """Let folding use the reference, which has operators that no build of the engine lacks."""
    monkeypatch.setattr("treadle.graph.fold.OPERATORS", OPERATORS)


def folded(graph):
    """A folded copy, and the counts."""
    result = copied(graph)
    return result, fold(result, infer(result), reference.run_node)


def ops(graph):
    return [node.op for node in graph.nodes]


def test_constants_are_computed():
    nodes = [
        Node("Mul", ["a", "a"], ["b"]),
        Node("Sqrt", ["b"], ["c"]),
        Node("Add", ["x", "c"], ["y"]),
    ]
    graph = graph_of(nodes, [("x", (3,))], ["y"], {"a": np.arange(3, dtype="f")})
    result, counts = folded(graph)
    assert ops(result) == ["Add"]
    assert counts == {"folded": 2, "inlined": 0}
    np.testing.assert_array_equal(result.constants["c"], np.arange(3, dtype="f"))
    assert ops(graph) == ["Mul", "Sqrt", "Add"]


def test_sizes_that_are_known_become_constants():
    """A fixed size needs no call, a symbol does."""
    nodes = [
        Node("Shape", ["x"], ["s"]),
        Node("Gather", ["s", "one"], ["width"], {"axis": 0}),
        Node("Gather", ["s", "zero"], ["batch"], {"axis": 0}),
        Node("Add", ["width", "batch"], ["y"]),
    ]
    constants = {"zero": np.int64(0), "one": np.int64(1)}
    result, _ = folded(graph_of(nodes, [("x", ("n", 7))], ["y"], constants))
    assert ops(result) == ["Shape", "Gather", "Add"]
    assert result.constants["width"] == 7
    assert result.constants["width"].dtype == np.int64


def branch(name, nodes, constants=None):
    return Graph([], [Value(name, "float32", None)], nodes, constants or {})


def if_graph(condition, inputs=(("x", ("n", 3)),)):
    then = branch("t", [Node("Mul", ["x", "two"], ["t"])], {"two": np.float32([2])})
    other = branch("x", [])
    nodes = [
        *condition,
        Node("If", ["c"], ["y"], {"then_branch": then, "else_branch": other}),
        Node("Neg", ["y"], ["z"]),
    ]
    return graph_of(nodes, list(inputs), ["z"], {"three": np.int64(3), "one": np.int64(1)})


@pytest.mark.parametrize("rank", [1, 2])
def test_if_on_a_rank_is_inlined(rank):
    """Exporters ask for the rank of an input, which is known (silero's files do)."""
    condition = [
        Node("Shape", ["x"], ["s"]),
        Node("Size", ["s"], ["r"]),
        Node("Equal", ["r", "one"], ["c"]),
    ]
    graph = if_graph(condition, [("x", ("n", 3)[:rank])])
    result, counts = folded(graph)
    assert counts["inlined"] == 1
    assert "If" not in ops(result)
    x = np.ones((5, 3)[:rank], "f")
    np.testing.assert_array_equal(
        reference.run(result, {"x": x})["z"], reference.run(graph, {"x": x})["z"]
    )


def test_nested_branches_are_inlined():
    inner = branch("u", [Node("Neg", ["x"], ["u"])])
    then = branch(
        "t", [Node("If", ["yes"], ["t"], {"then_branch": inner, "else_branch": branch("x", [])})]
    )
    nodes = [Node("If", ["yes"], ["y"], {"then_branch": then, "else_branch": branch("x", [])})]
    graph = graph_of(nodes, [("x", (2,))], ["y"], {"yes": np.array(True)})
    result, counts = folded(graph)
    assert counts["inlined"] == 2
    assert ops(result) == ["Neg", "Identity", "Identity"]
    simplify(result, infer(result))
    assert ops(result) == ["Neg"]
    assert result.outputs[0].name == "y"


def test_if_on_an_input_stays():
    """The sampling rate of a voice detector is an input: both branches may be taken."""
    graph = if_graph([Node("Equal", ["rate", "three"], ["c"])], [("x", (3,)), ("rate", ())])
    graph.inputs[1].dtype = "int64"
    result, counts = folded(graph)
    assert counts["inlined"] == 0
    assert "If" in ops(result)
    assert ops(result.nodes[1].attributes["then_branch"]) == ["Mul"]


def test_constants_inside_of_branches_are_computed():
    then = branch("t", [Node("Neg", ["k"], ["m"]), Node("Mul", ["x", "m"], ["t"])])
    nodes = [Node("If", ["c"], ["y"], {"then_branch": then, "else_branch": branch("x", [])})]
    graph = graph_of(nodes, [("x", (2,)), ("c", (), "bool")], ["y"], {"k": np.ones(2, "f")})
    result, _ = folded(graph)
    assert ops(result.nodes[0].attributes["then_branch"]) == ["Mul"]


@pytest.mark.parametrize("shape", [[1 << 20, 1 << 20], [3000, 3000], [LEAST_BYTES]])
@pytest.mark.parametrize("op", ["ConstantOfShape", "Expand", "Tile", "Range"])
def test_sizes_named_by_a_file_are_not_believed(op, shape):
    """What a few bytes ask to be large stays a node, which runs under a call's limit."""
    constants = {"s": np.array(shape), "k": np.ones([1] * len(shape), "f")}
    inputs = {"ConstantOfShape": ["s"], "Expand": ["k", "s"], "Tile": ["k", "s"]}
    if op == "Range":
        constants = {"zero": np.int64(0), "k": np.int64(np.prod(shape)), "one": np.int64(1)}
        inputs["Range"] = ["zero", "k", "one"]
    result, _ = folded(graph_of([Node(op, inputs[op], ["y"])], [], ["y"], constants))
    assert ops(result) == [op]


def test_results_together_are_bounded():
    """Many results that are small each are together at most four times the constants."""
    constants = {"k": np.ones(LEAST_BYTES, "f")}
    nodes = [Node("Mul", ["k", "k"], [f"y{i}"]) for i in range(20)]
    names = [f"y{i}" for i in range(20)]
    result, counts = folded(graph_of(nodes, [], names, constants))
    assert counts["folded"] == GROWTH
    assert len(result.nodes) == 20 - GROWTH


def test_a_node_that_fails_stays():
    """Its operator says so in a call; in a branch that is never taken, nobody hears of it."""

    def fails(node, arrays):
        raise ValueError("no")

    graph = graph_of([Node("Neg", ["k"], ["y"])], [], ["y"], {"k": np.ones(1, "f")})
    assert fold(graph, infer(graph), fails) == {"folded": 0, "inlined": 0}
    assert ops(graph) == ["Neg"]
