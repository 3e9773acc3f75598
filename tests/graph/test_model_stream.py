"""Streams of whole models: states found, carried, reset by row, refused; alone and in a pool."""

import numpy as np
import pytest

import treadle
from support import samples
from support.tolerance import assert_same_bits
from treadle.graph.inputs import Inputs
from treadle.graph.ir import Graph, Node, Value
from treadle.graph.model import Model
from treadle.graph.states import find_states

I, H, O = 5, 7, 3


class Fake(Model):
    """A model with these inputs and outputs that a function of Python computes."""

    def __init__(self, inputs, outputs, run=None):
        self.graph, self.single, self.run = Graph(inputs, outputs, [], {}), False, run

        self._names = [value.name for value in outputs]
        self._inputs = Inputs("treadle.Model", inputs)

    def _run(self, args, named):
        arrays = self._inputs.gathered(args, named)
        results = self.run(*arrays)
        return [results[value.name] for value in self.graph.outputs]


def recurrent_model(mode="lstm", batch="batch", names=("h0", "hn", "c0", "cn")):
    """x [B, I] -> one step of a net and a product, with the states [1, B, H] as in- and outputs."""
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[mode]
    constants = {
        "W": samples.normal(1, 1, gates * H, I),
        "R": samples.normal(2, 1, gates * H, H),
        "B": samples.normal(3, 1, 2 * gates * H),
        "P": samples.normal(4, H, O),
        "time": np.array([0]),
    }
    h_in, h_out, c_in, c_out = names
    state = ("float32", (1, batch, H))
    inputs = [Value("x", "float32", (batch, I)), Value(h_in, *state)]
    outputs = [Value("y", "float32", (batch, O)), Value(h_out, *state)]
    reads, makes = ["seq", "W", "R", "B", "", h_in], ["all", h_out]
    if mode == "lstm":
        inputs.append(Value(c_in, *state))
        outputs.append(Value(c_out, *state))
        reads.append(c_in)
        makes.append(c_out)
    nodes = [
        Node("Unsqueeze", ["x", "time"], ["seq"]),
        Node(mode.upper(), reads, makes, {"hidden_size": H}),
        Node("Squeeze", [h_out, "time"], ["last"]),
        Node("MatMul", ["last", "P"], ["y"]),
    ]
    return Model(Graph(inputs, outputs, nodes, constants))


def by_hand(model, x, names, state=None):
    """The outputs of steps whose state the caller carries: [T, B, O], and the last state."""
    rows = x.shape[1]
    state = state or {name: np.zeros((1, rows, H), np.float32) for name in names}
    found = []
    for x_t in x:
        out = model(x=x_t, **state)
        state = {one: out[other] for one, other in names.items()}
        found.append(out["y"])
    return np.stack(found), state


@pytest.mark.parametrize("mode", samples.MODES)
def test_steps_are_calls_that_carry_the_state(isa, mode):
    model = recurrent_model(mode)
    names = {"h0": "hn", "c0": "cn"} if mode == "lstm" else {"h0": "hn"}
    x = samples.normal(5, 6, 3, I)
    y, state = by_hand(model, x, names)
    s = model.stream(3)
    assert s.carried == names
    found = [s.step(x=x_t) if t % 2 else s.step(x_t) for t, x_t in enumerate(x)]
    assert [list(one) for one in found] == [["y"]] * 6
    assert_same_bits(np.stack([one["y"] for one in found]), y)
    assert_same_bits(list(s.state.values()), list(state.values()))


