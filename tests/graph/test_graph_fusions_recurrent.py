"""Recurrent layers and steps become treadle.Recurrent, with the same numbers; others stay."""

import numpy as np
import pytest

from reference import graph as reference
from reference.graph import graph_of
from support.graphs import fused, numbers, operators
from support.tolerance import assert_close
from treadle.graph import Graph, Node, Value
from treadle.graph.model import Model
from treadle.graph.optimise import optimise

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
T, B, I, H = 5, 3, 7, 6


def normal(random, *shape):
    return (random.standard_normal(shape) / 2).astype("f")


def native(graph, inputs):
    """The outputs of a graph as the engine runs it, without any pass."""
    return Model(graph, optimised=True)(**inputs)


def layer(op, random, *, extra=(), fixed=None, **attributes):
    """A graph of one layer with these extra inputs: bias, lengths, h, c, peepholes."""
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    rows = GATES[op] * H
    constants = {
        "w": normal(random, directions, rows, I),
        "r": normal(random, directions, rows, H),
        "b": normal(random, directions, 2 * rows),
        "p": normal(random, directions, 3 * H),
        **(fixed or {}),
    }
    names = ["x", "w", "r", *(one if one in extra else "" for one in ("b", "l", "h", "c", "p"))]
    inputs = [("x", ("t", "n", I))]
    inputs += [("l", ("n",), "int32")] * ("l" in extra)
    inputs += [(one, (directions, "n", H)) for one in "hc" if one in extra]
    outputs = ["y", "y_h", "y_c"][: 3 if op == "LSTM" else 2]
    node = Node(op, names, outputs, {"hidden_size": H, **attributes})
    values = {one[0] for one in inputs}
    constants = {k: v for k, v in constants.items() if k in names and k not in values}
    return graph_of([node], inputs, outputs, constants)


def given(graph, random, batch=B):
    inputs = {
        value.name: normal(random, *[{"t": T, "n": batch}.get(n, n) for n in value.shape])
        for value in graph.inputs
    }
    if "l" in inputs:
        inputs["l"] = np.array([5, 0, 3][:batch], np.int32)
    return inputs


CASES = [
    ("LSTM", ("b",), {}),
    ("LSTM", (), {"direction": "reverse"}),
    ("LSTM", ("b", "h", "c"), {"direction": "bidirectional"}),
    ("LSTM", ("b", "p", "l"), {"direction": "bidirectional"}),
    ("LSTM", ("b", "p", "h", "c", "l"), {"clip": 0.25}),
    ("LSTM", ("b",), {"input_forget": 1}),
    ("LSTM", ("b", "h"), {"activations": ["HardSigmoid", "Softsign", "Relu"]}),
    ("GRU", ("b",), {"linear_before_reset": 1}),
    ("GRU", ("b", "h", "l"), {"direction": "bidirectional"}),
    ("GRU", (), {"direction": "reverse", "activations": ["Sigmoid", "LeakyRelu"]}),
    ("RNN", ("b", "h"), {}),
    ("RNN", ("b", "l"), {"direction": "bidirectional", "activations": ["Relu", "Relu"]}),
]


@pytest.mark.parametrize(("op", "extra", "attributes"), CASES)
def test_layers(isa, op, extra, attributes):
    """The engine's own ONNX operators pack the same weights in each call: the bits are equal."""
    random = np.random.default_rng(3)
    graph = layer(op, random, extra=extra, **attributes)
    result, counts = fused(graph, "recurrent")
    assert counts["recurrent"] == 1
    assert op not in operators(result)
    inputs = given(graph, random)
    wanted, found = native(graph, inputs), native(result, inputs)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    ("op", "extra", "attributes", "fixed"),
    [
        ("LSTM", (), {"layout": 1}, {}),
        (
            "LSTM",
            (),
            {"activations": ["HardSigmoid", "Tanh", "Tanh"], "activation_alpha": [0.3]},
            {},
        ),
        ("GRU", (), {"activations": ["Sigmoid", "Affine"]}, {}),
        ("RNN", (), {"direction": "bidirectional", "activations": ["Relu", "Tanh"]}, {}),
        ("RNN", (), {"hidden_size": 5}, {}),
        ("RNN", ("b",), {}, {"b": np.zeros((1, 3), "f")}),
        ("RNN", (), {"direction": "bidirectional"}, {"w": np.zeros((1, H, I), "f")}),
    ],
)
def test_layers_that_stay(op, extra, attributes, fixed):
    graph = layer(op, np.random.default_rng(3), extra=extra, fixed=fixed, **attributes)
    assert operators(fused(graph, "recurrent")[0]) == [op]


