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


def attention_of(graph):
    return next(node for node in graph.nodes if node.op == "treadle.Attention")


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
    assert attention_of(result).attributes["scale"] == {"both": 0.0625, "none": 1.0}.get(
        scale, 0.25
    )


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


def assert_fused(graph, given, name="y"):
    """The engine gives for the fused graph what it gives for the parts; returns the operator."""
    result, counts = fused(graph, "attention")
    assert counts["attention"] == 1
    rounded, found = (Model(g, optimised=True)(**given)[name] for g in (graph, result))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(rounded))
    exact = reference.run(graph, given)[name]
    assert_close(np.nan_to_num(found), np.nan_to_num(exact), np.nan_to_num(rounded))
    return attention_of(result), found


@pytest.mark.parametrize("hidden", [-np.inf, np.inf, -1e9, np.nan])
def test_masks_that_hide_a_row_altogether(isa, hidden):
    """All scores minus infinity give zeros in the parts and in the operator."""
    mask = np.zeros((6, 6), "f")
    mask[2] = hidden
    graph = graph_with(nodes(mask="m"), constants={"m": mask})
    graph.inputs[0].shape = ("n", 2, 6, 13)
    _, found = assert_fused(graph, {"x": numbers(graph)["x"].astype("f")})
    assert np.isnan(found[:, :, 2]).all() == (not hidden < 0)
    assert (hidden == -np.inf) == (not found[:, :, 2].any())


FLAGS = [("f", ("n", 1, 1, 6), "bool")]
NOT = [Node("Cast", ["f"], ["g"], {"to": 1}), Node("Sub", ["one", "g"], ["u"])]


@pytest.mark.parametrize(
    ("made", "inputs"),
    [
        ([Node("Where", ["f", "zero", "low"], ["m"])], FLAGS),
        ([Node("Where", ["f", "zero", "inf"], ["m"])], FLAGS),
        ([*NOT, Node("Mul", ["u", "low"], ["m"])], FLAGS),
        ([*NOT, Node("Mul", ["u", "inf"], ["m"])], FLAGS),
        ([*NOT, Node("Mul", ["u", "low"], ["m"])], [("f", ("n", 1, 1, 6), "int64")]),
        ([*NOT, Node("Mul", ["u", "some"], ["m"])], [("f", ("n", 1, 1, 6), "int64")]),
        ([Node("Identity", ["f"], ["m"])], [("f", ("n", 1, 1, 6))]),
    ],
)
def test_masks_that_are_computed(made, inputs):
    """A row is hidden by a finite number: its probabilities are those of its scores."""
    constants = {
        "zero": np.float32(0),
        "one": np.float32(1),
        "low": np.float32(np.finfo("f").min),
        "some": np.float32(-10000),
        "inf": np.float32(-np.inf),
    }
    graph = graph_with([*made, *nodes(mask="m")], extra=inputs, constants=constants)
    graph.inputs[0].shape, graph.inputs[1].shape = (3, 2, 6, 13), (3, 1, 1, 6)
    given = {k: a.astype("f") if k == "x" else a for k, a in numbers(graph).items()}
    given["f"] = (np.arange(18).reshape(3, 1, 1, 6) % 4 > 0).astype(given["f"].dtype)
    given["f"][1] = 0
    assert_fused(graph, given)


