"""treadle.Recurrent with a mask: what it computes, in stacks, batches and streams."""

import numpy as np
import pytest

from reference import graph_recurrent as reference
from support import samples
from support.tolerance import assert_close, assert_same_bits
from treadle.graph import Graph, Node, Value
from treadle.graph.model import Model

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
T, B, H = 7, 5, 6


def weights(mode, inputs, directions=1, seed=1):
    rows = GATES[mode] * H
    shapes = {
        "weight_ih": (rows, inputs), "weight_hh": (rows, H), "bias_ih": (rows,), "bias_hh": (rows,)
    }  # fmt: skip
    parts = ("", "reverse.")[:directions]
    return {
        f"0.{part}{name}": samples.normal(seed + len(part) + i, *shape) / 2
        for part in parts
        for i, (name, shape) in enumerate(shapes.items())
    }


def node_of(mode, x, y, inputs, *, states=(), seed=1, **attributes):
    """A node with a mask, and its constants."""
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    arrays = weights(mode, inputs, directions, seed)
    first = [*states, *[""] * (2 - len(states))]
    own = {"mode": mode, "input_size": inputs, "hidden_size": H, "weights": list(arrays)}
    reads = [x, *first, "", *(f"{y}.{name}" for name in arrays), "mask"]
    node = Node("treadle.Recurrent", reads, [y, f"{y}.h", f"{y}.c"], {**own, **attributes}, y)
    return node, {f"{y}.{name}": array for name, array in arrays.items()}


def model_of(nodes, constants, inputs=3, states=()):
    """A model of x [B, T, I] and a mask [B, T]."""
    last = nodes[-1].outputs
    finals = [
        n for n in last[1:] if n and (n.endswith(".h") or nodes[-1].attributes["mode"] == "lstm")
    ]
    values = [
        Value("x", "float32", ("batch", "time", inputs)),
        Value("mask", "bool", ("batch", "time")),
    ]
    values += [Value(name, "float32", (1, "batch", H)) for name in states]
    outputs = [Value(name, "float32", None) for name in (last[0], *finals)]
    return Model(Graph(values, outputs, nodes, constants))


def masks(seed=3, rows=B):
    """Rows that begin, end and pause with skipped steps; one row has no step at all."""
    mask = np.random.default_rng(seed).random((rows, T)) < 0.6
    mask[0], mask[-1] = False, True
    mask[1, :3] = False
    return mask


@pytest.mark.parametrize("mode", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("begins", [False, True])
def test_masked_layers(isa, mode, direction, begins):
    states = ("h0", "c0")[: 1 + (mode == "lstm")] if begins and direction != "bidirectional" else ()
    for continued in (0, 1)[: 1 + bool(states)]:
        node, constants = node_of(mode, "x", "y", 3, states=states, direction=direction,
                                  batch_first=1, continued=continued)  # fmt: skip
        model = model_of([node], constants, states=states)
        given = {name: samples.normal(9, 1, B, H) for name in states}
        x, mask = samples.normal(4, B, T, 3), masks()
        found = list(model(x=x, mask=mask, **given).values())
        arrays = [x, given.get("h0"), given.get("c0"), None, *constants.values(), mask]
        exact, rounded = (
            reference.node(node.attributes, *arrays, dtype=dtype)
            for dtype in (np.float64, np.float32)
        )
        assert_close(found, list(exact), list(rounded))


def test_time_first(isa):
    """The mask is [B, T] whatever the order of x."""
    first, constants = node_of("lstm", "x", "y", 3, batch_first=1)
    second, _ = node_of("lstm", "t", "y", 3)
    turn = Node("Transpose", ["x"], ["t"], {"perm": [1, 0, 2]})
    x, mask = samples.normal(4, B, T, 3), masks()
    one = model_of([first], constants)(x, mask)["y"]
    two = model_of([turn, second], constants)(x, mask)["y"]
    assert_same_bits(np.swapaxes(two, 0, 1), one)


@pytest.mark.parametrize("mode", GATES)
def test_masked_stacks(isa, threads, mode):
    """Two layers with one mask become one node; with two masks they stay apart."""
    first, one = node_of(mode, "x", "a", 3, batch_first=1)
    second, two = node_of(mode, "a", "y", H, seed=20, batch_first=1)
    nodes = [
        Node(n.op, n.inputs, [n.outputs[0], "", ""], n.attributes, n.name) for n in (first, second)
    ]
    model = model_of(nodes, one | two)
    assert [node.op for node in model.graph.nodes] == ["treadle.Recurrent"]
    x, mask = samples.normal(4, B, T, 3), masks()
    found = model(x, mask)["y"]
    apart = Model(Graph(model.graph.inputs, model.graph.outputs, nodes, one | two), optimised=True)
    assert_same_bits(found, apart(x, mask)["y"])
    for row in range(B):  # a row has the same bits alone
        assert_same_bits(model(x[row : row + 1], mask[row : row + 1])["y"], found[row : row + 1])
    turned = Node("Not", ["mask"], ["other"])
    nodes[1].inputs[-1] = "other"
    model = model_of([turned, *nodes], one | two)
    assert sum(node.op == "treadle.Recurrent" for node in model.graph.nodes) == 2


@pytest.mark.parametrize("mode", GATES)
def test_masked_streams(isa, mode):
    """A chunk that begins with skipped steps repeats the output of the chunk before."""
    first, one = node_of(mode, "x", "a", 3, batch_first=1)
    second, two = node_of(mode, "a", "y", H, seed=20, batch_first=1)
    nodes = [
        Node(n.op, n.inputs, [n.outputs[0], "", ""], n.attributes, n.name) for n in (first, second)
    ]
    model = model_of(nodes, one | two)
    x, mask = samples.normal(4, B, T, 3), masks()
    whole = model(x, mask)["y"]
    for borders in ((1, 2, 5), range(1, T)):
        s = model.stream(B)
        parts = [
            s.step(x=part, mask=m)["y"]
            for part, m in zip(np.split(x, borders, 1), np.split(mask, borders, 1), strict=True)
        ]
        assert_same_bits(np.concatenate(parts, 1), whole)


def test_masks_that_are_refused():
    node, constants = node_of("lstm", "x", "y", 3, batch_first=1)
    model = model_of([node], constants)
    x = samples.normal(4, B, T, 3)
    with pytest.raises(ValueError, match=r"the mask has shape \[5, 6\], expected \[B, T\]"):
        model(x, masks()[:, :-1].copy())
    node.inputs[3] = "lengths"
    inputs = [*model.graph.inputs, Value("lengths", "int64", ("batch",))]
    model = Model(Graph(inputs, model.graph.outputs, [node], constants))
    with pytest.raises(ValueError, match="lengths and a mask are both given"):
        model(x, masks(), np.full(B, 3))
    fixed = Graph(
        model.graph.inputs[:1], model.graph.outputs, [node], {**constants, "mask": masks()}
    )
    node.inputs[3] = ""
    with pytest.raises(ValueError, match="its mask has no frames"):
        Model(fixed).stream()
