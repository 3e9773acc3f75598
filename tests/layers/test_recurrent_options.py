"""The options of RNN, LSTM, GRU and their cells beyond PyTorch's: peepholes, clip, input_forget, an
activation of the output, a lone reverse direction; in every form that a layer has.
"""

import copy
import pickle

import numpy as np
import pytest
from safetensors.numpy import save_file

import treadle
from reference import recurrent as reference
from support import samples
from support.checks import CELLS, MODULES
from support.tolerance import assert_same_bits, assert_sequence, flatten
from treadle.layers import build
from treadle.layers.state_dict import convert_file

T, B, INPUT, H = 6, 5, 7, 20

PEEPHOLES = {"use_peepholes": True}
CASES = {
    "rnn-clip": {"clip": 0.4, "nonlinearity": ("leaky_relu", 0.3)},
    "rnn-reverse": {"reverse": True},
    "gru-clip": {"clip": 0.4, "reset_after": False},
    "gru-reverse": {"reverse": True, "activation": "softsign", "clip": 1.5},
    "lstm-clip": {"clip": 0.4},
    "lstm-reverse": {"reverse": True},
    "lstm-input_forget": {"input_forget": True},
    "lstm-output": {"output_activation": "relu"},
    "lstm-linear": {"output_activation": "linear", "recurrent_activation": "hard_sigmoid"},
    "lstm-peepholes": PEEPHOLES,
    "lstm-projection": {**PEEPHOLES, "proj_size": 3, "reverse": True, "clip": 2.0},
    "lstm-all": {
        **PEEPHOLES, "clip": 0.6, "input_forget": True, "reverse": True, "bias": False,
        "activation": ("elu", 0.5), "output_activation": ("scaled_tanh", 1.5, 0.5),
    },
}  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES)
CELL_CASES = {
    case: {k: v for k, v in options.items() if k not in ("reverse", "proj_size")}
    for case, options in CASES.items()
    if "reverse" not in case
}
every_cell = pytest.mark.parametrize("case", CELL_CASES)


def make(case, **more):
    """A layer whose parameters, peepholes among them, saturate now and then."""
    mode, options = case.partition("-")[0], {**CASES[case], **more}
    return filled(MODULES[mode](INPUT, H, **options)), options


def make_cell(case, **more):
    mode, options = case.partition("-")[0], {**CELL_CASES[case], **more}
    return filled(CELLS[mode](INPUT, H, **options)), options


def filled(module):
    module.load_state_dict(
        {
            name: samples.normal([3, i], *value.shape) * np.float32(value.shape[-1] ** -0.5 * 1.2)
            for i, (name, value) in enumerate(module.state_dict().items())
        }
    )
    return module


def functional(module, suffix, options, **more):
    """`treadle.functional` of one layer and direction of a module, as a function of x."""
    own = {k: v for k, v in options.items() if k not in ("bias", "proj_size", "use_peepholes")}
    own = {k: v for k, v in own.items() if k not in ("num_layers", "bidirectional")} | more
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = [getattr(module, name + suffix, None) for name in names]
    for name in ("weight_hr", "peepholes"):
        if name + suffix in module.state_dict():
            own[name] = getattr(module, name + suffix)
    function = getattr(treadle.functional, module.mode + "_cell" * ("Cell" in repr(module)))
    return lambda x, *states, **call: function(x, *weights, *states, **own, **call)


def states(module, *leading, seed=4):
    size = getattr(module, "proj_size", 0) or H
    h = samples.normal([seed, 1], *leading, B, size)
    return (h, samples.normal([seed, 2], *leading, B, H)) if module.mode == "lstm" else h


CALLS = {
    "": {},
    "lengths": {"lengths": samples.lengths(T, B)},
    "mask": {"mask": samples.mask(T, B)},
    "resets": {"resets": samples.resets(T, B)},
}


@pytest.mark.parametrize("call", CALLS)
@every_case
def test_a_layer_has_the_bits_of_the_function(isa, threads, case, call):
    module, options = make(case)
    x, state = samples.normal(1, T, B, INPUT), states(module, 1)
    y, final = module(x, state, **CALLS[call])
    first = [part[0] for part in flatten(state)]
    expected = functional(module, "_l0", options)(x, *first, **CALLS[call])
    assert_same_bits((y, [part[0] for part in flatten(final)]), (expected[0], flatten(expected[1])))


