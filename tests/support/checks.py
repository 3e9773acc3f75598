"""Run treadle and the reference on the same random case and compare within the derived bounds."""

import numpy as np

import treadle
from reference import recurrent as reference
from support import samples
from support.tolerance import assert_sequence, flatten

MODULES = {"rnn": treadle.RNN, "lstm": treadle.LSTM, "gru": treadle.GRU}
CELLS = {"rnn": treadle.RNNCell, "lstm": treadle.LSTMCell, "gru": treadle.GRUCell}


def check_functional(mode, shape, *, bias=True, state=True, proj_size=0, seed=0, **options):
    """treadle.functional.<mode> on one layer and direction of shape (T, B, I, H)."""
    t, b, i, h = shape
    weights, weight_hr = samples.layer(mode, i, h, proj_size=proj_size, bias=bias, seed=seed)
    if proj_size:
        options["weight_hr"] = weight_hr
    x = samples.normal([seed, 3], t, b, i)
    start = samples.states(mode, [], b, h, proj_size=proj_size, seed=seed) if state else None
    arguments = [x, *weights, *(flatten(start) if state else [])]
    result = getattr(treadle.functional, mode)(*arguments, **options)
    assert_sequence(result, getattr(reference, mode), *arguments, **options)


def make_module(mode, input_size, hidden_size, *, seed=0, **options):
    """A module with the weights of samples.parameters, and these weights."""
    shape = {
        key: options[key]
        for key in ("num_layers", "bidirectional", "proj_size", "bias")
        if key in options
    }
    parameters = samples.parameters(mode, input_size, hidden_size, seed=seed, **shape)
    module = MODULES[mode](input_size, hidden_size, **options)
    module.load_state_dict(parameters)
    return module, parameters


def check_module(mode, shape, *, state=True, seed=0, call=None, **options):
    """A module of shape (T, B, I, H); `call` holds lengths, mask, resets, reset_state."""
    t, b, i, h = shape
    call = call or {}
    module, parameters = make_module(mode, i, h, seed=seed, **options)
    batch_first = options.pop("batch_first", False)
    options.pop("bias", None)
    proj_size = options.pop("proj_size", 0)
    x = samples.normal([seed, 3], t, b, i)
    leading = [options.get("num_layers", 1) * (1 + options.get("bidirectional", False))]
    start = samples.states(mode, leading, b, h, proj_size=proj_size, seed=seed) if state else None
    if batch_first:
        turned = {k: v.T if k == "resets" else v for k, v in call.items()}
        y, final = module(x.swapaxes(0, 1), start, **turned)
        y = y.swapaxes(0, 1)
    else:
        y, final = module(x, start, **call)
    assert_sequence((y, final), reference.module, mode, parameters, x, start, **options, **call)
    return y, final


def poison_beyond(x, lengths):
    """x [T, B, I] with NaN in every step that does not exist."""
    x = x.copy()
    x[np.arange(len(x))[:, None] >= np.asarray(lengths)] = np.nan
    return x
