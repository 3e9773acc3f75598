"""NumPy definitions of treadle's recurrent layers: the readable specification.

Plain loops over time, one formula per line, no cleverness. The default `dtype` is float64: that is
the truth the tests compare with. The same functions run in float32 (`dtype=np.float32`) give the
error that an obvious implementation makes, from which tolerance.py derives its bounds.

Letters: T time, B batch, I input, H hidden, P projection, D directions, L layers, G gates. Weights
have torch's names, shapes and gate order: LSTM i, f, g, o (G = 4), GRU r, z, n (G = 3).

One direction of one layer (`rnn`, `lstm`, `gru`) works on time-major x [T, B, I] and takes four
things that act on single rows:

  lengths [B]       steps at and beyond a row's length do not happen: the state stays what it was
                    and the output is zero. In reverse a row begins at its last step.
  mask [B, T]       Keras: where False, the state is held and the output repeats the output of the
                    step processed before (zeros when there was none).
  resets [T, B]     True at t cuts the row between t-1 and t: the state returns to `reset_state`
                    (zero when None) before step t, and in reverse before step t-1.
  reverse           from the last step to the first; y[t] still belongs to x[t].
"""

import math

import numpy as np

_erf = np.vectorize(math.erf, otypes=[np.float64])
_GELU, _CUBE = (2 / math.pi) ** 0.5, 0.044715  # Hendrycks and Gimpel, arXiv:1606.08415

# name -> (f(x, alpha, beta), default alpha, default beta)
ACTIVATIONS = {
    "linear": (lambda x, a, b: x, 0.0, 0.0),
    "tanh": (lambda x, a, b: np.tanh(x), 0.0, 0.0),
    "sigmoid": (lambda x, a, b: 1 / (1 + np.exp(-x)), 0.0, 0.0),
    "relu": (lambda x, a, b: np.maximum(x, 0), 0.0, 0.0),
    "hard_sigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), 1 / 6, 1 / 2),
    "softsign": (lambda x, a, b: x / (1 + np.abs(x)), 0.0, 0.0),
    "softplus": (lambda x, a, b: np.logaddexp(x, x.dtype.type(0)), 0.0, 0.0),
    "elu": (lambda x, a, b: np.where(x < 0, a * np.expm1(x), x), 1.0, 0.0),
    "leaky_relu": (lambda x, a, b: np.where(x < 0, a * x, x), 0.01, 0.0),
    "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "thresholded_relu": (lambda x, a, b: np.where(x <= a, 0 * a, x), 1.0, 0.0),
    "scaled_tanh": (lambda x, a, b: a * np.tanh(b * x), 1.0, 1.0),
    "gelu": (lambda x, a, b: (x * (1 + _erf(x * 0.5**0.5)) / 2).astype(x.dtype), 0.0, 0.0),
    "gelu_tanh": (lambda x, a, b: x * (1 + np.tanh(_GELU * (x + _CUBE * x**3))) / 2, 0.0, 0.0),
    "silu": (lambda x, a, b: x / (1 + np.exp(-x)), 0.0, 0.0),
    "hard_swish": (lambda x, a, b: x * np.clip(x / 6 + 0.5, 0, 1), 0.0, 0.0),
    "clip": (lambda x, a, b: np.clip(x, a, b), 0.0, 6.0),
}


def activation(spec, x):
    """`spec` is None (linear), a name, or (name, alpha[, beta])."""
    name, *given = (spec or "linear",) if spec is None or isinstance(spec, str) else spec
    f, alpha, beta = ACTIVATIONS[name]
    alpha, beta = [*given, *(alpha, beta)[len(given) :]]
    with np.errstate(all="ignore"):
        return f(x, x.dtype.type(alpha), x.dtype.type(beta))


def linear(x, weight, bias=None, *, dtype=np.float64):
    """x [M, K], weight [N, K], bias [N] -> [M, N]"""
    y = _cast(x, dtype) @ _cast(weight, dtype).T
    return y if bias is None else y + _cast(bias, dtype)


def rnn_cell(
    x, h, weight_ih, weight_hh, bias_ih=None, bias_hh=None,
    *, nonlinearity="tanh", clip=None, dtype=np.float64,
):  # fmt: skip
    """h' = act(W_ih x + b_ih + W_hh h + b_hh);  x [B, I], h [B, H] -> h' [B, H]"""
    pre = linear(x, weight_ih, bias_ih, dtype=dtype) + linear(h, weight_hh, bias_hh, dtype=dtype)
    return activation(nonlinearity, _clip(pre, clip))


