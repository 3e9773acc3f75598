"""Steps of a GRU and of an RNN that were taken apart become treadle.Recurrent; others stay."""

import numpy as np
import pytest

from reference import graph as reference
from reference.graph import graph_of
from support.graphs import fused, numbers, operators
from support.tolerance import assert_close, assert_same_bits
from treadle.graph import Graph, Node, Value
from treadle.graph.model import Model
from treadle.graph.optimise import optimise

I, H = 7, 6
GRU, RNN = ["linear", "gru cell"], ["linear", "rnn cell"]


def normal(random, *shape):
    return (random.standard_normal(shape) / 2).astype("f")


def gemm(name, x, rows, inputs, random, constants, bias):
    """The nodes and constants of W x, perhaps with a bias."""
    constants[f"{name}.w"] = normal(random, rows, inputs)
    if bias:
        constants[f"{name}.b"] = normal(random, rows)
    return Node("Gemm", [x, f"{name}.w", *[f"{name}.b"] * bias], [name], {"transB": 1})


def parts(name, whole, how, count, constants):
    """The parts of H columns of a value: outputs of a Split, or Slices."""
    names = [f"{name}{i}" for i in range(count)]
    if how == "slice":
        for i in range(count + 1):
            constants[f"at{i}"] = np.array([i * H])
        constants["one axis"] = np.array([1])
        return names, [
            Node("Slice", [whole, f"at{i}", f"at{i + 1}", "one axis"], [names[i]])
            for i in range(count)
        ]
    if how == "sizes":
        constants[f"sizes{count}"] = np.array([H] * count)
        return names, [Node("Split", [whole, f"sizes{count}"], names, {"axis": -1})]
    return names, [Node("Split", [whole], names, {"axis": 1, "num_outputs": count})]


def mixture(form, keep):
    """h' of z, n and h."""
    a, b = ("n", "h") if keep else ("h", "n")
    if form == "two":
        return [
            Node("Sub", ["1", "z"], ["rest"]), Node("Mul", ["rest", a], ["first"]),
            Node("Mul", [b, "z"], ["second"]), Node("Add", ["second", "first"], ["y"]),
        ]  # fmt: skip
    return [
        Node("Sub", [b, a], ["difference"]), Node("Mul", ["difference", "z"], ["second"]),
        Node("Add", [a, "second"], ["y"]),
    ]  # fmt: skip


def gru(how="split", *, after=True, form="one", keep=True, bias=(1, 1), act="Tanh", seed=6):
    """One step: `how` says whether products are cut, or separate, or those of a row [x, h]."""
    random, constants = np.random.default_rng(seed), {"1": np.float32(1)}
    nodes, n = [], ["n.x"]
    if how == "joined":
        nodes += [Node("Concat", ["x", "h"], ["xh"], {"axis": 1})]
        for gate in "rz":
            nodes.append(gemm(f"a{gate}", "xh", H, I + H, random, constants, bias[0]))
            nodes.append(Node("Sigmoid", [f"a{gate}"], [gate]))
        nodes += [
            Node("Mul", ["r", "h"], ["rh"]),
            Node("Concat", ["x", "rh"], ["xrh"], {"axis": -1}),
        ]
        nodes += [gemm("an", "xrh", H, I + H, random, constants, bias[1])]
        nodes += [Node(act, ["an"], ["n"]), *mixture(form, keep)]
        return graph_of(nodes, [("x", ("b", I)), ("h", ("b", H))], ["y"], constants)
    if how == "apart":
        x, h = [f"x{g}" for g in "rzn"], [f"h{g}" for g in "rzn"]
        nodes += [gemm(name, "x", H, I, random, constants, bias[0]) for name in x]
        nodes += [gemm(name, "h", H, H, random, constants, bias[1]) for name in h[: 2 + after]]
    else:
        count = 3 if after else 2
        nodes.append(gemm("px", "x", 3 * H, I, random, constants, bias[0]))
        nodes.append(gemm("ph", "h", count * H, H, random, constants, bias[1]))
        x, more = parts("x", "px", how, 3, constants)
        h, most = parts("h", "ph", how, count, constants)
        nodes += more + most
    for place, gate in enumerate("rz"):
        nodes.append(Node("Add", [h[place], x[place]], [f"a{gate}"]))
        nodes.append(Node("Sigmoid", [f"a{gate}"], [gate]))
    if after:
        n = [Node("Mul", ["r", h[2]], ["rh"])]
    else:
        n = [Node("Mul", ["h", "r"], ["rxh"]), gemm("rh", "rxh", H, H, random, constants, bias[1])]
    nodes += [*n, Node("Add", [x[2], "rh"], ["an"]), Node(act, ["an"], ["n"])]
    nodes += mixture(form, keep)
    return graph_of(nodes, [("x", ("b", I)), ("h", ("b", H))], ["y"], constants)