def test_weights_that_are_inputs_stay():
    graph = layer("RNN", np.random.default_rng(3))
    graph.inputs.append(Value("w", "float32", (1, H, I)))
    del graph.constants["w"]
    assert operators(fused(graph, "recurrent")[0]) == ["RNN"]


def test_states_of_zeros_go():
    """PyTorch writes zeros of the batch's size; they are a state that is not there."""
    random = np.random.default_rng(4)
    graph = layer("GRU", random, extra=("b", "h"))
    graph.inputs.pop()
    graph.nodes[:0] = [
        Node("Shape", ["x"], ["s"]),
        Node("Gather", ["s", "one"], ["n"], {"axis": 0}),
        Node("Concat", ["two", "n", "size"], ["z"], {"axis": 0}),
        Node("ConstantOfShape", ["z"], ["zeros"]),
        Node("Slice", ["zeros", "zero", "one", "zero"], ["h"]),
    ]
    graph.constants |= {
        "zero": np.array([0]),
        "one": np.array([1]),
        "two": np.array([2]),
        "size": np.array([H]),
    }
    result, _ = optimise(graph)
    assert operators(result)[0] == "treadle.Recurrent"
    assert result.nodes[0].inputs[1] == ""
    inputs = given(graph, random)
    np.testing.assert_array_equal(native(result, inputs)["y"], native(graph, inputs)["y"])


def test_states_of_zeros_of_another_shape_stay():
    """A wrong number of rows is an error, and must remain one."""
    graph = layer("GRU", np.random.default_rng(4), extra=("h",))
    graph.inputs.pop()
    graph.constants["h"] = np.zeros((1, 2, H), "f")
    result, _ = fused(graph, "recurrent")
    assert result.nodes[0].inputs[1] == "h"
    with pytest.raises(ValueError, match="a state has shape"):
        native(result, {"x": np.zeros((T, B, I), "f")})


# ---- steps that exporters took apart -----------------------------------------------------------


def step(random, order="ifgo", *, bias="linear", axis=1, states=("n", "n"), size=H):
    """One step of an LSTM from products, its gates in some order."""
    rows = 4 * size
    constants = {
        "w": normal(random, I, rows),
        "r": normal(random, size, rows),
        "b": normal(random, rows),
    }
    nodes = [Node("MatMul", ["x", "w"], ["p"]), Node("MatMul", ["h", "r"], ["q"])]
    if bias == "linear":
        nodes.append(Node("Add", ["p", "b"], ["pb"]))
    nodes.append(Node("Add", ["q", "pb" if bias == "linear" else "p"], ["a"]))
    if bias == "behind":
        nodes.append(Node("Add", ["a", "b"], ["ab"]))
    gates = "ab" if bias == "behind" else "a"
    nodes.append(Node("Split", [gates], list(order), {"axis": axis, "num_outputs": 4}))
    nodes += [Node("Sigmoid", [gate], [f"s{gate}"]) for gate in "ifo"]
    nodes += [
        Node("Tanh", ["g"], ["tg"]),
        Node("Mul", ["sf", "c"], ["fc"]),
        Node("Mul", ["si", "tg"], ["ig"]),
        Node("Add", ["fc", "ig"], ["c2"]),
        Node("Unsqueeze", ["c2", "front"], ["c3"]),
        Node("Tanh", ["c2"], ["tc"]),
        Node("Mul", ["so", "tc"], ["h2"]),
    ]
    constants["front"] = np.array([0])
    inputs = [("x", ("n", I)), ("h", (states[0], size)), ("c", (states[1], size))]
    return graph_of(nodes, inputs, ["h2", "c2", "c3"], constants)


FUSED = ["linear", "lstm cell"]


@pytest.mark.parametrize("order", ["ifgo", "iogf", "fiog", "gofi"])
@pytest.mark.parametrize("bias", ["linear", "behind", "none"])
def test_steps(isa, order, bias):
    random = np.random.default_rng(6)
    graph = step(random, order, bias=bias, axis=-1 if order == "iogf" else 1)
    result, counts = fused(graph, *FUSED)
    assert counts["lstm cell"] == 1
    assert "Split" not in operators(result)
    inputs = {k: v.astype("f") for k, v in numbers(graph).items()}
    exact = reference.run(graph, inputs)
    rounded, found = native(graph, inputs), native(result, inputs)
    for name in ("h2", "c2", "c3"):
        assert_close(found[name], exact[name], rounded[name])


