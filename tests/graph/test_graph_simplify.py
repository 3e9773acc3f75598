"""Nodes that change nothing go; those that change anything stay."""

import numpy as np
import pytest

from reference import graph as reference
from reference.graph import graph_of
from treadle.graph import Graph, Node, Value
from treadle.graph.optimise import copied
from treadle.graph.shapes import infer
from treadle.graph.simplify import simplify

X = [("x", ("n", 3, 4))]
RANDOM = np.random.default_rng(3)
INPUT = RANDOM.standard_normal((2, 3, 4)).astype("f")


def simplified(nodes, constants=None, inputs=X, outputs=("y",)):
    """The operators that are left; the results must be the same to the bit."""
    graph = graph_of(nodes, inputs, list(outputs), constants)
    result = copied(graph)
    simplify(result, infer(result))
    assert [value.name for value in result.outputs] == list(outputs)
    given = {one[0]: INPUT for one in inputs}
    wanted, found = reference.run(graph, given), reference.run(result, given)
    for name in outputs:
        np.testing.assert_array_equal(found[name], wanted[name])
        assert found[name].dtype == wanted[name].dtype
    return [node.op for node in result.nodes]


def ints(*numbers):
    return np.array(numbers, np.int64)


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        (
            [
                Node("Transpose", ["u"], ["t"], {"perm": [0, 2, 1]}),
                Node("Transpose", ["t"], ["v"], {"perm": [0, 2, 1]}),
            ],
            {},
        ),
        ([Node("Cast", ["u"], ["v"], {"to": 1})], {}),
        (
            [Node("Unsqueeze", ["u", "a"], ["t"]), Node("Squeeze", ["t", "a"], ["v"])],
            {"a": ints(1)},
        ),
        ([Node("Reshape", ["u", "s"], ["v"])], {"s": ints(0, 3, -1)}),
        (
            [Node("Reshape", ["u", "s"], ["t"]), Node("Reshape", ["t", "r"], ["v"])],
            {"s": ints(0, 12), "r": ints(-1, 3, 4)},
        ),
        ([Node("Slice", ["u", "b", "e", "a"], ["v"])], {"b": ints(0), "e": ints(9), "a": ints(1)}),
        ([Node("Expand", ["u", "s"], ["v"])], {"s": ints(1, 3, 1)}),
        ([Node("Pad", ["u", "p"], ["v"])], {"p": ints(0, 0, 0, 0, 0, 0)}),
        ([Node("Concat", ["u"], ["v"], {"axis": 1})], {}),
        ([Node("Mul", ["u", "k"], ["v"])], {"k": np.ones(1, "f")}),
        ([Node("Mul", ["k", "u"], ["v"])], {"k": np.ones((), "f")}),
        ([Node("Div", ["u", "k"], ["v"])], {"k": np.ones((1, 1), "f")}),
        ([Node("Sub", ["u", "k"], ["v"])], {"k": np.zeros((), "f")}),
        ([Node("Pow", ["u", "k"], ["v"])], {"k": np.ones((), "f")}),
        ([Node("Identity", ["u"], ["v"])], {}),
    ],
)
def test_what_goes(nodes, constants):
    chain = [Node("Neg", ["x"], ["u"]), *nodes, Node("Exp", ["v"], ["y"])]
    assert simplified(chain, constants) == ["Neg", "Exp"]


@pytest.mark.parametrize(
    ("node", "constants"),
    [
        (Node("Transpose", ["x"], ["y"], {"perm": [0, 2, 1]}), {}),
        (Node("Cast", ["x"], ["y"], {"to": 7}), {}),
        (Node("Reshape", ["x", "s"], ["y"]), {"s": ints(-1, 4, 3)}),
        (Node("Slice", ["x", "b", "e", "a"], ["y"]), {"b": ints(0), "e": ints(2), "a": ints(1)}),
        (Node("Slice", ["x", "b", "e", "a", "s"], ["y"]), {
            "b": ints(-1), "e": ints(-(2**63) + 1), "a": ints(1), "s": ints(-1)}),
        (Node("Expand", ["x", "s"], ["y"]), {"s": ints(5, 1, 1, 1)}),
        (Node("Mul", ["x", "k"], ["y"]), {"k": np.ones((1, 1, 1, 1), "f")}),
        (Node("Add", ["x", "k"], ["y"]), {"k": np.zeros((), "f")}),
        (Node("Sub", ["k", "x"], ["y"]), {"k": np.zeros((), "f")}),
        (Node("Div", ["k", "x"], ["y"]), {"k": np.ones((), "f")}),
        (Node("Pow", ["k", "x"], ["y"]), {"k": np.ones((), "f")}),
        (Node("Pad", ["x", "p"], ["y"]), {"p": ints(0, 0, 0, 0, 0, 1)}),
    ],
)  # fmt: skip
def test_what_stays(node, constants):
    assert simplified([node], constants) == [node.op]


