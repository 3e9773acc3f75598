"""The layers of recurrent.py once more, in PyTorch, whose autograd gives the gradients.

In float64 it is the truth for the backward passes, in float32 the error of the same formulas.
"""

import torch

# name -> (f(x, alpha, beta), default alpha, default beta)
ACTIVATIONS = {
    "linear": (lambda x, a, b: x, 0.0, 0.0),
    "tanh": (lambda x, a, b: torch.tanh(x), 0.0, 0.0),
    "sigmoid": (lambda x, a, b: torch.sigmoid(x), 0.0, 0.0),
    "relu": (lambda x, a, b: torch.relu(x), 0.0, 0.0),
    "hard_sigmoid": (lambda x, a, b: torch.clamp(a * x + b, 0, 1), 1 / 6, 1 / 2),
    "softsign": (lambda x, a, b: x / (1 + x.abs()), 0.0, 0.0),
    "softplus": (lambda x, a, b: torch.logaddexp(x, torch.zeros_like(x)), 0.0, 0.0),
    "elu": (lambda x, a, b: torch.where(x > 0, x, a * torch.expm1(x.clamp(max=0))), 1.0, 0.0),
    "leaky_relu": (lambda x, a, b: torch.where(x > 0, x, a * x), 0.01, 0.0),
    "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "thresholded_relu": (lambda x, a, b: torch.where(x > a, x, torch.zeros_like(x)), 1.0, 0.0),
    "scaled_tanh": (lambda x, a, b: a * torch.tanh(b * x), 1.0, 1.0),
    "gelu": (lambda x, a, b: torch.nn.functional.gelu(x), 0.0, 0.0),
    "gelu_tanh": (lambda x, a, b: torch.nn.functional.gelu(x, approximate="tanh"), 0.0, 0.0),
    "silu": (lambda x, a, b: torch.nn.functional.silu(x), 0.0, 0.0),
    "hard_swish": (lambda x, a, b: torch.nn.functional.hardswish(x), 0.0, 0.0),
    "clip": (torch.nn.functional.hardtanh, 0.0, 6.0),
}


def activation(spec, x):
    name, *given = (spec,) if isinstance(spec, str) else spec
    f, *defaults = ACTIVATIONS[name]
    return f(x, *given, *defaults[len(given) :])


def _activate(spec, x, clip):
    return activation(spec, x if clip is None else x.clamp(-clip, clip))


def _product(x, weight, bias=None):
    out = torch.nn.functional.linear(x, weight, bias)
    out.retain_grad()
    _PRODUCTS.append((x, weight, bias, out))
    return out


_PRODUCTS = []  # of the last run: x, weight, bias, result


def _sizes(leaves):
    """sum |d out| |x| for every element of the weights, sum |d out| for the biases."""
    result = {name: torch.zeros_like(leaves[name]) for name in leaves}
    for x, weight, bias, out in _PRODUCTS:
        if out.grad is None:
            continue
        for name, leaf in leaves.items():
            # A part of a weight, as of chunk(), begins at the part's address.
            for operand, size in (
                (weight, out.grad.abs().T @ x.abs()),
                (bias, out.grad.abs().sum(0)),
            ):
                first = None if operand is None else operand.storage_offset()
                if (
                    first is None
                    or operand.data_ptr() - first * operand.itemsize != leaf.data_ptr()
                ):
                    continue
                part = result[name].view(-1)[first : first + size.numel()]
                part += size.detach().reshape(-1)
    return {name: size.numpy() for name, size in result.items()}


def rnn_cell(x, h, w, *, nonlinearity="tanh", clip=None):
    pre = _product(x, w["weight_ih"], w.get("bias_ih"))
    pre = pre + _product(h, w["weight_hh"], w.get("bias_hh"))
    return (_activate(nonlinearity, pre, clip),)