@pytest.mark.parametrize("batches", [(3, 1, 1), (1, 3, 1), (1, 1, 3), (3, 3, 1), (0, 1, 1)])
def test_steps_broadcast(batches):
    """One row of x, h or c counts for all, as in the sums that the file has."""
    random = np.random.default_rng(7)
    graph = step(random, states=("m", "k"))
    result, _ = fused(graph, *FUSED)
    inputs = {
        "x": normal(random, batches[0], I),
        "h": normal(random, batches[1], H),
        "c": normal(random, batches[2], H),
    }
    exact, rounded = reference.run(graph, inputs), native(graph, inputs)
    found = native(result, inputs)
    for name in ("h2", "c2"):
        assert_close(found[name], exact[name], rounded[name])


def test_steps_of_sizes_that_do_not_fit():
    graph = step(np.random.default_rng(8), states=("m", "k"))
    result, _ = fused(graph, *FUSED)
    inputs = {"x": np.ones((3, I), "f"), "h": np.ones((2, H), "f"), "c": np.ones((3, H), "f")}
    with pytest.raises(ValueError, match="a state has shape"):
        native(result, inputs)


def test_steps_of_square_products():
    """Where x is as wide as h, either may be the state: they are summed."""
    random = np.random.default_rng(9)
    graph = step(random, size=I)
    result, counts = fused(graph, *FUSED)
    assert counts["lstm cell"] == 1
    inputs = {k: v.astype("f") for k, v in numbers(graph).items()}
    exact, rounded = reference.run(graph, inputs), native(graph, inputs)
    assert_close(native(result, inputs)["h2"], exact["h2"], rounded["h2"])


def test_two_steps_one_behind_the_other():
    first, second = (step(np.random.default_rng(seed), size=H) for seed in (1, 2))
    for node in second.nodes:
        node.inputs = [f"2{name}" if name else "" for name in node.inputs]
        node.outputs = [f"2{name}" for name in node.outputs]
    constants = {f"2{k}": v for k, v in second.constants.items()}
    constants["2w"] = normal(np.random.default_rng(3), H, 4 * H)
    bridge = Node("Identity", ["h2"], ["2x"])
    inputs = [(v.name, v.shape) for v in first.inputs] + [("2h", ("n", H)), ("2c", ("n", H))]
    graph = graph_of(
        [*first.nodes, bridge, *second.nodes],
        inputs,
        ["2h2", "c2", "2c2"],
        {**first.constants, **constants},
    )
    result, report = optimise(graph)
    assert report.changes["lstm cell"] == 2
    given = {k: v.astype("f") for k, v in numbers(graph).items()}
    exact, rounded, found = reference.run(graph, given), native(graph, given), native(result, given)
    for name in exact:
        assert_close(found[name], exact[name], rounded[name])


def change(graph, output, **changes):
    """Change the node that makes an output."""
    node = next(node for node in graph.nodes if output in node.outputs)
    for key, value in changes.items():
        setattr(node, key, value)


@pytest.mark.parametrize(
    "changed",
    [
        lambda g: change(g, "tg", op="Relu"),
        lambda g: change(g, "sf", op="Tanh"),
        lambda g: change(g, "tc", op="Sigmoid"),
        lambda g: change(g, "fc", inputs=["sf", "sf"]),
        lambda g: change(g, "fc", op="Add"),
        lambda g: change(g, "ig", inputs=["sf", "tg"]),
        lambda g: change(g, "h2", inputs=["si", "tc"]),
        lambda g: change(g, "a", inputs=["q", "q"]),
        lambda g: change(g, "i", attributes={"axis": 0, "num_outputs": 4}),
        lambda g: g.outputs.append(Value("tg", "float32", None)),
        lambda g: g.outputs.append(Value("a", "float32", None)),
        lambda g: g.outputs.append(Value("tc", "float32", None)),
        lambda g: g.constants.update(r=np.zeros((H + 1, 4 * H), "f")),
        lambda g: change(g, "a", inputs=["q"]),
        lambda g: change(g, "fc", inputs=["sf"]),
        lambda g: change(g, "ig", inputs=["si", "tg", "tg"]),
    ],
)
def test_what_is_no_step_stays(changed):
    graph = step(np.random.default_rng(6))
    changed(graph)
    assert "Split" in operators(fused(graph, *FUSED)[0])


def test_steps_within_branches():
    """silero's files have a step in each branch."""
    inner = step(np.random.default_rng(6))
    then = Graph([], [Value("h2", "float32", None)], inner.nodes, inner.constants)
    other = Graph([], [Value("h", "float32", None)], [], {})
    node = Node("If", ["k"], ["y"], {"then_branch": then, "else_branch": other})
    inputs = [(v.name, v.shape) for v in inner.inputs] + [("k", (), "bool")]
    graph = graph_of([node], inputs, ["y"])
    result, counts = fused(graph, *FUSED)
    assert counts["lstm cell"] == 1
    given = {k: v.astype("f") for k, v in numbers(inner).items()} | {"k": np.array(True)}
    exact, rounded = reference.run(graph, given), native(graph, given)
    assert_close(native(result, given)["y"], exact["y"], rounded["y"])