def test_rows_are_reset():
    model, x = recurrent_model(), samples.normal(5, 4, 3, I)
    start = {k: samples.normal(i, 1, 3, H) for i, k in enumerate(("h0", "c0"))}
    s = model.stream(3, initial=start)
    assert_same_bits(s.step(x=x[0])["y"], model(x=x[0], **start)["y"])
    before = s.state
    s.reset(rows=[1])
    for name, array in s.state.items():
        assert_same_bits(array[:, [0, 2]], before[name][:, [0, 2]])
        assert_same_bits(array[:, 1], start[name][:, 1])
    other = {name: array + 1 for name, array in before.items()}
    s.reset(rows=[True, False, False], state=other)
    assert_same_bits(s.state["c0"][:, 0], other["c0"][:, 0])
    assert_same_bits(s.state["c0"][:, 2], before["c0"][:, 2])
    s.state = before
    assert_same_bits(s.state["h0"], before["h0"])
    s.reset()
    assert_same_bits(s.state["h0"], start["h0"])
    assert_same_bits(start["h0"], samples.normal(0, 1, 3, H))


NAMES = [
    ("state", "stateN"), ("h", "hn"), ("h_0", "h_n"), ("in_h", "out_h"),
    ("hidden_in", "hidden_out"), ("prev_state", "new_state"),
    ("cache_last_time", "cache_last_time_next"), ("h1", "h1_out"),
    ("in_cache0", "out_cache0"), ("conv_cache", "conv_cache_out"), ("state_in_1", "state_out_1"),
    ("erb_buf", "new_erb_buf"), ("cached_len_3", "new_cached_len_3"), ("inputState", "outputState"),
]  # fmt: skip


@pytest.mark.parametrize("names", NAMES, ids=lambda pair: pair[0])
def test_states_are_found_by_name(names):
    """The names are those of real files; what computes with the state does not matter."""
    x, y, one, other = (Value(name, "float32", ("b", 2)) for name in ("x", "y", *names))
    (found,) = find_states("f", Fake([x, one], [y, other]), None)
    assert (found.input.name, found.output.name, found.axis) == (*names, 0)


def test_an_output_that_only_sounds_alike_is_no_state():
    """x and x_out have the same shape: a state has to say that it is one, or begin a net."""
    x, y = Value("x", "float32", ("b", 2)), Value("x_out", "float32", ("b", 2))
    model = Model(Graph([x], [y], [Node("Softmax", ["x"], ["x_out"], {"axis": -1})], {}))
    assert find_states("f", model, None, model.graph) == []
    with pytest.raises(ValueError, match=r"no state is found .*x: float32 \[b, 2\]"):
        model.stream()
    numbered = recurrent_model("gru", names=("input_2", "output_2", "", ""))
    assert numbered.stream().carried == {"input_2": "output_2"}  # it begins the GRU


WRONG_STATES = {
    "no input": ({"z": "hn"}, "no input 'z'"),
    "no output": ({"h0": "z"}, "no output 'z'"),
    "other shape": ({"x": "hn"}, r"x' is float32 \[batch, 5\] and the output 'hn' is float32 \[1"),
    "twice": ({"h0": "hn", "c0": "hn"}, "is the next state of 'h0' and of 'c0'"),
}


@pytest.mark.parametrize("case", WRONG_STATES)
def test_wrong_pairs_are_refused(case):
    state, message = WRONG_STATES[case]
    with pytest.raises(ValueError, match=message):
        recurrent_model().stream(state=state)
    with pytest.raises(ValueError, match=message):
        treadle.StreamPool(recurrent_model(), 2, state=state)
    with pytest.raises(TypeError, match="expected a dict from names"):
        recurrent_model().stream(state=5)


WRONG_CALLS = {
    "unknown": (TypeError, lambda s, x: s.step(z=x)),
    "missing": (TypeError, lambda s, x: s.step()),
    "too many": (TypeError, lambda s, x: s.step(x, x)),
    "twice": (TypeError, lambda s, x: s.step(x, x=x)),
    "state": (TypeError, lambda s, x: s.step(x, h0=x)),
    "rows": (ValueError, lambda s, x: s.step(x[:1])),
    "width": (ValueError, lambda s, x: s.step(x[:, :3])),
    "dtype": (TypeError, lambda s, x: s.step(x.astype(np.float64))),
    "reset row": (ValueError, lambda s, x: s.reset([2])),
    "reset rows": (ValueError, lambda s, x: s.reset([True])),
    "reset deep": (ValueError, lambda s, x: s.reset([[0]])),
    "state missing": (ValueError, lambda s, x: s.reset(state={"h0": x})),
    "state shape": (ValueError, lambda s, x: setattr(s, "state", {"h0": x, "c0": x})),
    "state kind": (TypeError, lambda s, x: setattr(s, "state", x)),
}