def assert_step(graph, names, count="gru cell", given=None):
    """It becomes one operator, which gives what the parts give; returns it."""
    result, counts = fused(graph, *names)
    assert counts[count] == 1
    left = operators(result)
    assert left.count("treadle.Recurrent") == 1
    assert not {"Sigmoid", "Tanh", "Relu", "treadle.Linear"} & set(left)
    given = {k: v.astype("f") for k, v in numbers(graph).items()} if given is None else given
    exact = reference.run(graph, given)
    rounded, found = (Model(g, optimised=True)(**given) for g in (graph, result))
    for name, array in exact.items():
        assert_close(found[name], array, rounded[name])
    return next(node for node in result.nodes if node.op == "treadle.Recurrent")


@pytest.mark.parametrize("how", ["split", "sizes", "slice", "apart"])
@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("form", ["one", "two"])
@pytest.mark.parametrize("keep", [True, False])
def test_gru_steps(isa, how, after, form, keep):
    node = assert_step(gru(how, after=after, form=form, keep=keep), GRU)
    assert node.attributes["reset_after"] == after


@pytest.mark.parametrize("bias", [(0, 0), (1, 0), (0, 1)])
@pytest.mark.parametrize("after", [True, False])
def test_gru_steps_without_bias(bias, after):
    node = assert_step(gru(after=after, bias=bias), GRU)
    assert node.attributes["bias"] == any(bias)


@pytest.mark.parametrize("bias", [0, 1])
@pytest.mark.parametrize("act", ["Tanh", "Relu"])
def test_gru_steps_of_joined_rows(isa, bias, act):
    node = assert_step(gru("joined", bias=(bias, bias), act=act, form="two"), GRU)
    assert node.attributes["activation"] == [act.lower()]


def test_gru_gates_that_are_cut_behind_the_sigmoid():
    graph = gru("split")
    random, constants = np.random.default_rng(3), graph.constants
    nodes = [
        gemm("px", "x", 2 * H, I, random, constants, 1),
        gemm("ph", "h", 2 * H, H, random, constants, 0),
        Node("Add", ["px", "ph"], ["a"]),
        Node("Sigmoid", ["a"], ["rz"]),
        Node("Split", ["rz"], ["r", "z"], {"axis": 1, "num_outputs": 2}),
        gemm("nx", "x", H, I, random, constants, 1),
        gemm("nh", "h", H, H, random, constants, 1),
        Node("Mul", ["r", "nh"], ["rh"]),
        Node("Add", ["nx", "rh"], ["an"]),
        Node("Tanh", ["an"], ["n"]),
        *mixture("two", True),
    ]
    assert_step(Graph(graph.inputs, graph.outputs, nodes, constants), GRU)


def test_several_inputs():
    """Products of two inputs of the same number of rows are one of both."""
    graph = gru("apart")
    graph.inputs[0] = Value("w", "float32", ("b", I + 3))
    cuts = {
        "from": np.array([0]),
        "mid": np.array([3]),
        "to": np.array([I + 3]),
        "ax": np.array([1]),
    }
    graph.constants |= cuts
    random, nodes = np.random.default_rng(8), []
    nodes += [Node("Slice", ["w", "mid", "to", "ax"], ["x"])]
    nodes += [Node("Slice", ["w", "from", "mid", "ax"], ["u"])]
    for gate, name in zip("rzn", ("ar", "az", "an"), strict=True):
        nodes.append(gemm(f"u{gate}", "u", H, 3, random, graph.constants, 1))
        node = next(node for node in graph.nodes if name in node.outputs)
        node.outputs = [f"{name}.own"]
        graph.nodes.insert(
            graph.nodes.index(node) + 1, Node("Add", [f"{name}.own", f"u{gate}"], [name])
        )
    graph.nodes[:0] = nodes
    node = assert_step(graph, GRU)
    assert node.attributes["input_size"] == I + 3


@pytest.mark.parametrize("sizes", [(3, 1), (1, 3), (0, 1), (1, 1)])
@pytest.mark.parametrize("after", [True, False])
def test_steps_broadcast(sizes, after):
    """One row of x or of h counts for all."""
    random = np.random.default_rng(7)
    given = {"x": normal(random, sizes[0], I), "h": normal(random, sizes[1], H)}
    assert_step(gru(after=after), GRU, given=given)


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
        *(keep(name) for name in ("px", "ph", "x0", "h2", "ar", "r", "z", "rh", "an", "n", "rest")),
        change("r", op="Tanh"),
        change("z", op="Tanh"),
        change("n", op="Sigmoid"),
        change("rest", inputs=["z", "1"]),
        change("rest", inputs=["1", "r"]),
        change("first", inputs=["rest", "h"]),
        change("second", inputs=["h", "r"]),
        change("second", inputs=["x0", "z"]),
        change("y", op="Sub"),
        change("rh", inputs=["r", "x2"]),
        change("an", inputs=["rh", "rh"]),
        change("an", inputs=["h2", "rh"]),
        change("ar", inputs=["h0", "h0"]),
        change("az", inputs=["x1", "x1"]),
        change("x0", attributes={"axis": 0, "num_outputs": 3}),
        change("ph", inputs=["h", "v"]),
        lambda g: g.constants.update({"1": np.float32(2)}),
        lambda g: g.constants.update({"1": np.ones((1, 1, 1), "f")}),
        lambda g: g.constants.update({"ph.w": np.full((3 * H, H), np.inf, "f")}),
        lambda g: setattr(g.inputs[1], "shape", ("a", "b", H)),
        lambda g: setattr(g.inputs[1], "shape", None),
    ],
)
def test_what_is_no_step_of_a_gru_stays(changed):
    graph = gru(form="two")
    graph.inputs.append(Value("v", "float32", (3 * H, H)))
    assert "Sigmoid" not in operators(fused(graph, *GRU)[0])
    changed(graph)
    assert "treadle.Recurrent" not in operators(fused(graph, *GRU)[0])