@every_case
def test_a_stack_is_one_layer_after_the_other(isa, case):
    module, options = make(case, num_layers=2)
    x = samples.normal(1, T, B, INPUT)
    y = x
    for index in range(2):
        y, _ = functional(module, f"_l{index}", options)(y)
    assert_same_bits(module(x)[0], y)


@every_case
def test_both_directions(isa, case):
    module, options = make(case, bidirectional=True, reverse=False)
    x = samples.normal(1, T, B, INPUT)
    there, _ = functional(module, "_l0", options)(x)
    back, _ = functional(module, "_l0_reverse", options, reverse=True)(x)
    assert_same_bits(module(x)[0], np.concatenate([there, back], axis=2))


@pytest.mark.parametrize("layers", [1, 3])
@every_case
def test_the_reference(isa, case, layers):
    module, options = make(case, num_layers=layers)
    x, state = samples.normal(1, T, B, INPUT), states(module, layers)
    own = {k: v for k, v in options.items() if k not in ("bias", "proj_size", "use_peepholes")}
    call = {"lengths": samples.lengths(T, B), "resets": samples.resets(T, B)}
    arguments = (module.mode, module.state_dict(), x, state)
    assert_sequence(module(x, state, **call), reference.module, *arguments, **own, **call)


@every_cell
def test_a_cell_has_the_bits_of_the_function(isa, case):
    cell, options = make_cell(case)
    x, state = samples.normal(1, B, INPUT), states(cell)
    expected = functional(cell, "", options)(x, *flatten(state))
    assert_same_bits(cell(x, state), expected)
    assert_same_bits(cell(x[0], [p[0] for p in state] if cell.mode == "lstm" else state[0]),
                     [p[0] for p in expected] if cell.mode == "lstm" else expected[0])  # fmt: skip


@every_cell
def test_the_reference_of_a_cell(isa, case):
    cell, options = make_cell(case)
    own = {k: v for k, v in options.items() if k not in ("bias", "use_peepholes")}
    if cell.mode == "lstm" and cell.use_peepholes:
        own["peepholes"] = cell.peepholes
    x, state = samples.normal(1, B, INPUT), states(cell)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = [cell.state_dict().get(name) for name in names]
    step = getattr(reference, cell.mode + "_cell")
    assert_sequence(cell(x, state), step, x, *flatten(state), *weights, **own)


