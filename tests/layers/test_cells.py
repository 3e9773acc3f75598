"""RNNCell, LSTMCell, GRUCell and their functional forms against the reference, on every ISA."""

import numpy as np
import pytest

import treadle
from reference import recurrent as reference
from support import samples
from support.checks import CELLS
from support.sizes import around_powers
from support.tolerance import assert_same_bits, assert_sequence, flatten

NAMES = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
SIZES = [size for size in around_powers(64) if size]


def make_cell(mode, input_size, hidden_size, *, bias=True, **options):
    weights, _ = samples.layer(mode, input_size, hidden_size, bias=bias)
    cell = CELLS[mode](input_size, hidden_size, bias, **options)
    cell.load_state_dict({k: w for k, w in zip(NAMES, weights, strict=True) if w is not None})
    return cell, weights


def call(cell, x, state):
    return cell(x) if state is None else cell(x, state)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "nobias"])
@pytest.mark.parametrize("mode", samples.MODES)
def test_sizes(isa, mode, bias):
    """Every hidden size around the vector width, one row and several."""
    for hidden in SIZES:
        for batch in (1, 5):
            cell, weights = make_cell(mode, 6, hidden, bias=bias)
            x, state = samples.normal(3, batch, 6), samples.states(mode, [], batch, hidden)
            step = getattr(reference, mode + "_cell")
            assert_sequence(cell(x, state), step, x, *flatten(state), *weights)


@pytest.mark.parametrize("mode", samples.MODES)
def test_batches(isa, mode):
    """Every batch size around the row block."""
    cell, weights = make_cell(mode, 6, 20)
    for batch in around_powers(48):
        x, state = samples.normal(3, batch, 6), samples.states(mode, [], batch, 20)
        step = getattr(reference, mode + "_cell")
        assert_sequence(cell(x, state), step, x, *flatten(state), *weights)


@pytest.mark.parametrize("mode", samples.MODES)
def test_functional_is_the_cell(isa, mode):
    cell, weights = make_cell(mode, 6, 20)
    x, state = samples.normal(3, 4, 6), samples.states(mode, [], 4, 20)
    step = getattr(treadle.functional, mode + "_cell")
    assert_same_bits(step(x, *weights, *flatten(state)), cell(x, state))
    assert_same_bits(step(x, *weights), cell(x))


@pytest.mark.parametrize("mode", samples.MODES)
def test_no_state_is_zero_state(mode):
    cell, _ = make_cell(mode, 6, 20)
    x = samples.normal(3, 4, 6)
    zero = np.zeros((4, 20), np.float32)
    assert_same_bits(cell(x), cell(x, (zero, zero) if mode == "lstm" else zero))


@pytest.mark.parametrize("with_state", [False, True], ids=["zero", "state"])
@pytest.mark.parametrize("mode", samples.MODES)
def test_unbatched(mode, with_state):
    cell, _ = make_cell(mode, 6, 20)
    x = samples.normal(3, 6)
    state = samples.states(mode, [], 1, 20) if with_state else None
    single = None if state is None else tuple(part[0] for part in flatten(state))
    single = single[0] if with_state and mode != "lstm" else single
    result, expected = call(cell, x, single), call(cell, x[None], state)
    for a, b in zip(flatten(result), flatten(expected), strict=True):
        assert a.shape == (20,)
        assert_same_bits(a, b[0])


OPTIONS = {
    "rnn-relu": {"nonlinearity": "relu"},
    "lstm-softsign": {"activation": "softsign", "recurrent_activation": "hard_sigmoid"},
    "gru-elu": {"activation": ("elu", 0.4), "recurrent_activation": "hard_sigmoid"},
    "gru-before": {"reset_after": False},
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options(isa, case):
    mode, options = case.partition("-")[0], OPTIONS[case]
    cell, weights = make_cell(mode, 6, 20, **options)
    x, state = samples.normal(3, 4, 6), samples.states(mode, [], 4, 20)
    step = getattr(reference, mode + "_cell")
    assert_sequence(cell(x, state), step, x, *flatten(state), *weights, **options)


FUNCTIONAL_OPTIONS = {
    "rnn-clip": {"clip": 0.3, "nonlinearity": ("leaky_relu", 0.3)},
    "lstm-peepholes": {"peepholes": samples.normal(8, 60), "clip": 0.4, "input_forget": True},
    "lstm-output": {"output_activation": "relu"},
    "lstm-projection": {"weight_hr": samples.normal(8, 7, 20)},
    "gru-clip": {"clip": 0.3, "reset_after": False},
}


@pytest.mark.parametrize("case", FUNCTIONAL_OPTIONS)
def test_functional_options(isa, case):
    mode, options = case.partition("-")[0], FUNCTIONAL_OPTIONS[case]
    proj_size = len(options.get("weight_hr", []))
    weights, _ = samples.layer(mode, 6, 20, proj_size=proj_size)
    x, state = samples.normal(3, 4, 6), samples.states(mode, [], 4, 20, proj_size=proj_size)
    step = getattr(treadle.functional, mode + "_cell")
    arguments = [x, *flatten(state), *weights]
    result = step(x, *weights, *flatten(state), **options)
    assert_sequence(result, getattr(reference, mode + "_cell"), *arguments, **options)


@pytest.mark.parametrize("mode", samples.MODES)
def test_a_cell_is_a_step_of_the_layer(isa, mode):
    """A cell gives the same bits as the whole layer with T = 1."""
    cell, weights = make_cell(mode, 6, 20)
    x, state = samples.normal(3, 4, 6), samples.states(mode, [], 4, 20)
    _, final = getattr(treadle.functional, mode)(x[None], *weights, *flatten(state))
    assert_same_bits(cell(x, state), final)