def rnn(how="apart", *, act="Tanh", bias=(1, 1), steps=1, state=True, returns=True):
    """Steps with the same weights; x is cut into its steps."""
    random, constants = np.random.default_rng(6), {"ax": np.array([1])}
    nodes, h = [], "h" if state else "s"
    if not state:
        constants["z.w"] = normal(random, H, I)
        nodes.append(Node("Gemm", ["x0", "z.w"], ["s"], {"transB": 1}))
    for t in range(steps):
        if how == "joined":
            nodes.append(Node("Concat", [h, f"x{t}"], [f"xh{t}"], {"axis": 1}))
            nodes.append(
                gemm(f"a{t}", f"xh{t}", H, I + H, np.random.default_rng(1), constants, bias[0])
            )
        else:
            weights = np.random.default_rng(1)
            nodes.append(gemm(f"p{t}", f"x{t}", H, I, weights, constants, bias[0]))
            nodes.append(gemm(f"q{t}", h, H, H, weights, constants, bias[1]))
            nodes.append(Node("Add", [f"q{t}", f"p{t}"], [f"a{t}"]))
        h = f"h{t}"
        nodes.append(Node(act, [f"a{t}"], [h]))
    if not returns:
        nodes.append(Node("Exp", [h], ["y"]))
    inputs = [(f"x{t}", ("b", I)) for t in range(steps)] + [("h", ("b", H))] * state
    return graph_of(nodes, inputs, [h if returns else "y"], constants)


@pytest.mark.parametrize("how", ["apart", "joined"])
@pytest.mark.parametrize("act", ["Tanh", "Relu"])
@pytest.mark.parametrize("bias", [(0, 0), (1, 0), (1, 1)])
def test_rnn_steps(isa, how, act, bias):
    node = assert_step(rnn(how, act=act, bias=bias), RNN, "rnn cell")
    assert node.attributes["bias"] == bias[0]


def test_rnn_steps_are_told_by_their_state():
    """A sum of two products is a step where a state goes in and out, or another step is alike."""
    assert fused(rnn(returns=False), *RNN)[1]["rnn cell"] == 0
    assert fused(rnn(state=False), *RNN)[1]["rnn cell"] == 0
    graph = rnn(steps=3, state=False, returns=False)
    result, counts = fused(graph, *RNN)
    assert counts["rnn cell"] == 3
    weights = {tuple(n.inputs[4:]) for n in result.nodes if n.op == "treadle.Recurrent"}
    assert len(weights) == 1  # which all steps share
    graph.constants["q1.w"] = graph.constants["q1.w"] + np.float32(1)
    assert fused(graph, *RNN)[1]["rnn cell"] == 0


@pytest.mark.parametrize(
    "changed",
    [
        keep("a0"), keep("p0"), keep("q0"),
        change("h0", op="Sigmoid"),
        change("a0", inputs=["p0", "p0"]),
        change("q0", inputs=["h", "v"]),
        lambda g: g.constants.update({"p0.w": np.full((H, I), np.nan, "f")}),
        lambda g: setattr(g.inputs[1], "shape", ("a", 1, H)),
    ],
)  # fmt: skip
def test_what_is_no_step_of_an_rnn_stays(changed):
    graph = rnn()
    graph.inputs.append(Value("v", "float32", (H, H)))
    changed(graph)
    assert "treadle.Recurrent" not in operators(fused(graph, *RNN)[0])


@pytest.mark.parametrize("graph", [gru(), gru(after=False), rnn(), rnn(act="Relu")])
def test_rows_of_a_batch(threads, graph):
    """A row has the same bits alone and beside others."""
    model = Model(graph)
    assert operators(optimise(graph)[0]).count("treadle.Recurrent") == 1
    random = np.random.default_rng(9)
    given = [normal(random, 5, value.shape[1]) for value in graph.inputs]
    (whole,) = model(*given).values()
    for row in range(5):
        (alone,) = model(*(array[row : row + 1] for array in given)).values()
        assert_same_bits(alone, whole[row : row + 1])
