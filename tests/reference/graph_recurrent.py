"""treadle.Recurrent as NumPy writes it: a node of a graph over the definitions of `recurrent`."""

import numpy as np

from reference import recurrent

# The names of a weight in a module of PyTorch begin like those of the node.
_OPTIONS = ("activation", "recurrent_activation", "output_activation", "clip", "reset_after")


def node(attributes, x, h0=None, c0=None, lengths=None, *weights, dtype=np.float64):
    """x [T, B, I], or [B, T, I] with batch_first -> y likewise, h_n, and c_n of an LSTM."""
    names = attributes["weights"]
    mask = weights[len(names)] if len(weights) > len(names) else None
    parameters = {}
    for name, array in zip(names, weights, strict=False):
        layer, *reverse, rest = name.split(".")
        parameters[f"{rest}_l{layer}" + "_reverse" * bool(reverse)] = array
    mode, direction = attributes["mode"], attributes.get("direction", "forward")
    if direction == "reverse":
        parameters = {name.removesuffix("_reverse"): a for name, a in parameters.items()}
    options = {key: attributes[key] for key in _OPTIONS if key in attributes}
    options = {key: tuple(o) if isinstance(o, list) else o for key, o in options.items()}
    if mode == "rnn":
        options = {"nonlinearity": options.pop("activation", "tanh")}
    if mode != "gru":
        options.pop("reset_after", None)
    given = (h0, c0) if mode == "lstm" else h0
    first = bool(attributes.get("batch_first"))
    y, final = recurrent.module(
        mode, parameters, np.swapaxes(x, 0, 1) if first else x, None if h0 is None else given,
        num_layers=attributes.get("num_layers", 1), bidirectional=direction == "bidirectional",
        reverse=direction == "reverse", lengths=lengths, mask=mask, dtype=dtype, **options,
    )  # fmt: skip
    if attributes.get("continued") and mask is not None:
        y = _continued(y, h0, np.asarray(mask), direction == "reverse")
    return (np.swapaxes(y, 0, 1) if first else y, *(final if mode == "lstm" else (final,)))


def _continued(y, h0, mask, reverse):
    """Let the outputs before a row's first step be its first state; one direction."""
    if h0 is None:
        return y
    steps = mask[:, ::-1] if reverse else mask
    before = ~np.logical_or.accumulate(steps, axis=1)
    before = before[:, ::-1] if reverse else before
    return np.where(before.T[:, :, None], h0[-1], y)