@pytest.mark.parametrize(
    ("changed", "inputs"),
    [
        (nodes(axis=1), None),
        ([*nodes(), Node("Exp", ["p"], ["z"])], None),
        ([*nodes(), Node("Exp", ["s1"], ["z"])], None),
        ([*nodes()[:-1], Node("MatMul", ["v", "p"], ["y"])], None),
        ([*nodes()[:-1], Node("MatMul", ["p", "p"], ["y"])], None),
        # heads that the engine has not, or of which it is not known that it has them
        (nodes(), [("q", (1, 2, 3, 257)), ("k", (1, 2, 3, 257)), ("v", (1, 2, 3, 5))]),
        (nodes(), [("q", (1, 2, 3, 5)), ("k", (1, 2, 3, 5)), ("v", (1, 2, 3, 257))]),
        (nodes(), [("q", (1, 2, 3, "e")), ("k", (1, 2, 3, "e")), ("v", (1, 2, 3, 5))]),
        # sizes that exclude each other
        (nodes(), [("q", (2, 2, 3, 5)), ("k", (3, 2, 3, 5)), ("v", (2, 2, 3, 5))]),
        (nodes(), [("q", (2, 2, 3, 5)), ("k", (2, 2, 3, 5)), ("v", (2, 2, 4, 5))]),
        (nodes(mask="m"), [*HEADS, ("m", (3, 1, 1, 1))]),
        (nodes(mask="m"), [*HEADS, ("m", (1, 1, 1, 1, 1))]),
        (nodes(mask="m"), [*HEADS, ("m", ())]),
    ],
)
def test_what_stays(changed, inputs):
    if inputs and ("m", (3, 1, 1, 1)) in inputs:
        inputs = [("q", (2, 2, 3, 5)), *inputs[1:]]
    graph = graph_of(changed, inputs, ["y"], CONSTANTS) if inputs else graph_with(changed)
    if changed[-1].op == "Exp":
        graph.outputs.append(type(graph.outputs[0])("z", "float32", None))
    assert "Softmax" in operators(fused(graph, "attention")[0])


SIZES = [
    # q, k, v and the mask
    ((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7), (2, 1, 1, 6)),
    ((1, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7), (1, 1, 1, 6)),
    ((2, 3, 4, 5), (1, 1, 6, 5), (1, 1, 6, 7), (4, 6)),
    ((2, 3, 4, 5), (1, 1, 6, 5), (2, 3, 6, 7), (6,)),
    ((2, 1, 4, 5), (2, 3, 6, 5), (2, 1, 6, 7), (1,)),
    ((1, 1, 1, 5), (1, 1, 6, 5), (1, 1, 6, 7), (2, 3, 4, 6)),
    ((1, 1, 3, 5), (1, 1, 1, 5), (2, 1, 6, 7), (3, 6)),
    ((2, 3, 4, 5), (2, 3, 0, 5), (2, 3, 0, 7), (1,)),
    ((0, 3, 4, 5), (1, 3, 6, 5), (1, 3, 6, 7), (1, 6)),
]


@pytest.mark.parametrize("sizes", SIZES)
def test_sizes_that_only_a_call_knows_broadcast(isa, sizes):
    """The operator repeats sizes of 1 in a call, as MatMul and Add do."""
    free = {name: (f"{name}0", f"{name}1", f"{name}2") for name in "qkv"}
    inputs = [(n, (*free[n], shape[-1])) for n, shape in zip("qkv", sizes, strict=False)]
    inputs.append(("m", tuple(f"m{i}" for i in range(len(sizes[3])))))
    graph = graph_of(nodes(mask="m"), inputs, ["y"], CONSTANTS)
    random = np.random.default_rng(4)
    given = {
        name: random.standard_normal(shape).astype("f")
        for name, shape in zip("qkvm", sizes, strict=True)
    }
    assert assert_fused(graph, given)[0].attributes["broadcast"] == 1


def test_sizes_that_do_not_broadcast_are_refused():
    inputs = [("q", ("a", 1, "b", 5)), ("k", ("c", 1, "d", 5)), ("v", ("e", 1, "f", 5))]
    inputs.append(("m", ("g", "h", "i", "j")))
    graph = graph_of(nodes(mask="m"), inputs, ["y"], CONSTANTS)
    model = Model(fused(graph, "attention")[0], optimised=True)
    right = {"q": (2, 1, 3, 5), "k": (2, 1, 4, 5), "v": (2, 1, 4, 5), "m": (2, 1, 3, 4)}
    model(**{name: np.ones(shape, "f") for name, shape in right.items()})
    for name, shape, message in [
        ("q", (3, 1, 3, 5), "the axis B has sizes 3 and 2"),
        ("m", (2, 1, 2, 4), "the axis S has sizes 3 and 2"),
        ("m", (2, 1, 3, 2), "the mask has 2 keys, expected 1 or 4"),
        ("v", (2, 1, 3, 5), "the shapes of queries, keys and values do not fit each other"),
    ]:
        wrong = {**right, name: shape}
        with pytest.raises(ValueError, match=message):
            model(**{name: np.ones(shape, "f") for name, shape in wrong.items()})


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