@pytest.mark.parametrize("case", WRONG_CALLS)
def test_wrong_calls_leave_the_state(case):
    s, x = recurrent_model().stream(2), samples.normal(1, 2, I)
    s.step(x)
    before = s.state
    kind, call = WRONG_CALLS[case]
    with pytest.raises(kind, match=r"treadle\."):
        call(s, x)
    assert_same_bits(list(s.state.values()), list(before.values()))


def test_a_model_without_a_batch_has_one_row():
    model = recurrent_model(batch=1)
    with pytest.raises(ValueError, match="batch_size is 2, expected 1"):
        model.stream(2)
    x = samples.normal(5, 4, 3, I)
    pool = treadle.StreamPool(model, 3)
    ids = [pool.open() for _ in range(3)]
    found = np.stack([pool.step(ids, x_t)["y"] for x_t in x])
    for row in range(3):
        y, _ = by_hand(model, x[:, row : row + 1], {"h0": "hn", "c0": "cn"})
        assert_same_bits(found[:, row : row + 1], y)


def windows_model():
    """A net over a sequence of any length, without a batch, as some exported files have it."""
    constants = {
        "W": samples.normal(1, 1, 3 * H, I),
        "R": samples.normal(2, 1, 3 * H, H),
        "B": samples.normal(3, 1, 6 * H),
        "axis": np.array([1]),
        "axes": np.array([1, 2]),
    }
    h = ("float32", (1, 1, H))
    nodes = [
        Node("Unsqueeze", ["x", "axis"], ["seq"]),
        Node("GRU", ["seq", "W", "R", "B", "", "in1"], ["all", "made"], {"hidden_size": H}),
        Node("Squeeze", ["all", "axes"], ["y"]),
    ]
    inputs = [Value("x", "float32", ("length", I)), Value("in1", *h)]
    outputs = [Value("y", "float32", ("length", H)), Value("made", *h)]
    return Model(Graph(inputs, outputs, nodes, constants))


def test_a_model_of_sequences_without_a_batch():
    """Its state has no name that tells, but begins the net, and only one output has its shape."""
    model, x = windows_model(), samples.normal(5, 3, 9, I)
    s = model.stream()
    assert s.carried == {"in1": "made"}
    zero = np.zeros((1, 1, H), np.float32)
    whole = [model(row, zero)["y"] for row in x]
    parts = [s.step(part)["y"] for part in np.split(x[0], (1, 5))]
    assert_same_bits(np.concatenate(parts), whole[0])
    pool = treadle.StreamPool(model, 3)
    ids = [pool.open() for _ in range(3)]
    parts = [pool.step(ids, x[:, :4])["y"], pool.step(ids, x[:, 4:])["y"]]
    assert_same_bits(np.concatenate(parts, 1), np.stack(whole))
    other = pool.step({ids[0]: x[0, :2], ids[1]: x[1, :1]})
    assert other[ids[0]]["y"].shape == (2, H)
    assert other[ids[1]]["y"].shape == (1, H)