def test_reshape_that_copies_a_size_stays_behind_another():
    """A 0 of the second shape means a size of the value between."""
    nodes = [
        Node("Reshape", ["x", "s"], ["t"]),
        Node("Neg", ["t"], ["u"]),
        Node("Reshape", ["t", "r"], ["y"]),
    ]
    constants = {"s": ints(0, 4, 3), "r": ints(0, 0, 1, 3)}
    assert simplified(nodes, constants, outputs=("y", "u")) == ["Reshape", "Neg", "Reshape"]


def test_repetitions_become_one():
    nodes = [
        Node("Exp", ["x"], ["a"]),
        Node("Exp", ["x"], ["b"]),
        Node("Reshape", ["a", "s"], ["c"]),
        Node("Reshape", ["b", "r"], ["d"]),
        Node("Add", ["c", "d"], ["y"]),
    ]
    constants = {"s": ints(-1, 12), "r": ints(-1, 12)}
    assert simplified(nodes, constants) == ["Exp", "Reshape", "Add"]


def test_different_attributes_are_no_repetition():
    nodes = [
        Node("Softmax", ["x"], ["a"], {"axis": 1}),
        Node("Softmax", ["x"], ["b"], {"axis": 2}),
        Node("Add", ["a", "b"], ["y"]),
    ]
    assert simplified(nodes) == ["Softmax", "Softmax", "Add"]


def test_an_integer_and_a_number_are_different_attributes():
    nodes = [
        Node("LeakyRelu", ["x"], ["a"], {"alpha": 1.0}),
        Node("LeakyRelu", ["x"], ["b"], {"alpha": True}),
        Node("Add", ["a", "b"], ["y"]),
    ]
    assert simplified(nodes) == ["LeakyRelu", "LeakyRelu", "Add"]


def test_random_numbers_are_drawn_twice():
    nodes = [
        Node("RandomNormal", [], ["a"], {"shape": [3]}),
        Node("RandomNormal", [], ["b"], {"shape": [3]}),
        Node("Add", ["a", "b"], ["y"]),
    ]
    graph = graph_of(nodes, [], ["y"])
    simplify(graph, infer(graph))
    assert len(graph.nodes) == 3


def test_outputs_keep_their_names():
    """An output may be an input, another output, or the value of a node with another name."""
    nodes = [
        Node("Identity", ["x"], ["same"]),
        Node("Neg", ["x"], ["n"]),
        Node("Identity", ["n"], ["y"]),
        Node("Identity", ["n"], ["z"]),
        Node("Exp", ["n"], ["e"]),
    ]
    assert simplified(nodes, outputs=("same", "y", "z", "e")) == [
        "Neg", "Exp", "Identity", "Identity",
    ]  # fmt: skip


def test_what_nobody_reads_goes():
    nodes = [
        Node("Neg", ["x"], ["unused"]),
        Node("Split", ["x"], ["a", "b"], {"axis": 2, "num_outputs": 2}),
        Node("Exp", ["a"], ["y"]),
    ]
    graph = graph_of(nodes, X, ["y"], {"dead": np.ones(3)})
    simplify(graph, infer(graph))
    assert [(node.op, node.outputs) for node in graph.nodes] == [
        ("Split", ["a", ""]),
        ("Exp", ["y"]),
    ]
    assert graph.constants == {}


def test_branches_see_new_names_and_lose_unread_outputs():
    def branch(op, prefix):
        nodes = [Node(op, ["i"], [f"{prefix}1"]), Node("Exp", ["i"], [f"{prefix}2"])]
        outputs = [Value(f"{prefix}{k}", "float32", None) for k in (1, 2)]
        return Graph([], outputs, nodes, {})

    nodes = [
        Node("Identity", ["x"], ["i"]),
        Node(
            "If",
            ["c"],
            ["y", "unread"],
            {"then_branch": branch("Neg", "t"), "else_branch": branch("Sqrt", "e")},
        ),
    ]
    graph = graph_of(nodes, [*X, ("c", (), "bool")], ["y"])
    simplify(graph, infer(graph))
    assert [node.op for node in graph.nodes] == ["If"]
    assert graph.nodes[0].outputs == ["y"]
    for sub in graph.nodes[0].attributes.values():
        assert [(node.op, node.inputs) for node in sub.nodes] == [(sub.nodes[0].op, ["x"])]
        assert len(sub.outputs) == 1