# ---- stacks ------------------------------------------------------------------------------------


def stack(random, op, *, direction="forward", states=None, finals=None, sizes=(H, H)):
    """Two layers as PyTorch's exporter writes them: Y, Transpose, Reshape (or Squeeze), the next.

    states    None, "cut" (parts of one input) or "own" (an input each)
    finals    None, "concat" (h_n of both), "first" (that of the first layer)
    """
    directions = 2 if direction == "bidirectional" else 1
    constants, nodes, inputs = {}, [], [("x", ("t", "n", I))]
    x, width, last = "x", I, []
    if states == "cut":
        inputs.append(("h0", (2 * directions, "n", H)))
    for number, hidden in enumerate(sizes):
        rows = GATES[op] * hidden
        constants |= {
            f"w{number}": normal(random, directions, rows, width),
            f"r{number}": normal(random, directions, rows, hidden),
            f"b{number}": normal(random, directions, 2 * rows),
            f"begin{number}": np.array([number * directions]),
            f"end{number}": np.array([(number + 1) * directions]),
        }
        state = ""
        if states == "own":
            state = f"h{number}"
            inputs.append((state, (directions, "n", hidden)))
        elif states == "cut":
            state = f"s{number}"
            nodes.append(Node("Slice", ["h0", f"begin{number}", f"end{number}", "zero"], [state]))
        nodes.append(
            Node(
                op,
                [x, f"w{number}", f"r{number}", f"b{number}", "", state],
                [f"y{number}", f"f{number}"],
                {"direction": direction, "hidden_size": hidden},
            )
        )
        last.append(f"f{number}")
        if directions == 2:
            nodes.append(Node("Transpose", [f"y{number}"], [f"t{number}"], {"perm": [0, 2, 1, 3]}))
            nodes.append(Node("Reshape", [f"t{number}", "join"], [f"z{number}"]))
        else:
            nodes.append(Node("Squeeze", [f"y{number}", "one"], [f"z{number}"]))
        x, width = f"z{number}", directions * hidden
    constants |= {"one": np.array([1]), "zero": np.array([0]), "join": np.array([0, 0, -1])}
    outputs = [x]
    if finals == "concat":
        nodes.append(Node("Concat", last, ["h_n"], {"axis": 0}))
        outputs.append("h_n")
    elif finals == "first":
        outputs.append(last[0])
    return graph_of(nodes, inputs, outputs, constants)


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("states", [None, "cut", "own"])
@pytest.mark.parametrize("finals", [None, "concat"])
def test_stacks(op, direction, states, finals):
    random = np.random.default_rng(12)
    graph = stack(random, op, direction=direction, states=states, finals=finals)
    result, report = optimise(graph)
    assert report.changes["recurrent stack"] == 1
    expected = ["treadle.Recurrent"] if states != "own" else ["Concat", "treadle.Recurrent"]
    assert operators(result) == expected
    inputs = given(graph, random)
    wanted, found = native(graph, inputs), native(result, inputs)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def test_stacks_of_three():
    random = np.random.default_rng(13)
    graph = stack(random, "GRU", states="own", finals="concat", sizes=(H, H, H))
    result, report = optimise(graph)
    assert report.changes["recurrent stack"] == 2
    assert operators(result).count("treadle.Recurrent") == 1
    inputs = given(graph, random)
    wanted, found = native(graph, inputs), native(result, inputs)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    "changed",
    [
        {"sizes": (H, H + 1)},
        {"finals": "first"},
    ],
)
def test_stacks_that_stay_apart(changed):
    random = np.random.default_rng(14)
    graph = stack(random, "LSTM", **changed)
    result, report = optimise(graph)
    assert report.changes["recurrent stack"] == 0
    assert operators(result).count("treadle.Recurrent") == 2
    inputs = given(graph, random)
    wanted, found = native(graph, inputs), native(result, inputs)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_layer_that_others_read_stays_apart():
    graph = stack(np.random.default_rng(15), "GRU")
    graph.outputs.append(Value("z0", "float32", None))
    assert optimise(graph)[1].changes["recurrent stack"] == 0


def test_layers_of_different_options_stay_apart():
    graph = stack(np.random.default_rng(16), "RNN")
    graph.nodes[2].attributes["activations"] = ["Relu"]
    assert optimise(graph)[1].changes["recurrent stack"] == 0
