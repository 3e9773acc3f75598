"""Steps of one cell in a loop that was unrolled become one layer over time, with the same bits."""

import numpy as np
import pytest

from reference.graph import graph_of
from support.graphs import fused, operators
from support.tolerance import assert_same_bits
from treadle.graph import Node, Value
from treadle.graph.model import Model
from treadle.graph.optimise import optimise

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
T, B, I, H = 5, 3, 7, 6


def normal(random, *shape):
    return (random.standard_normal(shape) / 2).astype("f")


def frames(how, axis, x, size, constants):
    """The nodes that cut x into its steps [1, B, I], and their names."""
    names = [f"{x}{t}" for t in range(size)]
    constants |= {"axis": np.array([axis]), "front": np.array([0])}
    constants |= {f"n{t}": np.array([t]) for t in range(T + 1)}
    nodes = []
    if how == "split":
        nodes.append(
            Node("Split", [x], [f"{n}p" for n in names], {"axis": axis, "num_outputs": size})
        )
    for t, name in enumerate(names):
        if how == "gather":
            constants[f"i{t}"] = np.array(t)
            nodes.append(Node("Gather", [x, f"i{t}"], [f"{name}g"], {"axis": axis}))
        elif how == "slice":
            nodes.append(Node("Slice", [x, f"n{t}", f"n{t + 1}", "axis"], [f"{name}p"]))
        if how != "gather":
            nodes.append(Node("Squeeze", [f"{name}p", "axis"], [f"{name}g"]))
        nodes.append(Node("Unsqueeze", [f"{name}g", "front"], [name]))
    return nodes, names


def loop(mode, how="gather", axis=1, *, stack=1, read=(), state=True, used=range(T), layers=1):
    """A loop over the frames `used` of x; `stack` is the axis along which its states are joined."""
    random, constants = np.random.default_rng(4), {}
    nodes, names = frames(how, axis, "x", T, constants)
    names = [names[t] for t in used]
    rows, count = GATES[mode] * H, 2 if mode == "lstm" else 1
    inputs = [("x", ("b", T, I) if axis == 1 else (T, "b", I))]
    inputs += [(f"s{i}", (1, "b", H)) for i in range(count * layers)] * state
    now = [[f"s{layer * count + i}" * state for i in range(count)] for layer in range(layers)]
    for layer in range(layers):
        width = H if layer else I
        shapes = {
            "weight_ih": (rows, width),
            "weight_hh": (rows, H),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
        }
        constants |= {f"{layer}.{key}": normal(random, *shape) for key, shape in shapes.items()}
    keys = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    last = []
    for t, name in enumerate(names):
        x = name
        for layer in range(layers):
            options = {"mode": mode, "input_size": H if layer else I, "hidden_size": H}
            options["weights"] = [f"0.{key}" for key in keys]
            reads = [x, *[*now[layer], ""][:2], "", *(f"{layer}.{key}" for key in keys)]
            now[layer] = [f"h{layer}{t}", f"c{layer}{t}"][:count]
            nodes.append(Node("treadle.Recurrent", reads, ["", *now[layer]], options))
            x = now[layer][0]
        last.append(x)
        nodes.append(Node("Squeeze", [x, "front"], [f"y{t}"]))
    outputs = [*now[-1], *(f"y{t}" for t in read)]
    if stack is not None:
        whole = last
        if stack == 1:
            whole = [f"u{t}" for t in range(len(last))]
            nodes += [Node("Unsqueeze", [f"y{t}", "n1"], [u]) for t, u in enumerate(whole)]
        nodes.append(Node("Concat", whole, ["y"], {"axis": stack}))
        outputs.append("y")
    return graph_of(nodes, inputs, outputs, constants)


def given(graph, rows=B):
    random = np.random.default_rng(8)
    return {
        value.name: normal(random, *(rows if size == "b" else size for size in value.shape))
        for value in graph.inputs
    }


def assert_joined(graph, steps=T - 1):
    """All steps are one operator with their bits; returns its operators."""
    result, counts = fused(graph, "recurrent steps")
    assert counts["recurrent steps"] == steps
    inputs = given(graph)
    wanted, found = (Model(g, optimised=True)(**inputs) for g in (graph, result))
    for name, array in wanted.items():
        assert_same_bits(found[name], array)
    return operators(result)


