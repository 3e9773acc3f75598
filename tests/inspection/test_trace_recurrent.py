"""Traces of RNN, LSTM and GRU: the bits of the plain call, and the gates of the reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle
from reference import formats
from reference import recurrent as reference
from support import samples
from support.checks import CELLS, make_module
from support.tolerance import EPS, assert_close, assert_same_bits, flatten

GATES = {
    "rnn": [],
    "lstm": ["input", "forget", "cell", "output"],
    "gru": ["reset", "update", "new"],
}
OPTIONS = {
    "rnn": [{}, {"nonlinearity": "relu"}, {"nonlinearity": "softsign", "clip": 0.5}],
    "lstm": [
        {},
        {"activation": "relu"},
        {"activation": "softsign", "recurrent_activation": "hard_sigmoid"},
        {"clip": 0.4},
        {"input_forget": True},
        {"proj_size": 5},
        {"output_activation": "relu"},
    ],
    "gru": [{}, {"reset_after": False}, {"activation": "relu"}, {"clip": 0.4}],
}
CASES = [(mode, options) for mode, many in OPTIONS.items() for options in many]
SHAPE = T, B, I, H = 6, 3, 5, 19


def calls(given):
    """Arguments about rows that a call may have beside x and the state."""
    return {
        "plain": {},
        "lengths": {"lengths": samples.lengths(T, B)},
        "mask": {"mask": samples.mask(T, B)},
        "resets": {"resets": samples.resets(T, B)},
    }[given]


def runs(call):
    """The steps that a call computes, [T, B]."""
    active = np.arange(T)[:, None] < np.asarray(call.get("lengths", np.full(B, T)))
    return active & np.asarray(call.get("mask", np.ones((B, T), bool))).T


def gates_of_reference(mode, parameters, x, state, dtype, call, **options):
    """{direction of a layer: {gate: [T, B, H]}} in the order of the trace."""
    record = []
    reference.module(
        mode, parameters, x, state, dtype=dtype, **({"record": record} if GATES[mode] else {}),
        **options, **call,
    )  # fmt: skip
    passes = [record[i : i + T] for i in range(0, len(record), T)]
    both = options.get("bidirectional", False)
    found = []
    for number, steps in enumerate(passes):
        backwards = number % 2 == 1 if both else options.get("reverse", False)
        ordered = steps[::-1] if backwards else steps
        found.append({name: np.stack([step[name] for step in ordered]) for name in GATES[mode]})
    return found


@pytest.mark.parametrize(("mode", "options"), CASES, ids=str)
@pytest.mark.parametrize("call", ["plain", "lengths", "mask", "resets"])
@pytest.mark.parametrize("shape", ["forward", "reverse", "bidirectional"])
def test_gates_are_those_of_the_reference(isa, mode, options, call, shape):
    layers = 1 if shape == "reverse" else 2
    form = {} if shape == "forward" else {shape: True}
    module, parameters = make_module(mode, I, H, num_layers=layers, **form, **options)
    x = samples.normal(3, T, B, I)
    given = calls(call)
    state = samples.states(
        mode,
        [layers * (1 + ("bidirectional" in form))],
        B,
        H,
        proj_size=options.get("proj_size", 0),
    )
    trace = treadle.trace(module)(x, state, **given)
    assert_same_bits(flatten(trace.output), flatten(module(x, state, **given)))

    others = {k: v for k, v in options.items() if k != "proj_size"} | form | {"num_layers": layers}
    exact, rounded = (
        gates_of_reference(mode, parameters, x, state, dtype, given, **others)
        for dtype in (np.float64, np.float32)
    )
    active = runs(given)
    directions = {"bidirectional": ["forward", "reverse"]}.get(shape, [shape])
    places = [f"layer{k}.{direction}" for k in range(layers) for direction in directions]
    for place, truth, theirs in zip(places, exact, rounded, strict=bool(GATES[mode])):
        for name in GATES[mode]:
            gate = trace[f"{place}.gates.{name}"]
            assert trace.axes(f"{place}.gates.{name}") == ("time", "batch", "unit")
            assert gate.dtype == np.float32
            assert np.isnan(gate[~active]).all()
            assert_close(gate[active], truth[name][active], theirs[name][active], cell=True)
    last = f"layer{layers - 1}"
    y = trace.output[0]
    hidden = np.concatenate([trace[f"{last}.{d}.states.hidden"] for d in directions], axis=2)
    assert_same_bits(hidden[active], y[active])
    assert np.isnan(hidden[~active]).all()


@settings(max_examples=60)
@given(st.data(), st.sampled_from(samples.MODES), st.sampled_from(["float32", "bfloat16", "int8"]))
def test_output_has_the_bits_of_the_plain_call(data, mode, dtype):
    """Random configurations, sizes, dtypes and rows."""
    draw = data.draw
    t, b, i, h = (draw(st.integers(1, n)) for n in (7, 5, 9, 40))
    both = draw(st.booleans())
    options = {
        "num_layers": draw(st.integers(1, 3)),
        "bidirectional": both,
        "batch_first": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "reverse": not both and draw(st.booleans()),
    }
    module, _ = make_module(mode, i, h, **options)
    module = module.to(dtype)
    given = {}
    rows = draw(st.sampled_from(["", "lengths", "mask", "resets"]))
    if rows == "resets":
        given[rows] = samples.resets(t, b).T if options["batch_first"] else samples.resets(t, b)
    elif rows:
        given[rows] = getattr(samples, rows)(t, b)
    x = samples.normal(3, *((b, t) if options["batch_first"] else (t, b)), i)
    trace = treadle.trace(module)(x, **given)
    assert_same_bits(flatten(trace.output), flatten(module(x, **given)))
    h_n = flatten(trace.output)[1]
    if not rows:
        first = [f"layer{k}.forward.states.hidden" for k in range(options["num_layers"])]
        if not options["reverse"]:
            ends = np.stack([trace[name][-1] for name in first])
            assert_same_bits(ends, h_n[:: 1 + both])


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("mode", ["lstm", "gru"])
@pytest.mark.parametrize("size", [19, 64])
def test_gates_of_low_precision(isa, threads, mode, dtype, size):
    """The gates follow from the rounded numbers, and the states from the gates."""
    module, parameters = make_module(mode, I, size)
    module = module.to(dtype)
    x = samples.normal(3, T, B, I)
    trace = treadle.trace(module)(x)
    hidden = trace["layer0.forward.states.hidden"]
    before = np.concatenate([np.zeros((1, B, size), np.float32), hidden[:-1]])
    stored = {name: np.asarray(value, np.float64) for name, value in parameters.items()}
    parts, sizes = [], []
    for rows, kind in ((x, "ih"), (before, "hh")):
        flat, weight = rows.reshape(T * B, -1), parameters[f"weight_{kind}_l0"]
        if dtype == "int8":
            product = formats.product_int8(flat, weight)
        else:
            product = formats.bfloat16(flat).astype(float) @ formats.bfloat16(weight).T
        bias = stored[f"bias_{kind}_l0"]
        parts.append((product + bias).reshape(T, B, -1))
        sizes.append((np.abs(flat) @ np.abs(stored[f"weight_{kind}_l0"]).T + np.abs(bias)).max())
    # low_precision.h: 2^-20 of a result; products: 3 eps of the sum of magnitudes, which rounding
    # to the format makes larger by less than a half. No slope of the functions is above 1.
    bound = 2.0**-20 + 3 * EPS * 1.5 * sum(sizes)
    own = {name: trace[f"layer0.forward.gates.{name}"].astype(float) for name in GATES[mode]}
    (a, b), sigmoid = parts, reference.ACTIVATIONS["sigmoid"][0]
    if mode == "lstm":
        pre = dict(zip(GATES[mode], np.split(a + b, 4, axis=2), strict=True))
        truth = {k: np.tanh(v) if k == "cell" else sigmoid(v, 0, 0) for k, v in pre.items()}
        cell = trace["layer0.forward.states.cell"].astype(float)
        old = np.concatenate([np.zeros_like(cell[:1]), cell[:-1]])
        again = own["forget"] * old + own["input"] * own["cell"]
        assert np.abs(cell - again).max() <= (3 + np.abs(old).max()) * 2.0**-20
        assert np.abs(hidden - own["output"] * np.tanh(cell)).max() <= 3 * 2.0**-20
        assert_same_bits(trace["layer0.forward.states.cell"][-1], trace.output[1][1][0])
    else:
        (x_r, x_z, x_n), (h_r, h_z, h_n) = (np.split(part, 3, axis=2) for part in (a, b))
        reset = sigmoid(x_r + h_r, 0, 0)
        truth = {
            "reset": reset,
            "update": sigmoid(x_z + h_z, 0, 0),
            "new": np.tanh(x_n + reset * h_n),
        }
        again = (1 - own["update"]) * own["new"] + own["update"] * before
        assert np.abs(hidden - again).max() <= (3 + 2 * np.abs(before).max()) * 2.0**-20
    for name, exact in truth.items():
        assert np.abs(own[name] - exact).max() <= (1 + np.abs(parts[1]).max()) * bound


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("mode", samples.MODES)
def test_cells(mode, dtype):
    cell = CELLS[mode](I, H, seed=0).to(dtype)
    x, state = samples.normal(0, B, I), samples.states(mode, [], B, H)
    trace = treadle.trace(cell)(x, state)
    assert_same_bits(flatten(trace.output), flatten(cell(x, state)))
    assert trace.axes("layer0.forward.states.hidden") == ("batch", "unit")
    assert_same_bits(trace["layer0.forward.states.hidden"], flatten(trace.output)[0])
    one = treadle.trace(cell)(x[0])
    assert one.axes("layer0.forward.states.hidden") == ("unit",)
    assert_same_bits(flatten(one.output), flatten(cell(x[0])))


@pytest.mark.parametrize("mode", samples.MODES)
def test_streams_word_by_word(mode):
    """Steps and chunks of a stream record what the whole sequence records, and carry its state."""
    module, _ = make_module(mode, I, H, num_layers=2)
    x = samples.normal(0, T, B, I)
    whole = treadle.trace(module)(x)
    stream = module.stream(B)
    trace = treadle.trace(stream)
    steps = [trace(x[t]) for t in range(3)]
    rest = trace(x[3:])
    assert_same_bits(flatten(stream.state), flatten(flatten(whole.output)[1:]))
    for name in whole:
        if "gates" in name or "states" in name:
            assert steps[0].axes(name) == ("batch", "unit")
            together = np.concatenate([np.stack([step[name] for step in steps]), rest[name]])
            assert_same_bits(together, whole[name])
    assert_same_bits(np.stack([step.output for step in steps]), whole.output[0][:3])


def test_layers_of_several_dtypes_and_states_that_begin_anew():
    module = treadle.LSTM(I, H, num_layers=3, dtype=["int8", "float32", "bfloat16"], seed=0)
    x, state = samples.normal(0, T, B, I), samples.states("lstm", [3], B, H)
    again = samples.states("lstm", [3], B, H, seed=2)
    given = {"resets": samples.resets(T, B), "reset_state": again}
    trace = treadle.trace(module)(x, state, **given)
    y, (h_n, c_n) = module(x, state, **given)
    assert_same_bits(flatten(trace.output), [y, h_n, c_n])
    for number in range(3):
        assert_same_bits(trace[f"layer{number}.forward.states.hidden"][-1], h_n[number])
        assert_same_bits(trace[f"layer{number}.forward.states.cell"][-1], c_n[number])
    assert_same_bits(trace["layer2.forward.states.hidden"], y)


def test_a_sequence_records_its_modules():
    model = treadle.Sequential(
        treadle.Embedding(10, I, seed=0),
        treadle.LSTM(I, H, batch_first=True, seed=0),
        treadle.Linear(H, 4, seed=0),
        treadle.Tanh(),
    )
    ids = np.array([[1, 2, 3], [4, 5, 6]])
    trace = treadle.trace(model)(ids)
    assert_same_bits(trace.output, model(ids))
    assert trace["1.layer0.forward.gates.forget"].shape == (3, 2, H)


def test_an_unbatched_sequence_has_no_axis_batch():
    module, _ = make_module("gru", I, H)
    x = samples.normal(0, T, I)
    trace = treadle.trace(module)(x)
    assert_same_bits(flatten(trace.output), flatten(module(x)))
    assert trace.axes("layer0.forward.gates.new") == ("time", "unit")
    assert trace["layer0.forward.gates.new"].shape == (T, H)


def test_what_cannot_be_traced():
    with pytest.raises(TypeError, match=r"treadle\.trace: module is of type Linear, expected"):
        treadle.trace(treadle.Linear(2, 3))
    with pytest.raises(TypeError, match="int"):
        treadle.trace(5)
    with pytest.raises(ValueError, match="x has shape"):
        treadle.trace(treadle.GRU(2, 3))(np.zeros((4, 1, 3), np.float32))