def lstm_cell(
    x, h, c, weight_ih, weight_hh, bias_ih=None, bias_hh=None,
    *, weight_hr=None, peepholes=None, activation="tanh", recurrent_activation="sigmoid",
    output_activation=None, clip=None, input_forget=False, dtype=np.float64, record=None,
):  # fmt: skip
    """x [B, I], h [B, H or P], c [B, H] -> h' [B, H or P], c' [B, H]

    i = f(W_i x + R_i h + p_i * c)      f = f(W_f x + R_f h + p_f * c), or 1 - i with input_forget
    g = g(W_g x + R_g h)                c' = f * c + i * g
    o = f(W_o x + R_o h + p_o * c')     h' = o * h(c'), or W_hr (o * h(c')) with a projection

    `peepholes` [3*H] in ONNX's order i, o, f. `clip` bounds what enters f, f, g, f (not h). The
    output activation is the activation when None. A list `record` gets the gates of the step.
    """
    gate, candidate = recurrent_activation, activation
    output = activation if output_activation is None else output_activation
    c = _cast(c, dtype)
    pre = linear(x, weight_ih, bias_ih, dtype=dtype) + linear(h, weight_hh, bias_hh, dtype=dtype)
    i, f, g, o = np.split(pre, 4, axis=1)
    p_i, p_o, p_f = [0, 0, 0] if peepholes is None else np.split(_cast(peepholes, dtype), 3)
    i = _activate(gate, i + p_i * c, clip)
    f = 1 - i if input_forget else _activate(gate, f + p_f * c, clip)
    g = _activate(candidate, g, clip)
    c = f * c + i * g
    o = _activate(gate, o + p_o * c, clip)
    h = o * _activate(output, c, None)
    if record is not None:
        record.append({"input": i, "forget": f, "cell": g, "output": o})
    return (h if weight_hr is None else linear(h, weight_hr, dtype=dtype)), c


def gru_cell(
    x, h, weight_ih, weight_hh, bias_ih=None, bias_hh=None,
    *, activation="tanh", recurrent_activation="sigmoid", reset_after=True, clip=None,
    dtype=np.float64, record=None,
):  # fmt: skip
    """x [B, I], h [B, H] -> h' [B, H]

    r = f(W_r x + R_r h)        z = f(W_z x + R_z h)        h' = (1 - z) * n + z * h
    n = g(W_n x + b_in + r * (R_n h + b_hn))    reset_after (torch, cuDNN, Keras' default)
    n = g(W_n x + b_in + R_n (r * h) + b_hn)    not reset_after (ONNX' default)

    A list `record` gets the gates of the step.
    """
    h = _cast(h, dtype)
    x_r, x_z, x_n = np.split(linear(x, weight_ih, bias_ih, dtype=dtype), 3, axis=1)
    h_r, h_z, h_n = np.split(linear(h, weight_hh, bias_hh, dtype=dtype), 3, axis=1)
    r = _activate(recurrent_activation, x_r + h_r, clip)
    z = _activate(recurrent_activation, x_z + h_z, clip)
    if reset_after:
        n = _activate(activation, x_n + r * h_n, clip)
    else:
        weight_hn = np.split(np.asarray(weight_hh), 3)[2]
        bias_hn = None if bias_hh is None else np.split(np.asarray(bias_hh), 3)[2]
        n = _activate(activation, x_n + linear(r * h, weight_hn, bias_hn, dtype=dtype), clip)
    if record is not None:
        record.append({"reset": r, "update": z, "new": n})
    return (1 - z) * n + z * h


def rnn(x, weight_ih, weight_hh, bias_ih=None, bias_hh=None, h_0=None, **options):
    """x [T, B, I] -> y [T, B, H], h_n [B, H]; options: those of rnn_cell and of the head comment"""
    options, rows = _split(options)
    weights = weight_ih, weight_hh, bias_ih, bias_hh

    def step(x_t, state):
        return (rnn_cell(x_t, *state, *weights, **options),)

    size = np.shape(weight_hh)[1]
    y, (h_n,) = _over_time(step, x, [(h_0, size)], options["dtype"], **rows)
    return y, h_n


def lstm(x, weight_ih, weight_hh, bias_ih=None, bias_hh=None, h_0=None, c_0=None, **options):
    """x [T, B, I] -> y [T, B, H or P], (h_n [B, H or P], c_n [B, H]); options: of lstm_cell too"""
    options, rows = _split(options)
    weights = weight_ih, weight_hh, bias_ih, bias_hh

    def step(x_t, state):
        return lstm_cell(x_t, *state, *weights, **options)

    sizes = np.shape(weight_hh)[1], np.shape(weight_hh)[0] // 4
    states = [(h_0, sizes[0]), (c_0, sizes[1])]
    return _over_time(step, x, states, options["dtype"], **rows)