def lstm_cell(
    x, h, c, w, *, activation="tanh", recurrent_activation="sigmoid", output_activation=None,
    clip=None, input_forget=False,
):  # fmt: skip
    output = output_activation or activation
    pre = _product(x, w["weight_ih"], w.get("bias_ih"))
    pre = pre + _product(h, w["weight_hh"], w.get("bias_hh"))
    i, f, g, o = pre.chunk(4, 1)
    p_i, p_o, p_f = w["peepholes"].chunk(3) if "peepholes" in w else (0, 0, 0)
    i = _activate(recurrent_activation, i + p_i * c, clip)
    f = 1 - i if input_forget else _activate(recurrent_activation, f + p_f * c, clip)
    c = f * c + i * _activate(activation, g, clip)
    o = _activate(recurrent_activation, o + p_o * c, clip)
    h = o * _activate(output, c, None)
    return (_product(h, w["weight_hr"]) if "weight_hr" in w else h), c


def gru_cell(
    x, h, w, *, activation="tanh", recurrent_activation="sigmoid", reset_after=True, clip=None
):
    x_r, x_z, x_n = _product(x, w["weight_ih"], w.get("bias_ih")).chunk(3, 1)
    h_r, h_z, h_n = _product(h, w["weight_hh"], w.get("bias_hh")).chunk(3, 1)
    r = _activate(recurrent_activation, x_r + h_r, clip)
    z = _activate(recurrent_activation, x_z + h_z, clip)
    if not reset_after:
        bias = w["bias_hh"].chunk(3)[2] if "bias_hh" in w else None
        n = _activate(activation, x_n + _product(r * h, w["weight_hh"].chunk(3)[2], bias), clip)
    else:
        n = _activate(activation, x_n + r * h_n, clip)
    return ((1 - z) * n + z * h,)


CELLS = {"rnn": rnn_cell, "lstm": lstm_cell, "gru": gru_cell}


def sequence(
    mode, x, weights, states, *, reverse=False, lengths=None, mask=None, resets=None,
    reset_state=None, **options,
):  # fmt: skip
    """x [T, B, I] -> y [T, B, H or P] and the final states; all tensors of one dtype.

    lengths, mask, resets: NumPy arrays or None, as in recurrent.py.
    """
    T, B = x.shape[:2]
    state = tuple(states)
    fresh = tuple(reset_state) if reset_state else tuple(torch.zeros_like(s) for s in state)
    output, y = torch.zeros_like(state[0]), [None] * T

    def where(rows, yes, no):
        rows = torch.as_tensor(rows)[:, None]
        return tuple(torch.where(rows, a, b) for a, b in zip(yes, no, strict=True))

    lengths = torch.full((B,), T) if lengths is None else torch.as_tensor(lengths)
    mask = torch.ones(B, T, dtype=torch.bool) if mask is None else torch.as_tensor(mask)
    resets = torch.zeros(T, B, dtype=torch.bool) if resets is None else torch.as_tensor(resets)
    for t in reversed(range(T)) if reverse else range(T):
        cut = t + 1 if reverse else t
        if cut < T:
            state = where(resets[cut] & (cut < lengths), fresh, state)
        runs = (t < lengths) & mask[:, t]
        state = where(runs, CELLS[mode](x[t], *state, weights, **options), state)
        (output,) = where(runs, [state[0]], [output])
        (y[t],) = where(t < lengths, [output], [torch.zeros_like(output)])
    return torch.stack(y), state


def gradients(mode, arrays, seeds, dtype, *, reset_state=None, **options):
    """The gradients of ``arrays`` (x, weights, h_0, c_0 by name) and of reset_state.

    The second result has, by the same names, sizes of what was summed up for weights and biases.

    ``seeds``: those of y, h_n and, for an LSTM, c_n; None is zero.
    """
    _PRODUCTS.clear()
    leaf = lambda a: torch.tensor(a, dtype=dtype, requires_grad=True)
    leaves = {name: leaf(array) for name, array in arrays.items()}
    fresh = None if reset_state is None else [leaf(part) for part in reset_state]
    states = [leaves[name] for name in ("h_0", "c_0") if name in leaves]
    y, final = sequence(mode, leaves["x"], leaves, states, reset_state=fresh, **options)
    loss = sum(
        (out * torch.tensor(seed, dtype=dtype)).sum()
        for out, seed in zip((y, *final), seeds, strict=True)
        if seed is not None
    )
    loss.backward()
    zero = lambda p: torch.zeros_like(p) if p.grad is None else p.grad
    result = {name: zero(p).numpy() for name, p in leaves.items()}
    if fresh is not None:
        result["reset_state"] = [zero(p).numpy() for p in fresh]
    return result, _sizes(leaves)
