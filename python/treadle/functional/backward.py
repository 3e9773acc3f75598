"""Training of one recurrent layer in one direction: forward passes that save, backward passes.

A forward pass takes the arguments of `treadle.functional.rnn`, `lstm` or `gru` and returns, beside
its results, a `Saved`. The backward pass takes this object and the gradients of the results (of a
loss, say), and returns the gradients of all arguments of the forward pass::

    y, h_n, saved = treadle.functional.gru_forward(x, weight_ih, weight_hh, bias_ih, bias_hh)
    gradients = treadle.functional.gru_backward(saved, dy)
    weight_hh -= 0.1 * gradients["weight_hh"]

Gradients are float32 arrays with the shapes of their arguments. They are zero where nothing depends
on the argument: in steps beyond a row's length, or hidden by a mask. Sums over time and batch run
in fixed blocks, so that a gradient has the same bits with any number of threads. For truncated
back-propagation, pass the last state of one piece to the next as its first, and pass the gradient
of that state back as ``dh_n``, or not at all.

With ``recompute=True`` (gradient checkpointing) the forward pass does not save its gates, and the
backward pass computes them again, as one product over all steps, in the memory of its gradients.
The bits are the same; it takes less memory and about a third more products::

    bytes saved per step and row, H float32     lstm   gru   gru, reset before   rnn
    saving the gates                              5     4            3           0, or 1: see Saved
    recompute=True                                1     0            0           0


The float arrays of the forward pass, y among them, are not copied: they must not change before the
backward pass.

Sources: Werbos, Backpropagation through time, 1990; the formulas of ``torch.nn.RNN``, ``LSTM``,
``GRU`` differentiated, with torch's choice of side where an activation has a corner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from treadle._public import published
from treadle.functional.saved import Saved, run_saving

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from treadle._inputs.types import ArrayLike, Float
    from treadle.functional.options import GRUOptions, LSTMOptions, RNNOptions

__all__ = [
    "gru_backward",
    "gru_forward",
    "lstm_backward",
    "lstm_forward",
    "rnn_backward",
    "rnn_forward",
]


@published("treadle.functional")
def rnn_forward(
    x: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
    h_0: ArrayLike | None = None,
    *,
    recompute: bool = False,
    **options: Unpack[RNNOptions],
) -> tuple[Float, Float, Saved]:
    """Run `treadle.functional.rnn` and save the values that `rnn_backward` needs.

    Parameters
    ----------
    options
        The keywords nonlinearity, clip, reverse, batch_first, lengths, mask, resets and
        reset_state, as in `treadle.functional.rnn`.
    recompute
        Save nothing but the results (see the head of `treadle.functional.backward`); changes only
        what an RNN with ``clip`` or another nonlinearity than tanh and relu saves.

    Returns
    -------
    (y, h_n, saved).

    Examples
    --------
    >>> import numpy as np, treadle
    >>> x, w, r = (np.ones(s, np.float32) for s in ((5, 2, 3), (4, 3), (4, 4)))
    >>> y, h_n, saved = treadle.functional.rnn_forward(x, w, r, lengths=[5, 3])
    >>> treadle.functional.rnn_backward(saved, np.ones_like(y))["weight_hh"].shape
    (4, 4)
    """
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    saved = run_saving("rnn", weights, (x, h_0, None), options, recompute)
    y, h_n, _ = saved.results()
    return y, h_n, saved


@published("treadle.functional")
def rnn_backward(
    saved: Saved, dy: ArrayLike | None = None, dh_n: ArrayLike | None = None
) -> dict[str, Any]:
    """Return the gradients of the arguments of `rnn_forward`.

    Parameters
    ----------
    dy
        float32 like y, [T, B, H] ([B, T, H] with batch_first, [T, H]); None: zero.
    dh_n
        float32 like h_n, [B, H] ([H]); None: zero.

    Returns
    -------
    A dict: x, weight_ih, weight_hh, bias_ih and bias_hh where given, h_0, and reset_state with
    resets.

    Raises
    ------
    ValueError
        For a shape that does not fit.
    TypeError
        For another dtype.

    Notes
    -----
    With a_t what enters the activation, and d for the gradient of a loss::

        d a_t = f'(a_t) (dy_t + W_hh^T d a_{t+1})        d x_t = W_ih^T d a_t
        d W_ih = sum_tb d a_t x_t^T    d W_hh = sum_tb d a_t h_{t-1}^T    d b = sum_tb d a_t

    Examples
    --------
    >>> import numpy as np, treadle
    >>> x, w, r = (np.ones(s, np.float32) for s in ((1, 1, 1), (1, 1), (1, 1)))
    >>> y, h_n, saved = treadle.functional.rnn_forward(x, w, r, nonlinearity="relu")
    >>> treadle.functional.rnn_backward(saved, np.full_like(y, 3.0))["weight_ih"]
    array([[3.]], dtype=float32)
    """
    return _backward("rnn", saved, dy, dh_n, None)


@published("treadle.functional")
def lstm_forward(
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
    recompute: bool = False,
    **options: Unpack[LSTMOptions],
) -> tuple[Float, tuple[Float, Float], Saved]:
    """Run `treadle.functional.lstm` and save the values that `lstm_backward` needs.

    Parameters
    ----------
    options
        The keywords activation, recurrent_activation, output_activation, clip, input_forget,
        reverse, batch_first, lengths, mask, resets and reset_state, as in
        `treadle.functional.lstm`.
    recompute
        Save c_t alone, a fifth of what is saved with the gates; the backward pass computes them
        again, with the same bits.

    Returns
    -------
    (y, (h_n, c_n), saved).

    Examples
    --------
    >>> import numpy as np, treadle
    >>> x, w, r = (np.ones(s, np.float32) for s in ((5, 2, 3), (16, 3), (16, 4)))
    >>> y, (h_n, c_n), saved = treadle.functional.lstm_forward(x, w, r)
    >>> sorted(treadle.functional.lstm_backward(saved, dc_n=np.ones_like(c_n)))
    ['c_0', 'h_0', 'weight_hh', 'weight_ih', 'x']
    """
    weights = (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, peepholes)
    saved = run_saving("lstm", weights, (x, h_0, c_0), options, recompute)
    y, h_n, c_n = saved.results()
    return y, (h_n, c_n), saved


@published("treadle.functional")
def lstm_backward(
    saved: Saved,
    dy: ArrayLike | None = None,
    dh_n: ArrayLike | None = None,
    dc_n: ArrayLike | None = None,
) -> dict[str, Any]:
    """Return the gradients of the arguments of `lstm_forward`.

    Parameters
    ----------
    dy
        float32 like y, [T, B, P] ([B, T, P] with batch_first, [T, P]); None: zero.
    dh_n
        float32 like h_n, [B, P] ([P]); None: zero.
    dc_n
        float32 like c_n, [B, H] ([H]); None: zero.

    Returns
    -------
    A dict like that of `rnn_backward`, with c_0, and with weight_hr and peepholes where given;
    reset_state is a pair.

    Raises
    ------
    ValueError
        For a shape that does not fit.
    TypeError
        For another dtype.

    Notes
    -----
    With dh_t = dy_t + W_hh^T d a_{t+1} for the gates i, f, g, o (with a projection W_hr^T times
    that), and ``*`` elementwise::

        d c_t = d c_{t+1} * f_{t+1} + dh_t * o * tanh'(c_t)
        d a = (d c_t * g * i', d c_t * c_{t-1} * f', d c_t * i * g', dh_t * tanh(c_t) * o')

    Examples
    --------
    >>> import numpy as np, treadle
    >>> x, w, r = (np.zeros(s, np.float32) for s in ((1, 1, 1), (4, 1), (4, 1)))
    >>> y, (h_n, c_n), saved = treadle.functional.lstm_forward(x, w, r)
    >>> treadle.functional.lstm_backward(saved, dc_n=np.ones_like(c_n))["c_0"]  # the forget gate
    array([[0.5]], dtype=float32)
    """
    return _backward("lstm", saved, dy, dh_n, dc_n)


@published("treadle.functional")
def gru_forward(
    x: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
    h_0: ArrayLike | None = None,
    *,
    recompute: bool = False,
    **options: Unpack[GRUOptions],
) -> tuple[Float, Float, Saved]:
    """Run `treadle.functional.gru` and save the values that `gru_backward` needs.

    Parameters
    ----------
    options
        The keywords activation, recurrent_activation, reset_after, clip, reverse, batch_first,
        lengths, mask, resets and reset_state, as in `treadle.functional.gru`.
    recompute
        Save nothing but the results; the backward pass computes the gates again, with the same
        bits.

    Returns
    -------
    (y, h_n, saved).

    Examples
    --------
    >>> import numpy as np, treadle
    >>> x, w, r = (np.ones(s, np.float32) for s in ((5, 2, 3), (12, 3), (12, 4)))
    >>> y, h_n, saved = treadle.functional.gru_forward(x, w, r, reset_after=False)
    >>> saved.nbytes == 5 * 2 * 3 * 4 * 4
    True
    >>> y, h_n, less = treadle.functional.gru_forward(x, w, r, reset_after=False, recompute=True)
    >>> less.nbytes
    0
    >>> dy = np.ones_like(y)
    >>> gradients = [treadle.functional.gru_backward(s, dy)["weight_hh"] for s in (saved, less)]
    >>> np.array_equal(*gradients)
    True
    """
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    saved = run_saving("gru", weights, (x, h_0, None), options, recompute)
    y, h_n, _ = saved.results()
    return y, h_n, saved


@published("treadle.functional")
def gru_backward(
    saved: Saved, dy: ArrayLike | None = None, dh_n: ArrayLike | None = None
) -> dict[str, Any]:
    """Return the gradients of the arguments of `gru_forward`.

    Parameters
    ----------
    dy
        float32 like y, [T, B, H] ([B, T, H] with batch_first, [T, H]); None: zero.
    dh_n
        float32 like h_n, [B, H] ([H]); None: zero.

    Returns
    -------
    A dict like that of `rnn_backward`.

    Raises
    ------
    ValueError
        For a shape that does not fit.
    TypeError
        For another dtype.

    Notes
    -----
    With ``*`` elementwise and dh_t the sum of dy_t, dh_{t+1} * z_{t+1} and what the products of the
    next step give back::

        d a_n = dh_t * (1 - z) * n'    d a_z = dh_t * (h_{t-1} - n) * z'
        reset_after:  d a_r = d a_n * (W_hn h_{t-1} + b_hn) * r'
                      back to h_{t-1}: W_hr^T d a_r + W_hz^T d a_z + W_hn^T (d a_n * r)
        else:         d a_r = (W_hn^T d a_n) * h_{t-1} * r'
                      back to h_{t-1}: W_hr^T d a_r + W_hz^T d a_z + (W_hn^T d a_n) * r

    Examples
    --------
    >>> import numpy as np, treadle
    >>> x, w, r = (np.zeros(s, np.float32) for s in ((1, 1, 1), (3, 1), (3, 1)))
    >>> y, h_n, saved = treadle.functional.gru_forward(x, w, r)
    >>> treadle.functional.gru_backward(saved, dh_n=np.ones_like(h_n))["h_0"]  # the update gate
    array([[0.5]], dtype=float32)
    """
    return _backward("gru", saved, dy, dh_n, None)


def _backward(
    mode: str,
    saved: Saved,
    dy: ArrayLike | None,
    dh_n: ArrayLike | None,
    dc_n: ArrayLike | None,
) -> dict[str, Any]:
    if not isinstance(saved, Saved):
        kind = type(saved).__name__
        raise TypeError(
            f"treadle.functional.{mode}_backward: saved is {kind}, expected that of {mode}_forward"
        )
    return saved.backward(mode, dy, dh_n, dc_n)
