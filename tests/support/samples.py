"""Random weights, inputs and states of a given shape, the same for the same seed."""

import numpy as np

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
MODES = list(GATES)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def layer(mode, input_size, hidden_size, *, proj_size=0, bias=True, seed=0):
    """weight_ih, weight_hh, bias_ih, bias_hh of one layer and direction, and weight_hr or None."""
    rng = np.random.default_rng(seed)
    rows, output = GATES[mode] * hidden_size, proj_size or hidden_size

    def draw(*shape):  # sums of variance 3/4: wide enough for gates that saturate now and then
        limit = 1.5 / shape[-1] ** 0.5
        return rng.uniform(-limit, limit, shape).astype(np.float32)

    weights = [draw(rows, input_size), draw(rows, output)]
    weights += [draw(1, rows)[0], draw(1, rows)[0]] if bias else [None, None]
    return weights, draw(proj_size, hidden_size) if proj_size else None


def parameters(mode, input_size, hidden_size, *, num_layers=1, bidirectional=False, proj_size=0,
               bias=True, seed=0):  # fmt: skip
    """A state dict with torch's names."""
    result = {}
    size = input_size
    for index in range(num_layers):
        for suffix in (f"_l{index}", f"_l{index}_reverse")[: 1 + bidirectional]:
            weights, weight_hr = layer(
                mode, size, hidden_size, proj_size=proj_size, bias=bias, seed=[seed, len(result)]
            )
            names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
            result |= {n + suffix: w for n, w in zip(names, weights, strict=True) if w is not None}
            if weight_hr is not None:
                result["weight_hr" + suffix] = weight_hr
        size = (1 + bidirectional) * (proj_size or hidden_size)
    return result


def states(mode, leading, batch, hidden_size, *, proj_size=0, seed=1):
    """h [*leading, B, H or P], for an LSTM (h, c [*leading, B, H])."""
    h = normal([seed, 1], *leading, batch, proj_size or hidden_size)
    return (h, normal([seed, 2], *leading, batch, hidden_size)) if mode == "lstm" else h


def lengths(time, batch, seed=0):
    """[B] in no order; 0 and T are among them when there is room."""
    values = np.random.default_rng(seed).integers(0, time + 1, batch)
    values[: min(2, batch)] = (time, 0)[: min(2, batch)]
    return np.random.default_rng(seed).permutation(values)


def mask(time, batch, seed=0):
    """[B, T], about a third False, one row all False, one beginning with False."""
    values = np.random.default_rng(seed).random((batch, time)) > 1 / 3
    values[0] = False
    values[-1, :1] = False
    return values


def resets(time, batch, seed=0):
    """[T, B], about a fifth True; the first and the last step of some row among them."""
    values = np.random.default_rng(seed).random((time, batch)) < 1 / 5
    values[0, 0] = values[-1, -1] = True
    return values