@pytest.mark.parametrize("mode", GATES)
@pytest.mark.parametrize("how", ["gather", "slice", "split"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("stack", [0, 1, None])
def test_loops(isa, mode, how, axis, stack):
    left = assert_joined(loop(mode, how, axis, stack=stack))
    turned = 0 if stack is None else int(stack != axis) + int(axis == 1 and stack == 0)
    assert left.count("treadle.Recurrent") == 1
    assert left.count("Transpose") <= turned
    assert len(left) <= 2 + turned  # and the Squeeze of the last state


@pytest.mark.parametrize("mode", GATES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("state", [True, False])
def test_states_that_others_read(mode, axis, state):
    for stack in (0, 1, None):
        left = assert_joined(loop(mode, axis=axis, stack=stack, read=(0, 3), state=state))
        assert left.count("Slice") == 2


@pytest.mark.parametrize("mode", GATES)
def test_some_frames(mode):
    assert "Slice" in assert_joined(loop(mode, used=range(1, 4)), 2)
    # backwards, and with a frame left out, no frame follows the one before
    assert fused(loop(mode, used=range(T)[::-1]), "recurrent steps")[1]["recurrent steps"] == 0
    assert fused(loop(mode, used=(0, 2, 4)), "recurrent steps")[1]["recurrent steps"] == 0


def test_an_axis_of_any_size():
    """A loop over the first frames of more: fewer of them are an error, as in the parts."""
    graph = loop("gru", used=range(3), stack=1)
    graph.inputs[0].shape = ("b", "t", I)
    result, counts = fused(graph, "recurrent steps")
    assert counts["recurrent steps"] == 2
    inputs = {"x": np.ones((B, T, I), "f"), "s0": np.zeros((1, B, H), "f")}
    wanted, found = (Model(g, optimised=True)(**inputs) for g in (graph, result))
    assert_same_bits(found["y"], wanted["y"])
    inputs["x"] = np.ones((B, 2, I), "f")
    for one in (graph, result):
        with pytest.raises(ValueError, match="Gather"):
            Model(one, optimised=True)(**inputs)


@pytest.mark.parametrize("mode", GATES)
@pytest.mark.parametrize("axis", [0, 1])
def test_layers_in_a_loop(threads, mode, axis):
    """The steps of each layer are joined, and the layers become a stack."""
    graph = loop(mode, axis=axis, layers=2, stack=axis)
    result, report = optimise(graph)
    assert report.changes["recurrent steps"] == 2 * (T - 1)
    assert operators(result).count("treadle.Recurrent") <= 2
    inputs = given(graph)
    wanted, found = (Model(g, optimised=True)(**inputs) for g in (graph, result))
    for name, array in wanted.items():
        assert_same_bits(found[name], array)


def test_rows_of_a_batch(threads):
    graph = loop("gru")
    model, inputs = Model(graph), given(graph, 6)
    whole = model(**inputs)
    for row in range(6):
        alone = model(
            x=inputs["x"][row : row + 1], s0=np.ascontiguousarray(inputs["s0"][:, row : row + 1])
        )
        assert_same_bits(alone["y"], whole["y"][row : row + 1])


def step(graph, t):
    return [node for node in graph.nodes if node.op == "treadle.Recurrent"][t]


@pytest.mark.parametrize(
    "changed",
    [
        lambda g: step(g, 1).attributes.update(clip=1.0),
        lambda g: step(g, 1).inputs.__setitem__(4, "other"),
        lambda g: step(g, 1).inputs.__setitem__(1, "s0"),
        lambda g: step(g, 1).inputs.__setitem__(2, "s1"),
        lambda g: step(g, 1).outputs.__setitem__(0, "all"),
        lambda g: step(g, 0).inputs.__setitem__(3, "lengths"),
        lambda g: [step(g, t).attributes.update(direction="reverse") for t in (0, 1)],
        lambda g: g.outputs.append(Value("c00", "float32", None)),
        lambda g: setattr(g.inputs[0], "shape", ("b", 1, I)),
        lambda g: setattr(g.inputs[0], "shape", ("b", "t", "i", I)),
        lambda g: g.constants.update(i1=np.array([1])),
        lambda g: g.constants.update(i1=np.array(T)),
    ],
)
def test_what_stays(changed):
    graph = loop("lstm", used=range(2))
    graph.constants["other"] = graph.constants["0.weight_ih"] + np.float32(1)
    assert fused(graph, "recurrent steps")[1]["recurrent steps"] == 1
    changed(graph)
    assert fused(graph, "recurrent steps")[1]["recurrent steps"] == 0
