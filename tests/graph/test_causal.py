"""Models for whole sequences as streams: bit for bit where they look back only, else refused."""

import numpy as np
import pytest

import treadle
from support import samples
from support.tolerance import assert_same_bits
from treadle.graph.ir import Graph, Node, Value
from treadle.graph.model import Model
from treadle.graph.stream import ModelStream

B, T, C, D, H = 2, 23, 5, 6, 7


def ints(*numbers):
    return np.array(numbers, np.int64)


def model_of(nodes, constants, x=("batch", C, "time"), y=None, single=False, more=()):
    """A model from x to the last node's first output."""
    last = nodes[-1].outputs[0]
    inputs = [Value("x", "float32", x), *more]
    return Model(Graph(inputs, [Value(last, "float32", y)], nodes, dict(constants)), single=single)


def conv(name, x, y, taps=3, inputs=C, outputs=D, pads=(0, 0), **attributes):
    """A convolution and its constants."""
    group = attributes.get("group", 1)
    constants = {
        f"{name}.w": samples.normal(len(name), outputs, inputs // group, taps) / 4,
        f"{name}.b": samples.normal(3, outputs),
    }
    attributes = {"pads": list(pads), "kernel_shape": [taps], **attributes}
    return Node("Conv", [x, f"{name}.w", f"{name}.b"], [y], attributes, name), constants


def lstm(name, x, y, inputs, mode="LSTM", final=("", ""), begin=""):
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[mode]
    constants = {
        f"{name}.w": samples.normal(5, 1, gates * H, inputs),
        f"{name}.r": samples.normal(6, 1, gates * H, H),
        f"{name}.b": samples.normal(7, 1, 2 * gates * H),
    }
    reads = [x, f"{name}.w", f"{name}.r", f"{name}.b", "", begin]
    outputs = [y, *final][: 3 if mode == "LSTM" else 2]
    return Node(mode, reads, outputs, {"hidden_size": H}, name), constants


def left_padded():
    node, constants = conv("conv", "x", "y", 4, pads=(6, 0), dilations=[2])
    return model_of([node], constants)


def depthwise():
    node, constants = conv("conv", "x", "y", 5, outputs=C, pads=(4, 0), group=C)
    return model_of([node], constants)


def pad_before():
    node, constants = conv("conv", "p", "y", 3)
    pad = Node("Pad", ["x", "pads"], ["p"], {}, "pad")
    return model_of([pad, node], {**constants, "pads": ints(0, 0, 2, 0, 0, 0)})


def chomped():
    """Two blocks of a TCN: padded on both sides, and cut off behind."""
    first, one = conv("first", "x", "a", 3, pads=(2, 2))
    second, two = conv("second", "c", "d", 3, D, D, pads=(4, 4), dilations=[2])
    cuts = {"zero": ints(0), "two": ints(-2), "four": ints(-4), "axis": ints(2)}
    nodes = [
        first,
        Node("Slice", ["a", "zero", "two", "axis"], ["b"]),
        Node("Relu", ["b"], ["c"]),
        second,
        Node("Relu", ["d"], ["e"]),
        Node("Slice", ["e", "zero", "four", "axis"], ["f"]),
        Node("Add", ["f", "c"], ["y"]),
    ]
    return model_of(nodes, {**one, **two, **cuts})


def pointwise():
    """Nothing remembers: a convolution of one tap, norms and products of each frame."""
    node, constants = conv("conv", "x", "a", 1)
    nodes = [
        node,
        Node("Transpose", ["a"], ["b"], {"perm": [0, 2, 1]}),
        Node("LayerNormalization", ["b", "g"], ["c"], {"axis": -1}),
        Node("MatMul", ["c", "m"], ["d"]),
        Node("Add", ["d", "n"], ["e"]),
        Node("Softmax", ["e"], ["y"], {"axis": -1}),
    ]
    arrays = {"g": samples.normal(1, D), "m": samples.normal(2, D, 4), "n": samples.normal(3, 4)}
    return model_of(nodes, {**constants, **arrays})


def recurrent(mode):
    """[B, T, C] -> a net -> a product with each output, as exporters write it."""
    node, constants = lstm("net", "t", "all", C, mode)
    nodes = [
        Node("Transpose", ["x"], ["t"], {"perm": [1, 0, 2]}),
        node,
        Node("Squeeze", ["all", "one"], ["s"]),
        Node("MatMul", ["s", "m"], ["p"]),
        Node("Transpose", ["p"], ["y"], {"perm": [1, 0, 2]}),
    ]
    return model_of(nodes, {**constants, "one": ints(1), "m": samples.normal(4, H, 3)},
                    x=("batch", "time", C))  # fmt: skip


def crnn():
    """Convolutions, then a GRU whose first state is zeros made for the batch, then a product."""
    first, one = conv("first", "x", "a", 3, pads=(2, 0))
    node, two = lstm("net", "t", "all", D, "GRU", begin="zeros")
    nodes = [
        first,
        Node("Sigmoid", ["a"], ["b"]),
        Node("Transpose", ["b"], ["t"], {"perm": [2, 0, 1]}),
        Node("Shape", ["x"], ["sizes"]),
        Node("Gather", ["sizes", "first"], ["rows"], {"axis": 0}),
        Node("Concat", ["ones", "rows", "hidden"], ["state"], {"axis": 0}),
        Node("ConstantOfShape", ["state"], ["zeros"]),
        node,
        Node("Transpose", ["all"], ["y"], {"perm": [2, 1, 0, 3]}),
    ]
    return model_of(nodes, {**one, **two, "first": ints(0), "ones": ints(1), "hidden": ints(H)})


def two_dimensional():
    """Time and frequency: [B, 1, T, F], two steps back along time, and both sides along F."""
    constants = {"w": samples.normal(1, 4, 1, 3, 3), "b": samples.normal(2, 4)}
    node = Node("Conv", ["x", "w", "b"], ["y"], {"pads": [2, 1, 0, 1], "kernel_shape": [3, 3]}, "c")
    return model_of([node], constants, x=("batch", 1, "time", C))


CASES = {
    "left padded": (left_padded, 2), "depthwise": (depthwise, 2), "pad before": (pad_before, 2),
    "chomped": (chomped, 2), "pointwise": (pointwise, 2), "two dimensional": (two_dimensional, 2),
    "lstm": (lambda: recurrent("LSTM"), 1), "gru": (lambda: recurrent("GRU"), 1),
    "rnn": (lambda: recurrent("RNN"), 1), "crnn": (crnn, 2),
}  # fmt: skip


def frames_for(model, axis, rows=B, seed=1):
    sizes = [size if isinstance(size, int) else rows for size in model.inputs[0].shape]
    sizes[axis] = T
    return samples.normal(seed, *sizes)


def cut(x, axis, *borders):
    return np.split(x, borders, axis)


@pytest.mark.parametrize("case", CASES)
def test_streams_are_the_whole_sequence(isa, threads, case):
    make, axis = CASES[case]
    model = make()
    x = frames_for(model, axis)
    (whole,) = model(x).values()
    time_out = next(a for a in range(whole.ndim) if whole.shape[a] == T)
    for borders in ((1, 2, 3, 9, 10), range(1, T), ()):
        s = model.stream(B)
        parts = [next(iter(s.step(x=part).values())) for part in cut(x, axis, *borders)]
        assert_same_bits(np.concatenate(parts, time_out), whole)


@pytest.mark.parametrize("case", [name for name in CASES if name != "pointwise"])
def test_rows_and_pools(case):
    """A row that is reset starts a new sequence; a stream of a pool has the bits of a row."""
    make, axis = CASES[case]
    model = make()
    x = frames_for(model, axis)
    s = model.stream(B)
    first, second = cut(x, axis, 9)
    s.step(first)
    s.reset(rows=[1])
    (found,) = s.step(second).values()
    fresh = model.stream(B)
    (expected,) = fresh.step(second).values()
    assert_same_bits(found[1], expected[1])
    assert not np.array_equal(found[0], expected[0])
    pool = treadle.StreamPool(model, 3)
    streams = [pool.open() for _ in range(2)]
    parts = [
        pool.step({stream: part[row] for row, stream in enumerate(streams)})
        for part in cut(x, axis, 4, 5, 16)
    ]
    (whole,) = model(x).values()
    time_out = next(a for a in range(whole.ndim) if whole.shape[a] == T) - 1
    for row, stream in enumerate(streams):
        joined = [next(iter(part[stream].values())) for part in parts]
        assert_same_bits(np.concatenate(joined, time_out), whole[row])


def test_the_only_output_stays_an_array():
    node, constants = conv("conv", "x", "y", 3, pads=(2, 0))
    model = model_of([node], constants, single=True)
    assert isinstance(model.stream(1), ModelStream)
    assert model.stream(1).step(np.ones((1, C, 4), np.float32)).shape == (1, D, 4)
    assert treadle.StreamPool(model, 1).open().push(np.ones((C, 2), np.float32)).shape == (D, 2)


def test_a_model_of_a_fixed_length_takes_any_chunk():
    node, constants = conv("conv", "x", "y", 3, pads=(2, 0))
    model = model_of([node], constants, x=(1, C, T))
    x = samples.normal(1, 1, C, T)
    s = model.stream(time={"x": 2})
    parts = [s.step(part)["y"] for part in cut(x, 2, 3, 4, 15)]
    assert_same_bits(np.concatenate(parts, 2), model(x)["y"])


def test_a_state_of_the_model_and_tails_go_together():
    """The net's state is an input of the file, the convolution's tail is not."""
    first, one = conv("first", "x", "a", 3, pads=(2, 0))
    node, two = lstm("net", "t", "all", D, "GRU", final=("hn", ""), begin="h0")
    node.outputs[:] = ["all", "hn"]
    nodes = [
        first,
        Node("Transpose", ["a"], ["t"], {"perm": [2, 0, 1]}),
        node,
        Node("Transpose", ["all"], ["y"], {"perm": [2, 1, 0, 3]}),
    ]
    h = ("float32", (1, "batch", H))
    model = Model(
        Graph(
            [Value("x", "float32", ("batch", C, "time")), Value("h0", *h)],
            [Value("y", "float32", None), Value("hn", *h)],
            nodes,
            {**one, **two},
        )
    )
    x = samples.normal(1, B, C, T)
    whole = model(x, np.zeros((1, B, H), np.float32))
    s = model.stream(B, time={"x": 2})
    assert s.carried["h0"] == "hn"
    parts = [s.step(part)["y"] for part in cut(x, 2, 1, 8)]
    assert_same_bits(np.concatenate(parts, 2), whole["y"])
    assert_same_bits(s.state["h0"], whole["hn"])


def refused(op, inputs=("x",), attributes=None, constants=None, x=("batch", C, "time")):
    return model_of([Node(op, list(inputs), ["y"], attributes or {}, "it")], constants or {}, x)


def both_directions():
    gates = {"w": samples.normal(1, 2, 3 * H, C), "r": samples.normal(2, 2, 3 * H, H)}
    node = Node("GRU", ["x", "w", "r"], ["y"], {"hidden_size": H, "direction": "bidirectional"})
    return model_of([node], gates, x=("time", "batch", C))


def last_state():
    node, constants = lstm("net", "x", "all", C, "GRU")
    node.outputs[:] = ["all", "hn"]
    return model_of(
        [node, Node("Squeeze", ["all", "one"], ["s"]), Node("Add", ["s", "hn"], ["y"], {}, "it")],
        {**constants, "one": ints(1)},
        x=("time", "batch", C),
    )


def convolution(**options):
    node, constants = conv("it", "x", "y", **options)
    return model_of([node], constants)


def position():
    return refused("Add", ("x", "p"), constants={"p": samples.normal(1, C, T)}, x=("batch", C, T))


REFUSED = {
    "both sides": (lambda: convolution(pads=(1, 1)), "it looks 1 frames ahead"),
    "no padding": (convolution, "its first 2 frames of padding are missing"),
    "too much": (lambda: convolution(pads=(3, 0)), "begins 1 frames before"),
    "not cut off": (lambda: convolution(pads=(2, 2)), "output y has frames beyond"),
    "stride": (lambda: convolution(pads=(2, 0), strides=[2]), "it makes a frame of several"),
    "both directions": (both_directions, "its direction is bidirectional"),
    "last state": (last_state, "it mixes frames with a state at the end"),
    "global pool": (lambda: refused("GlobalAveragePool"), "it pools over all of time"),
    "mean": (
        lambda: refused("ReduceMean", ("x", "a"), constants={"a": ints(-1)}),
        "it is over all of time",
    ),
    "softmax": (lambda: refused("Softmax", attributes={"axis": -1}), "it is over all of time"),
    "norm": (
        lambda: refused("InstanceNormalization", ("x", "s", "s"), constants={"s": np.ones(C, "f")}),
        "its mean is over all of time",
    ),
    "attention": (lambda: refused("MatMul", ("x", "x"), x=("batch", "time", "time")), "frames"),
    "product": (
        lambda: refused("MatMul", ("x", "m"), constants={"m": samples.normal(1, T, 2)}),
        "it sums over time",
    ),
    "cut": (
        lambda: refused("Slice", ("x", "b", "e", "a"),
                        constants={"b": ints(1), "e": ints(99), "a": ints(2)}),
        "it cuts time",
    ),
    "unknown": (lambda: refused("TopK", ("x", "k"), constants={"k": ints(1)}), "not known to work"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_needs_the_future_is_refused(case):
    """The message has the reason, and the node's name."""
    make, message = REFUSED[case]
    model = make()
    axis = next(i for i, n in enumerate(model.inputs[0].shape) if n in ("time", T))
    for use in (
        lambda: model.stream(time={"x": axis}),
        lambda: treadle.StreamPool(model, 2, time={"x": axis}),
    ):
        with pytest.raises(ValueError, match=f"does not stream frame by frame: .*{message}"):
            use()


def test_positions_are_refused():
    with pytest.raises(ValueError, match="its input p is not the same for all frames"):
        position().stream(time={"x": 2})


def test_wrong_times():
    model = left_padded()
    for time, kind, message in (
        ({"z": 1}, ValueError, "time has the input 'z'"),
        ({"x": 3}, ValueError, r"expected one of float32 \[batch, 5, time\]"),
        ({"x": "1"}, ValueError, "the axis of x is '1'"),
        (5, TypeError, "expected a dict from inputs to axes"),
    ):
        with pytest.raises(kind, match=message):
            model.stream(time=time)
    fixed = model_of([Node("Relu", ["x"], ["y"])], {}, x=(1, C, T))
    with pytest.raises(ValueError, match=r"no state is found.*no input has an axis of time"):
        fixed.stream()
