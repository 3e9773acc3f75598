"""Attention of two products and a softmax becomes treadle.Attention; others stay."""

import numpy as np
import pytest

from reference import graph as reference
from reference.graph import graph_of
from support.graphs import assert_same, fused, numbers, operators
from support.tolerance import assert_close
from treadle.graph import Node
from treadle.graph.model import Model
from treadle.graph.optimise import optimise

HEADS = [("q", ("n", 2, "s", 5)), ("k", ("n", 2, "t", 5)), ("v", ("n", 2, "t", 3))]


def nodes(rank=4, scale="scores", mask=None, axis=-1):
    back = [*range(rank - 2), rank - 1, rank - 2]
    result = [Node("Transpose", ["k"], ["kt"], {"perm": back})]
    q, k, s = "q", "kt", "s0"
    if scale in ("q", "both"):
        result.append(Node("Mul", ["q", "third"], ["qs"]))
        q = "qs"
    if scale in ("k", "both"):
        result.append(Node("Mul", ["third", "kt"], ["ks"]))
        k = "ks"
    result.append(Node("MatMul", [q, k], ["s0"]))
    if scale == "scores":
        result.append(Node("Div", ["s0", "three"], ["s1"]))
        s = "s1"
    if mask:
        result.append(Node("Add", [s, mask] if mask == "m" else [mask, s], ["s2"]))
        s = "s2"
    result.append(Node("Softmax", [s], ["p"], {"axis": axis}))
    result.append(Node("MatMul", ["p", "v"], ["y"]))
    return result


CONSTANTS = {"third": np.float32(0.25), "three": np.float32([4])}


def graph_with(attention, rank=4, extra=(), constants=None):
    """A graph in which q, k and v are cut out of one input, so that their symbols are the same."""
    last = {"q": 5, "k": 5, "v": 3}
    ends = {"q": (0, 5), "k": (5, 10), "v": (10, 13)}
    axis = np.array([rank - 1])
    arrays = {**CONSTANTS, "axis": axis, **(constants or {})}
    cuts = []
    for name in last:
        arrays |= {f"{name}0": np.array([ends[name][0]]), f"{name}1": np.array([ends[name][1]])}
        cuts.append(Node("Slice", ["x", f"{name}0", f"{name}1", "axis"], [name]))
    shape = ("n", 2, "s", 13) if rank == 4 else ("n", "s", 13)
    return graph_of([*cuts, *attention], [("x", shape), *extra], ["y"], arrays)


@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("scale", ["scores", "q", "k", "both", "none"])
def test_attention(rank, scale):
    graph = graph_with(nodes(rank, scale), rank)
    result, counts = fused(graph, "attention")
    assert counts["attention"] == 1
    assert_same(graph, result)
    assert "Softmax" not in operators(result)
    attention = next(node for node in result.nodes if node.op == "treadle.Attention")
    assert attention.attributes["scale"] == {"both": 0.0625, "none": 1.0}.get(scale, 0.25)


@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("shape", [(6, 6), (1, 6), (6, 1), (6,), (1, 1, 6)])
def test_masks_that_add(isa, rank, shape):
    """A mask may be any number; the engine gives what its parts give."""
    mask = np.random.default_rng(1).standard_normal(shape).astype("f")
    mask.reshape(-1)[::3] = -1e9
    graph = graph_with(nodes(rank, mask="m"), rank, constants={"m": mask})
    graph.inputs[0].shape = tuple(6 if n == "s" else n for n in graph.inputs[0].shape)
    result, counts = fused(graph, "attention")
    assert counts["attention"] == 1
    assert_same(graph, result)
    inputs = {"x": numbers(graph)["x"].astype("f")}
    exact = reference.run(graph, inputs)["y"]
    rounded, found = (Model(g, optimised=True)(**inputs)["y"] for g in (graph, result))
    assert_close(found, exact, rounded)


def test_masks_that_hide_a_row_altogether():
    """All scores minus infinity are NaN in the parts, which the operator would not give."""
    for hidden, count in ((-np.inf, 0), (np.inf, 0), (-1e9, 1)):
        mask = np.zeros((6, 6), "f")
        mask[2] = hidden
        graph = graph_with(nodes(mask="m"), constants={"m": mask})
        graph.inputs[0].shape = ("n", 2, 6, 13)
        assert fused(graph, "attention")[1]["attention"] == count