@every_case
def test_reverse_is_the_same_net_from_the_other_end(case):
    module, _ = make(case, num_layers=2, reverse=False)
    other, _ = make(case, num_layers=2, reverse=True)
    x = samples.normal(1, T, B, INPUT)
    y, final = module(x)
    assert_same_bits(other(np.ascontiguousarray(x[::-1])), (np.ascontiguousarray(y[::-1]), final))


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@every_case
def test_other_dtypes(isa, case, dtype):
    """Near the layer in float32; a row alone, and a step after the other, have the same bits."""
    module, _ = make(case)
    low, x = module.to(dtype), samples.normal(1, T, B, INPUT)
    full, y = module(x)[0], low(x)[0]
    assert 0 < np.abs(full - y).max() < 0.15 * max(1, np.abs(full).max())
    assert low.dtype == dtype
    assert_same_bits(low(np.ascontiguousarray(x[:, 2:3]))[0], y[:, 2:3])
    direct = type(module)(INPUT, H, **{**CASES[case], "dtype": dtype})
    direct.load_state_dict(module.state_dict())
    assert_same_bits(direct(x)[0], y)
    if "peepholes_l0" in module.state_dict():  # no matrix: they stay as they are
        assert_same_bits(low.peepholes_l0, module.peepholes_l0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@every_cell
def test_streams_and_cells(isa, case, dtype):
    """Steps of a stream, chunks of it and the steps of a cell are the sequence, bit for bit."""
    module, _ = make(case, num_layers=1, reverse=False, dtype=dtype)
    x = samples.normal(1, T, B, INPUT)
    y, final = module(x)
    stream = module.stream(B)
    parts = [stream.step(x[0])[None], stream.run(x[1:4]), stream.run(x[4:])]
    assert_same_bits(np.concatenate(parts), y)
    assert_same_bits(stream.state, final)
    if getattr(module, "proj_size", 0):
        return
    cell, _ = make_cell(case, dtype=dtype)
    cell.load_state_dict({k.replace("_l0", ""): v for k, v in module.state_dict().items()})
    state = None
    for step in x:
        state = cell(step, state)
    assert_same_bits(flatten(state), [part[0] for part in flatten(final)])


def test_a_stream_needs_no_future():
    with pytest.raises(ValueError, match=r"^treadle\.LSTM\.stream: the layer has reverse=True"):
        treadle.LSTM(3, 4, reverse=True).stream()
    state = treadle.LSTM(3, 4, seed=0).stream().export_state()
    with pytest.raises(ValueError, match="another configuration"):
        treadle.LSTM(3, 4, clip=3.0, seed=0).stream().import_state(state)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@every_case
def test_files_copies_and_state_dicts(tmp_path, case, dtype):
    module, options = make(case, dtype=dtype)
    x = samples.normal(1, T, B, INPUT)
    treadle.save(module, tmp_path / "m.treadle")
    others = [
        treadle.load(tmp_path / "m.treadle"),
        pickle.loads(pickle.dumps(module)),
        copy.copy(module),
        copy.deepcopy(module),
        type(module)(INPUT, H, **options),
    ]
    others[-1].load_state_dict(module.state_dict())
    for other in others:
        assert repr(other) == repr(module)
        assert_same_bits(other(x), module(x))
    for name in CASES[case]:
        assert getattr(others[0], name) == getattr(module, name)
        assert f"{name}=" in repr(module)


def test_peepholes_in_a_state_dict(tmp_path):
    """The names are treadle's own, since PyTorch has no peepholes."""
    module, _ = make("lstm-peepholes", num_layers=2, bidirectional=True)
    save_file(module.state_dict(), tmp_path / "state.safetensors")
    convert_file(tmp_path / "state.safetensors", tmp_path / "m.treadle", dtype="float32")
    other = treadle.load(tmp_path / "m.treadle")
    assert repr(other) == "LSTM(7, 20, num_layers=2, bidirectional=True, use_peepholes=True)"
    x = samples.normal(1, T, B, INPUT)
    assert_same_bits(other(x), module(x))


def test_names_and_shapes_of_peepholes():
    names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "peepholes"]
    module = treadle.LSTM(3, 8, bidirectional=True, proj_size=2, use_peepholes=True)
    assert list(module.state_dict()) == [n + e for e in ("_l0", "_l0_reverse") for n in names]
    assert module.peepholes_l0.shape == (24,)
    assert treadle.LSTMCell(3, 8, use_peepholes=True).peepholes.shape == (24,)


# Files of these layers had these entries before there were more options.
RECORDS = {
    "RNN": ["input_size", "hidden_size", "num_layers", "nonlinearity", "bias", "batch_first",
            "bidirectional", "dtype"],
    "LSTM": ["input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional",
             "proj_size", "activation", "recurrent_activation", "dtype"],
    "GRU": ["input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional",
            "activation", "recurrent_activation", "reset_after", "dtype"],
    "RNNCell": ["input_size", "hidden_size", "bias", "nonlinearity", "dtype"],
    "LSTMCell": ["input_size", "hidden_size", "bias", "activation", "recurrent_activation",
                 "dtype"],
    "GRUCell": ["input_size", "hidden_size", "bias", "activation", "recurrent_activation",
                "reset_after", "dtype"],
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDS)
def test_options_that_are_not_used_are_not_recorded(name):
    module = getattr(treadle, name)(3, 4)
    assert repr(module) == f"{name}(3, 4)"
    assert list(build.configuration(module)) == RECORDS[name]
    assert list(module.__getstate__()["configuration"]) == RECORDS[name]
    assert list(build.configuration(getattr(treadle, name)(3, 4, clip=2))) == [
        *RECORDS[name],
        "clip",
    ]
