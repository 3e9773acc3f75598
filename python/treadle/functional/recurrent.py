"""The recurrent layers as functions of their weights: one layer, one direction.

A call packs its weights, which costs more than a short sequence. Where the same weights are used
again, a module (`treadle.LSTM`, ...) packs them once. Weights that are all read-only
(``weight.flags.writeable = False``) are compared with those of the last calls, and packed when they
are other arrays or have other bits.

The functions cover every attribute of the ONNX operators RNN, LSTM and GRU; the rows of the
weights, however, are in PyTorch's order: i, f, g, o and r, z, n. Letters: T time, B batch, I input,
H hidden, P projection (P = H without one). All arrays are float32. The three sequence functions
have these arguments in common:

x                     [T, B, I], [B, T, I] with batch_first, or [T, I], a sequence without batch
weight_ih, weight_hh  [G*H, I] and [G*H, P], with G = 1, 4, 3 for rnn, lstm, gru
bias_ih, bias_hh      [G*H], each or both may be left out
h_0, c_0              [B, P] and [B, H], without B for one sequence; zero when left out
clip                  all pre-activations of all gates are clipped to [-clip, clip]
reverse               run from the last step to the first; y stays in the order of time
lengths, mask, resets, reset_state  as in `treadle.LSTM.__call__`

All raise ValueError for shapes or values that do not fit, TypeError for other dtypes or kinds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle._inputs.arrays import to_pair
from treadle._inputs.sequence import run, step
from treadle._public import published
from treadle.functional.packing import packed
from treadle.layers.activation import canonical

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float
    from treadle.layers.activation import Activation

__all__ = ["gru", "gru_cell", "lstm", "lstm_cell", "rnn", "rnn_cell"]


@published("treadle.functional")
def rnn(
    x: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
    h_0: ArrayLike | None = None,
    *,
    nonlinearity: Activation = "tanh",
    clip: float | None = None,
    reverse: bool = False,
    batch_first: bool = False,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: ArrayLike | None = None,
) -> tuple[Float, Float]:
    """Run a vanilla RNN by the formula of `treadle.RNN`: (y [T, B, H], h_n [B, H]).

    Examples
    --------
    >>> import numpy as np, treadle
    >>> x, w, r = (np.ones(s, np.float32) for s in ((5, 2, 3), (4, 3), (4, 4)))
    >>> y, h_n = treadle.functional.rnn(x, w, r, nonlinearity="relu", clip=100)
    >>> y.shape, h_n.shape
    ((5, 2, 4), (2, 4))
    """
    sizes, native, _ = packed(
        "rnn",
        "rnn",
        (weight_ih, weight_hh, bias_ih, bias_hh),
        reverse=reverse,
        batch_first=batch_first,
        clip=clip,
        activation=canonical("treadle.functional.rnn", "nonlinearity", nonlinearity),
    )
    y, h_n, _ = run(sizes, native, x, (h_0, None), lengths, mask, resets, (reset_state, None))
    return y, h_n


@published("treadle.functional")
def lstm(
    x: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
    h_0: ArrayLike | None = None,
    c_0: ArrayLike | None = None,
    *,
    weight_hr: ArrayLike | None = None,
    peepholes: ArrayLike | None = None,
    activation: Activation = "tanh",
    recurrent_activation: Activation = "sigmoid",
    output_activation: Activation = None,
    clip: float | None = None,
    input_forget: bool = False,
    reverse: bool = False,
    batch_first: bool = False,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: tuple[ArrayLike, ArrayLike] | None = None,
) -> tuple[Float, tuple[Float, Float]]:
    """Run an LSTM by the formula of `treadle.LSTM`: (y [T, B, P], (h_n [B, P], c_n [B, H])).

    Parameters
    ----------
    weight_hr
        [P, H], the projection.
    peepholes
        [3*H], ONNX's input P for one direction, in its order i, o, f: i and f get P * c_{t-1} added
        before their activation, o gets P * c_t.
    output_activation
        The activation of c_t in h_t = o * act(c_t); None: the same as ``activation``.
    input_forget
        f = 1 - i.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> x, w, r, p = (np.ones(s, np.float32) for s in ((5, 2, 3), (16, 3), (16, 4), (12,)))
    >>> y, (h_n, c_n) = treadle.functional.lstm(x, w, r, peepholes=p, reverse=True)
    >>> bool(np.all(y[0] == h_n)), c_n.shape
    (True, (2, 4))
    """
    sizes, native, _ = packed(
        "lstm",
        "lstm",
        (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, peepholes),
        reverse=reverse,
        batch_first=batch_first,
        clip=clip,
        activation=activation,
        recurrent_activation=recurrent_activation,
        output_activation=output_activation,
        input_forget=input_forget,
    )
    reset = (None, None)
    if reset_state is not None:
        reset = to_pair(sizes.function, "reset_state", reset_state)
    y, h_n, c_n = run(sizes, native, x, (h_0, c_0), lengths, mask, resets, reset)
    return y, (h_n, c_n)


@published("treadle.functional")
def gru(
    x: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
    h_0: ArrayLike | None = None,
    *,
    activation: Activation = "tanh",
    recurrent_activation: Activation = "sigmoid",
    reset_after: bool = True,
    clip: float | None = None,
    reverse: bool = False,
    batch_first: bool = False,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: ArrayLike | None = None,
) -> tuple[Float, Float]:
    """Run a GRU by the formula of `treadle.GRU`: (y [T, B, H], h_n [B, H]).

    Examples
    --------
    >>> import numpy as np, treadle
    >>> x, w, r = (np.ones(s, np.float32) for s in ((5, 2, 3), (12, 3), (12, 4)))
    >>> y, h_n = treadle.functional.gru(x, w, r, reset_after=False)
    >>> bool(np.all(y[-1] == h_n))
    True
    """
    sizes, native, _ = packed(
        "gru",
        "gru",
        (weight_ih, weight_hh, bias_ih, bias_hh),
        reverse=reverse,
        batch_first=batch_first,
        clip=clip,
        activation=activation,
        recurrent_activation=recurrent_activation,
        reset_after=reset_after,
    )
    y, h_n, _ = run(sizes, native, x, (h_0, None), lengths, mask, resets, (reset_state, None))
    return y, h_n


@published("treadle.functional")
def rnn_cell(
    x: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
    h: ArrayLike | None = None,
    *,
    nonlinearity: Activation = "tanh",
    clip: float | None = None,
) -> Float:
    """Take one step of `rnn`: h_t [B, H] from x [B, I] and h_{t-1} [B, H]; or all without B.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> treadle.functional.rnn_cell([1.0, 2.0], np.eye(2, dtype="f4"), np.eye(2, dtype="f4")).shape
    (2,)
    """
    sizes, native, _ = packed(
        "rnn_cell",
        "rnn",
        (weight_ih, weight_hh, bias_ih, bias_hh),
        clip=clip,
        activation=canonical("treadle.functional.rnn_cell", "nonlinearity", nonlinearity),
    )
    return step(sizes, native, x, h, None)[0]


@published("treadle.functional")
def lstm_cell(
    x: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
    h: ArrayLike | None = None,
    c: ArrayLike | None = None,
    *,
    weight_hr: ArrayLike | None = None,
    peepholes: ArrayLike | None = None,
    activation: Activation = "tanh",
    recurrent_activation: Activation = "sigmoid",
    output_activation: Activation = None,
    clip: float | None = None,
    input_forget: bool = False,
) -> tuple[Float, Float]:
    """Take one step of `lstm`: (h_t [B, P], c_t [B, H]) from x [B, I], h_{t-1} and c_{t-1}.

    All arrays may come without B.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> w, r = np.ones((8, 3), np.float32), np.ones((8, 2), np.float32)
    >>> h, c = treadle.functional.lstm_cell(np.ones((5, 3), np.float32), w, r)
    >>> h.shape, c.shape
    ((5, 2), (5, 2))
    """
    sizes, native, _ = packed(
        "lstm_cell",
        "lstm",
        (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, peepholes),
        clip=clip,
        activation=activation,
        recurrent_activation=recurrent_activation,
        output_activation=output_activation,
        input_forget=input_forget,
    )
    return step(sizes, native, x, h, c)


@published("treadle.functional")
def gru_cell(
    x: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
    h: ArrayLike | None = None,
    *,
    activation: Activation = "tanh",
    recurrent_activation: Activation = "sigmoid",
    reset_after: bool = True,
    clip: float | None = None,
) -> Float:
    """Take one step of `gru`: h_t [B, H] from x [B, I] and h_{t-1} [B, H]; or all without B.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> w, r = np.ones((6, 3), np.float32), np.ones((6, 2), np.float32)
    >>> treadle.functional.gru_cell(np.ones((5, 3), np.float32), w, r).shape
    (5, 2)
    """
    sizes, native, _ = packed(
        "gru_cell",
        "gru",
        (weight_ih, weight_hh, bias_ih, bias_hh),
        clip=clip,
        activation=activation,
        recurrent_activation=recurrent_activation,
        reset_after=reset_after,
    )
    return step(sizes, native, x, h, None)[0]