def gru(x, weight_ih, weight_hh, bias_ih=None, bias_hh=None, h_0=None, **options):
    """x [T, B, I] -> y [T, B, H], h_n [B, H]; options: those of gru_cell and of the head comment"""
    options, rows = _split(options)
    weights = weight_ih, weight_hh, bias_ih, bias_hh

    def step(x_t, state):
        return (gru_cell(x_t, *state, *weights, **options),)

    size = np.shape(weight_hh)[1]
    y, (h_n,) = _over_time(step, x, [(h_0, size)], options["dtype"], **rows)
    return y, h_n


def module(
    mode, parameters, x, state=None, *, num_layers=1, bidirectional=False, reverse=False,
    reset_state=None, **options,
):  # fmt: skip
    """A stack of layers under torch's parameter names: what treadle.RNN, treadle.LSTM, treadle.GRU
    compute.

    x [T, B, I] -> y [T, B, D*H], h_n [D*L, B, H] (LSTM: (h_n, c_n)). `state` and `reset_state` are
    shaped like the final state. Every layer sees the same lengths, mask and resets. ``reverse``
    turns the one direction of a net that is not bidirectional.
    """
    cell = {"rnn": rnn, "lstm": lstm, "gru": gru}[mode]
    finals = []
    for layer in range(num_layers):
        outputs = []
        for backwards in (False, True) if bidirectional else (reverse,):
            index = len(finals)
            suffix = f"_l{layer}" + "_reverse" * (backwards and bidirectional)
            names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
            weights = [parameters.get(name + suffix) for name in names]
            for name in ("weight_hr", "peepholes"):
                if name + suffix in parameters:
                    options[name] = parameters[name + suffix]
            y, final = cell(
                x, *weights, *_pick(state, index), reverse=backwards,
                reset_state=_unwrap(_pick(reset_state, index)), **options,
            )  # fmt: skip
            outputs.append(y)
            finals.append(final)
        x = np.concatenate(outputs, axis=2)
    if mode == "lstm":
        return x, tuple(np.stack(parts) for parts in zip(*finals, strict=True))
    return x, np.stack(finals)


def _over_time(
    step, x, states, dtype,
    *, reverse=False, lengths=None, mask=None, resets=None, reset_state=None,
):  # fmt: skip
    """Run `step(x_t, state) -> state` along time; the first part of the state is the output."""
    x = _cast(x, dtype)
    T, B = x.shape[:2]
    lengths = np.full(B, T) if lengths is None else np.asarray(lengths)
    mask = np.ones((B, T), bool) if mask is None else np.asarray(mask)
    resets = np.zeros((T, B), bool) if resets is None else np.asarray(resets)
    start = [np.zeros((B, size), dtype) if s is None else _cast(s, dtype) for s, size in states]
    if reset_state is None:
        fresh = [np.zeros_like(part) for part in start]
    else:
        parts = reset_state if isinstance(reset_state, tuple) else (reset_state,)
        fresh = [_cast(part, dtype) for part in parts]

    state, output = start, np.zeros_like(start[0])
    y = np.zeros((T, *start[0].shape), dtype)
    for t in reversed(range(T)) if reverse else range(T):
        exists = t < lengths
        cut = t + 1 if reverse else t  # a reset at `cut` lies between this step and the last one
        if cut < T:
            state = _where(resets[cut] & (cut < lengths), fresh, state)
        runs = exists & mask[:, t]
        state = _where(runs, step(x[t], state), state)
        (output,) = _where(runs, [state[0]], [output])
        (y[t],) = _where(exists, [output], [np.zeros_like(output)])
    return y, tuple(state)


def _where(rows, yes, no):
    return [np.where(rows[:, None], a, b) for a, b in zip(yes, no, strict=True)]


def _activate(spec, pre, clip):
    return activation(spec, _clip(pre, clip))


def _clip(pre, clip):
    return pre if clip is None else np.clip(pre, -pre.dtype.type(clip), pre.dtype.type(clip))


def _cast(array, dtype):
    return np.asarray(array).astype(dtype)


def _split(options):
    """Separate what the cell takes from what the loop over time takes."""
    rows = {"reverse", "lengths", "mask", "resets", "reset_state"}
    cell = {"dtype": np.float64} | {k: v for k, v in options.items() if k not in rows}
    return cell, {k: v for k, v in options.items() if k in rows}


def _pick(state, index):
    """The states of one layer and direction: () when none are given."""
    if state is None:
        return ()
    return tuple(part[index] for part in (state if isinstance(state, tuple) else (state,)))


def _unwrap(parts):
    return parts or None