def test_a_pool_gives_the_bits_of_streams_alone(isa, threads):
    """Random rows of a model in random order, by arrays and by dicts."""
    model, rng = recurrent_model(), np.random.default_rng(3)
    pool = treadle.StreamPool(model, 8)
    streams = [pool.open() for _ in range(8)]
    inputs, at, found = samples.normal(9, 8, 30, I), [0] * 8, [[] for _ in range(8)]
    for turn in range(20):
        chosen = rng.permutation(8)[: rng.integers(1, 9)].tolist()
        x = [inputs[i, at[i]] for i in chosen]
        if turn % 3 == 0:
            results = list(pool.step([streams[i] for i in chosen], np.stack(x))["y"])
        elif turn % 3 == 1:
            y = pool.step({streams[i]: one for i, one in zip(chosen, x, strict=True)})
            results = [y[streams[i]]["y"] for i in chosen]
        else:
            results = [streams[i].push({"x": one})["y"] for i, one in zip(chosen, x, strict=True)]
        for i, y in zip(chosen, results, strict=True):
            found[i].append(y)
            at[i] += 1
    for i, stream in enumerate(streams):
        y, state = by_hand(model, inputs[i, : at[i], None], {"h0": "hn", "c0": "cn"})
        assert_same_bits(np.stack(found[i])[:, None], y)
        assert_same_bits(stream.state["c0"], state["c0"][:, 0])
        moved = treadle.StreamPool(recurrent_model(), 1).open(state=stream.export())
        assert_same_bits(moved.push(inputs[i, 29])["y"], stream.push(inputs[i, 29])["y"])
    streams[0].state = streams[1].state
    assert streams[0].export() == streams[1].export()
    with pytest.raises(ValueError, match="other weights"):
        treadle.StreamPool(recurrent_model(names=("h1", "hn1", "c1", "cn1")), 1).open(
            state=streams[0].export()
        )


def counting_model():
    """x [b, 2] and a rate [] -> x * rate, with a counter int64 [b, 1] and a flag bool [b, 3]."""
    inputs = [
        Value("x", "float32", ("b", 2)), Value("rate", "float32", ()),
        Value("count_state", "int64", ("b", 1)), Value("flag_state", "bool", ("b", 3)),
    ]  # fmt: skip
    outputs = [
        Value("y", "float32", ("b", 2)), Value("count_state_out", "int64", ("b", 1)),
        Value("flag_state_out", "bool", ("b", 3)),
    ]  # fmt: skip

    def run(x, rate, count_state, flag_state):
        return {"y": x * rate, "count_state_out": count_state + 1, "flag_state_out": ~flag_state}

    return Fake(inputs, outputs, run)


def test_states_of_other_dtypes_and_fixed_inputs():
    model, x = counting_model(), np.ones((2, 2), np.float32)
    s = model.stream(2)
    y = s.step(x=x, rate=np.float32(3))
    s.reset(rows=0)
    s.step(x, np.float32(2))
    assert_same_bits(y["y"], 3 * x)
    assert s.state["count_state"].tolist() == [[1], [2]]
    assert s.state["flag_state"].tolist() == [[True] * 3, [False] * 3]
    pool = treadle.StreamPool(model, 2, fixed={"rate": np.float32(3)})
    a, b = pool.open(), pool.open()
    assert_same_bits(pool.step([a, b], x)["y"], 3 * x)
    assert_same_bits(a.push(x[0])["y"], 3 * x[0])
    assert a.state["count_state"].tolist() == [2]
    assert a.state["flag_state"].tolist() == [False] * 3
    copy = treadle.StreamPool(model, 1).open(state=b.export())
    assert copy.state["flag_state"].tolist() == [True] * 3
    with pytest.raises(TypeError, match="expected x: float32"):
        pool.step([a], {"x": x[:1], "rate": np.float32(1)})
    with pytest.raises(ValueError, match="fixed has the input"):
        treadle.StreamPool(model, 1, fixed={"z": 1})
    with pytest.raises(ValueError, match="by the argument fixed"):
        treadle.StreamPool(model, 1).open().push({"x": x[0], "rate": np.float32(1)})
    with pytest.raises(ValueError, match="a row for each of the 1 streams"):
        pool.step([a], x)
    with pytest.raises(ValueError, match="expected None but for"):
        treadle.StreamPool(treadle.LSTM(2, 2), 1, fixed={})