FLAGS = [("f", ("n", 1, 1, 6), "bool")]
NOT = [Node("Cast", ["f"], ["g"], {"to": 1}), Node("Sub", ["one", "g"], ["u"])]


@pytest.mark.parametrize(
    ("made", "inputs", "expected"),
    [
        ([Node("Where", ["f", "zero", "low"], ["m"])], FLAGS, 1),
        ([Node("Where", ["f", "zero", "inf"], ["m"])], FLAGS, 0),
        ([*NOT, Node("Mul", ["u", "low"], ["m"])], FLAGS, 1),
        ([*NOT, Node("Mul", ["u", "inf"], ["m"])], FLAGS, 0),
        ([*NOT, Node("Mul", ["u", "low"], ["m"])], [("f", ("n", 1, 1, 6), "int64")], 0),
        ([*NOT, Node("Mul", ["u", "some"], ["m"])], [("f", ("n", 1, 1, 6), "int64")], 1),
        ([Node("Identity", ["f"], ["m"])], [("f", ("n", 1, 1, 6))], 0),
    ],
)
def test_masks_that_are_computed(made, inputs, expected):
    """Only masks of which it is known that they are finite are taken."""
    constants = {
        "zero": np.float32(0),
        "one": np.float32(1),
        "low": np.float32(np.finfo("f").min),
        "some": np.float32(-10000),
        "inf": np.float32(-np.inf),
    }
    graph = graph_with([*made, *nodes(mask="m")], extra=inputs, constants=constants)
    graph.inputs[0].shape, graph.inputs[1].shape = (3, 2, 6, 13), (3, 1, 1, 6)
    assert fused(graph, "attention")[1]["attention"] == expected


@pytest.mark.parametrize(
    ("changed", "inputs"),
    [
        (nodes(axis=1), None),
        (nodes(), HEADS),  # other symbols: the batches may differ and broadcast
        (nodes(mask="m"), None),  # a mask whose size is another symbol
        ([*nodes(), Node("Exp", ["p"], ["z"])], None),
        ([*nodes(), Node("Exp", ["s1"], ["z"])], None),
        ([*nodes()[:-1], Node("MatMul", ["v", "p"], ["y"])], None),
    ],
)
def test_what_stays(changed, inputs):
    extra = [("m", ("u", "w"))] if any("m" in node.inputs for node in changed) else []
    graph = graph_with(changed, extra=extra)
    if inputs:
        graph = graph_of(changed, inputs, ["y"], CONSTANTS)
    if changed[-1].op == "Exp":
        graph.outputs.append(type(graph.outputs[0])("z", "float32", None))
    assert "Softmax" in operators(fused(graph, "attention")[0])


def test_heads_need_no_transposes():
    """Linear, heads apart, attention, heads together, Linear: no Transpose is left."""
    random = np.random.default_rng(5)
    constants = {
        **{name: random.standard_normal((12, 12)).astype("f") for name in ("wq", "wk", "wv", "wo")},
        "apart": np.array([0, -1, 3, 4]),
        "together": np.array([0, -1, 12]),
        "half": np.float32(0.5),
    }
    chain = []
    for name in "qkv":
        chain += [
            Node("MatMul", ["x", f"w{name}"], [f"{name}1"]),
            Node("Reshape", [f"{name}1", "apart"], [f"{name}2"]),
            Node("Transpose", [f"{name}2"], [f"{name}3"],
                 {"perm": [0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]}),
        ]  # fmt: skip
    chain += [
        Node("MatMul", ["q3", "k3"], ["s"]),
        Node("Mul", ["s", "half"], ["t"]),
        Node("Softmax", ["t"], ["p"], {"axis": 3}),
        Node("MatMul", ["p", "v3"], ["a"]),
        Node("Transpose", ["a"], ["b"], {"perm": [0, 2, 1, 3]}),
        Node("Reshape", ["b", "together"], ["c"]),
        Node("MatMul", ["c", "wo"], ["y"]),
    ]
    graph = graph_of(chain, [("x", ("n", "t", 12))], ["y"], constants)
    result, report = optimise(graph)
    assert report.changes["attention"] == 1
    assert operators(result) == [
        *["treadle.Linear", "Reshape"] * 3, "treadle.Attention", "Reshape", "treadle.Linear",
    ]  # fmt: skip
    assert_same(graph, result)
