"""Streams of cells: their states, which have no axis of layers; peepholes and other options."""

import numpy as np
import pytest

import treadle
from support import samples
from support.checks import CELLS, MODULES
from support.tolerance import assert_same_bits, flatten

OPTIONS = {
    "rnn": [{}, {"nonlinearity": "relu", "clip": 0.5}],
    "lstm": [{}, {"use_peepholes": True, "clip": 1.0, "input_forget": True,
                  "output_activation": "relu"}, {"use_peepholes": True}],
    "gru": [{}, {"reset_after": False, "clip": 0.7}],
}  # fmt: skip
CASES = [(mode, options) for mode, several in OPTIONS.items() for options in several]
every = pytest.mark.parametrize(("mode", "options"), CASES, ids=str)
X = samples.normal(0, 9, 3, 6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@every
def test_steps_are_those_of_the_cell(isa, mode, options, dtype):
    cell = CELLS[mode](6, 20, seed=0, dtype=dtype, **options)
    stream, state = cell.stream(3), None
    for x in X[:4]:
        state = cell(x, state)
        assert_same_bits(stream.step(x), flatten(state)[0])
        assert_same_bits(stream.state, state)
    whole = stream.run(X[4:])
    for x, y in zip(X[4:], whole, strict=True):
        state = cell(x, state)
        assert_same_bits(y, flatten(state)[0])
    assert_same_bits(stream.state, state)


@every
def test_a_module_with_the_same_weights(mode, options):
    """A cell is a net of one layer: the same bits, and its states with one axis more."""
    cell, module = CELLS[mode](6, 20, seed=0, **options), MODULES[mode](6, 20, **options)
    module.load_state_dict({f"{k}_l0": v for k, v in cell.state_dict().items()})
    stream = cell.stream(3)
    y, final = module(X)
    assert_same_bits(stream.run(X), y)
    assert_same_bits([part[None] for part in flatten(stream.state)], flatten(final))


@every
def test_states(mode, options):
    cell = CELLS[mode](6, 20, seed=0, **options)
    stream, other = cell.stream(3), cell.stream(3)
    state = samples.states(mode, [], 3, 20)
    stream.state = state
    assert_same_bits(stream.state, state)
    other.import_state(stream.export_state())
    assert_same_bits(other.step(X[0]), stream.step(X[0]))
    other.reset()
    assert not any(part.any() for part in flatten(other.state))
    other.reset([1], state)
    for part, new in zip(flatten(other.state), flatten(state), strict=True):
        assert_same_bits(part[1], new[1])
        assert not part[[0, 2]].any()
    name = type(cell).__name__
    with_layers = tuple(part[None] for part in flatten(state))
    with pytest.raises(ValueError, match=rf"^treadle\.{name}\.stream: state has shape"):
        stream.state = with_layers if mode == "lstm" else with_layers[0]
    assert repr(stream) == f"Stream({cell!r}, batch_size=3)"
    assert stream.batch_size == 3


def test_a_stream_of_one_row_by_default():
    y = treadle.GRUCell(6, 4, seed=0).stream().step(X[0, :1])
    assert_same_bits(y, treadle.GRUCell(6, 4, seed=0)(X[0, :1]))
    with pytest.raises(ValueError, match=r"^treadle\.GRUCell\.stream: batch_size "):
        treadle.GRUCell(6, 4).stream(0)
    out = np.empty((1, 4), np.float32)
    assert treadle.GRUCell(6, 4).stream().step(X[0, :1], out=out) is out
