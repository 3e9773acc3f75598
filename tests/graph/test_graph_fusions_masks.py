"""Attention whose scores are hidden by a Where becomes treadle.Attention with a mask of bools."""

import numpy as np
import pytest

from reference import graph as reference
from reference.graph import graph_of
from support.graphs import fused, operators
from support.tolerance import assert_close, assert_same_bits
from treadle.graph import Node, Value
from treadle.graph.model import Model

B, N, S, K, E = 3, 2, 5, 7, 6
HIDDEN = [-np.inf, float(np.finfo("f").min), -1e9, -10000.0, 0.5]


def attention(*, turned=True, hidden=-1e9, safe=False, scaled=True, shape=("b", 1, 1, "k")):
    """softmax(where(c, low, q k' / 2)) v, or where(c, q k' / 2, low), of four inputs."""
    nodes = [
        Node("Transpose", ["k"], ["kt"], {"perm": [0, 1, 3, 2]}),
        Node("MatMul", ["q", "kt"], ["s0"]),
        *[Node("Div", ["s0", "two"], ["s1"])] * scaled,
    ]
    scores = "s1" if scaled else "s0"
    chosen = ["c", "low", scores] if turned else ["c", scores, "low"]
    nodes += [
        Node("Where", chosen, ["s2"]),
        Node("Softmax", ["s2"], ["p"], {"axis": 3}),
        *[Node("IsNaN", ["p"], ["i"]), Node("Where", ["i", "zero", "p"], ["p2"])] * safe,
        Node("MatMul", ["p2" if safe else "p", "v"], ["y"]),
    ]
    constants = {"two": np.float32(2), "zero": np.float32(0), "low": np.float32(hidden)}
    heads = [("q", ("b0", N, "s", E)), ("k", ("b1", N, "k", E)), ("v", ("b2", N, "k1", 4))]
    return graph_of(nodes, [*heads, ("c", shape, "bool")], ["y"], constants)


def given(rows=B, queries=S, mask=(B, 1, 1, K), seed=2):
    random = np.random.default_rng(seed)
    sizes = {"q": (rows, N, queries, E), "k": (rows, N, K, E), "v": (rows, N, K, 4)}
    result = {name: random.standard_normal(size).astype("f") for name, size in sizes.items()}
    result["c"] = random.random(mask) < 0.4
    result["c"].reshape(-1, mask[-1])[0] = True
    result["c"].reshape(-1, mask[-1])[-1] = False
    return result


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("queries", [1, S, 60])
def test_hidden_scores(isa, hidden, turned, queries):
    """The operator gives what the parts give, also where all keys of a query are hidden."""
    graph = attention(hidden=hidden, turned=turned)
    result, counts = fused(graph, "attention")
    assert counts["attention"] == 1
    assert "Softmax" not in operators(result)
    assert ("Not" in operators(result)) == turned
    for mask in ((B, 1, 1, K), (1, N, queries, K), (queries, K), (1,)):
        graph.inputs[3].shape = ("b", "n", "s", "k")[4 - len(mask) :]
        result, _ = fused(graph, "attention")
        inputs = given(queries=queries, mask=mask)
        exact = reference.run(graph, inputs)["y"]
        rounded, found = (Model(g, optimised=True)(**inputs)["y"] for g in (graph, result))
        assert_close(found, exact, rounded)


@pytest.mark.parametrize("hidden", [-np.inf, -1e9])
def test_rows_of_a_batch(threads, hidden):
    """A row has the same bits alone and beside others."""
    graph, inputs = attention(hidden=hidden), given(queries=60)
    model = Model(graph)
    whole = model(**inputs)["y"]
    for row in range(B):
        alone = model(**{name: array[row : row + 1] for name, array in inputs.items()})["y"]
        assert_same_bits(alone, whole[row : row + 1])


@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("queries", [1, S])
def test_softmax_without_nan(isa, safe, queries):
    """Where(IsNaN(p), 0, p) gives zeros to a query with a score that is NaN."""
    graph = attention(hidden=-np.inf, safe=safe)
    result, counts = fused(graph, "attention")
    assert counts["attention"] == 1
    assert "IsNaN" not in operators(result)
    inputs = given(queries=queries)
    inputs["q"][1, 1, -1, 2] = np.nan
    inputs["k"][2, 0, -1, 2] = np.inf
    rounded, found = (Model(g, optimised=True)(**inputs)["y"] for g in (graph, result))
    assert np.isnan(found).any() != safe
    np.testing.assert_array_equal(np.isnan(found), np.isnan(rounded))
    np.testing.assert_allclose(found, rounded, rtol=1e-5, atol=1e-6)


def change(output, **changes):
    """A function that changes the node which makes an output."""

    def apply(graph):
        node = next(node for node in graph.nodes if output in node.outputs)
        for key, value in changes.items():
            setattr(node, key, value)

    return apply


def keep(name):
    """A function that makes a value an output of the graph."""
    return lambda graph: graph.outputs.append(Value(name, "float32", None))


@pytest.mark.parametrize(
    "changed",
    [
        keep("s0"), keep("s1"), keep("s2"), keep("p"), keep("p2"),
        lambda g: g.constants.update(low=np.float32(np.inf)),
        lambda g: g.constants.update(low=np.float32(np.nan)),
        lambda g: g.constants.update(low=np.zeros((1, 1, 1, 1, 1), "f")),
        lambda g: g.constants.update(low=np.zeros((K,), "f")),
        lambda g: g.constants.update(zero=np.float32(1)),
        lambda g: g.constants.update(zero=np.zeros((1, 1, 1, 1, 1), "f")),
        change("p", attributes={"axis": 2}),
        change("s1", inputs=["s0", "q"]),
        change("s2", inputs=["c", "q", "s1"]),
        change("p2", inputs=["i", "p", "zero"]),
        change("p2", inputs=["c", "zero", "p"]),
        change("i", inputs=["s2"]),
        change("y", inputs=["p", "v"]),
        lambda g: setattr(g.inputs[3], "shape", ("a", "b", 1, 1, "k")),
        lambda g: setattr(g.inputs[3], "shape", ("b", N + 1, 1, "k")),
        lambda g: setattr(g.inputs[3], "shape", None),
    ],
)  # fmt: skip
def test_what_stays(changed):
    graph = attention(safe=True)
    assert "Softmax" not in operators(fused(graph, "attention")[0])
    changed(graph)
    assert "Softmax" in operators(fused(graph, "attention")[0])


def test_layers_with_one_mask_turn_it_once():
    """Attention of two layers with the same condition: the Not is there once."""
    first, second = attention(), attention()
    for node in second.nodes:
        node.inputs = [name if name in ("c", "low", "two") else f"2{name}" for name in node.inputs]
        node.outputs = [f"2{name}" for name in node.outputs]
    inputs = [(v.name, v.shape, v.dtype) for v in first.inputs]
    inputs += [(f"2{v.name}", v.shape) for v in first.inputs[:3]]
    nodes = [*first.nodes, *second.nodes]
    model = Model(graph_of(nodes, inputs, ["y", "2y"], first.constants))
    made = operators(model.graph)
    assert (made.count("treadle.Attention"), made.count("Not")) == (2, 1)
