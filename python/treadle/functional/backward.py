"""Training of one recurrent layer in one direction: forward passes that save, and backward ones.

A forward pass takes the arguments of `treadle.functional.rnn`, `lstm` or `gru` and returns, beside
its results, a `Saved`. The backward pass takes that and the gradients of the results (of a loss,
say), and returns those of everything that the forward pass was given::

    y, h_n, saved = treadle.functional.gru_forward(x, weight_ih, weight_hh, bias_ih, bias_hh)
    gradients = treadle.functional.gru_backward(saved, dy)
    weight_hh -= 0.1 * gradients["weight_hh"]

Gradients are float32 arrays in the shapes of what they belong to, zeros where nothing depends on
it: steps beyond a row's length, or hidden by a mask. Sums over time and batch run in fixed blocks,
so that a gradient has the same bits with any number of threads. Truncated back-propagation: pass
the last state of one piece to the next as its first, and the gradient of that back as ``dh_n``, or
not at all.

With ``recompute=True`` (gradient checkpointing) the forward pass does not save its gates, and the
backward pass computes them again, as one product over all steps, where its own gradients will lie:
the same bits for less memory and, in exchange, about a third more products::

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

from treadle._inputs.arrays import to_dense, to_float32, to_pair
from treadle._inputs.checks import flag
from treadle._inputs.sequence import SequenceInputs, Sizes, prepare, results, trimmed
from treadle.functional.options import OPTIONS
from treadle.functional.packing import packed
from treadle.layers.activation import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Unpack

    from treadle import _core
    from treadle._inputs.types import ArrayLike, Float
    from treadle.functional.options import GRUOptions, LSTMOptions, RNNOptions

__all__ = [
    "Saved",
    "gru_backward",
    "gru_forward",
    "lstm_backward",
    "lstm_forward",
    "rnn_backward",
    "rnn_forward",
]


class Saved:
    """What a forward pass leaves for the backward pass.

    ``nbytes`` tells what its steps have saved: per step and row 5 H floats for LSTM, 4 H for GRU
    (3 H with the reset before the product), none for an RNN of tanh or relu without ``clip``, and
    H for another RNN. With ``recompute`` it is H for LSTM, a fifth, and none for the others. The
    packed weights are kept, too; arguments and results are only referred to.

    >>> import numpy as np, treadle
    >>> x, w, r = (np.ones(s, np.float32) for s in ((5, 2, 3), (16, 3), (16, 4)))
    >>> y, state, saved = treadle.functional.lstm_forward(x, w, r)
    >>> saved
    <saved by treadle.functional.lstm_forward: 800 bytes>
    """

    def __init__(
        self,
        mode: str,
        sizes: Sizes,
        native: _core.RecurrentStack,
        weights: dict[str, Float | None],
        inputs: SequenceInputs,
        unbatched: bool,
        recompute: bool,
    ) -> None:
        self._mode, self._sizes, self._native, self._weights = mode, sizes, native, weights
        self._inputs, self._unbatched = inputs, unbatched
        self._y, self._h_n, self._c_n, self._kept = native.run(
            inputs, save=True, recompute=recompute
        )

    @property
    def nbytes(self) -> int:
        """Bytes that the steps of the forward pass have saved."""
        return int(self._kept.nbytes)

    def __repr__(self) -> str:
        return f"<saved by {self._sizes.function}: {self.nbytes} bytes>"

    def results(self) -> tuple[Float, Float, Any]:
        """(y, h_n, c_n or None) in the caller's shapes."""
        return results(self._sizes, self._unbatched, self._y, self._h_n, self._c_n)

    def backward(
        self, mode: str, dy: ArrayLike | None, dh_n: ArrayLike | None, dc_n: ArrayLike | None
    ) -> dict[str, Any]:
        """The gradients by the names of the forward pass's arguments."""
        function = f"treadle.functional.{mode}_backward"
        if mode != self._mode:
            raise ValueError(f"{function}: saved comes from {self._mode}_forward")
        d_y = None if dy is None else self._output(function, dy)
        d_h = self._final(function, "dh_n", dh_n, self._h_n)
        d_c = self._final(function, "dc_n", dc_n, self._c_n)
        found = self._native.backward(
            self._inputs,
            weights=[self._weights],
            y=self._y,
            saved=self._kept,
            grads={"y": d_y, "h_n": d_h, "c_n": d_c},
        )
        dx = found["x"]
        gradients: dict[str, Any] = {"x": dx[:, 0] if self._unbatched else dx}
        gradients |= found["weights"][0]
        h_0, c_0, reset_h, reset_c = (
            trimmed(self._sizes, found[name], self._unbatched)
            for name in ("h_0", "c_0", "reset_h", "reset_c")
        )
        gradients["h_0"] = h_0
        if c_0 is not None:
            gradients["c_0"] = c_0
        if reset_h is not None:
            gradients["reset_state"] = reset_h if reset_c is None else (reset_h, reset_c)
        return gradients

    def _output(self, function: str, dy: ArrayLike) -> Float:
        """dy with all three axes."""
        array = to_float32(function, "dy", dy)
        expected = self.results()[0].shape
        if array.shape != expected:
            raise ValueError(f"{function}: dy has shape {array.shape}, expected {expected}")
        return array[:, None] if self._unbatched else array

    def _final(self, function: str, name: str, given: ArrayLike | None, state: Any) -> Float | None:
        """The gradient of a final state with all three axes."""
        if given is None:
            return None
        array = to_dense(function, name, given)
        expected = state.shape[2:] if self._unbatched else state.shape[1:]
        if array.shape != expected:
            raise ValueError(f"{function}: {name} has shape {array.shape}, expected {expected}")
        return array.reshape(state.shape)


def _saved(
    mode: str,
    weights: tuple[ArrayLike | None, ...],
    arrays: tuple[ArrayLike, ArrayLike | None, ArrayLike | None],
    given: Mapping[str, object],
    recompute: bool,
) -> Saved:
    """The forward pass; ``arrays`` is x with the initial states, ``given`` are the options."""
    name = f"{mode}_forward"
    function = f"treadle.functional.{name}"
    recompute = flag(function, "recompute", recompute)
    options: dict[str, Any] = dict(given)
    known = OPTIONS[mode].__annotations__
    for option in options:
        if option not in known:
            raise TypeError(
                f"{function}: got {option!r}, expected options of treadle.functional.{mode}: "
                + ", ".join(sorted(known))
            )
    lengths, mask, resets, reset = (
        options.pop(k, None) for k in ("lengths", "mask", "resets", "reset_state")
    )
    if mode == "rnn":
        nonlinearity = options.pop("nonlinearity", "tanh")
        options["activation"] = canonical(function, "nonlinearity", nonlinearity)
    sizes, native, dense = packed(name, mode, weights, **options)
    reset_c = None
    if mode == "lstm" and reset is not None:
        reset, reset_c = to_pair(function, "reset_state", reset)
    x, h_0, c_0 = arrays
    inputs, unbatched = prepare(sizes, x, h_0, c_0, lengths, mask, resets, reset, reset_c)
    for name in ("lengths", "mask", "resets"):  # the caller may use these arrays again
        flags = getattr(inputs, name)
        if flags is not None:
            setattr(inputs, name, flags.copy())
    return Saved(mode, sizes, native, dense, inputs, unbatched, recompute)


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
    """`treadle.functional.rnn` with all its options, and what `rnn_backward` needs.

    Returns (y, h_n, saved).

    options    nonlinearity, clip, reverse, batch_first, lengths, mask, resets and reset_state, as
               in `treadle.functional.rnn`
    recompute  save nothing but the results (see the head of this page); changes only what an RNN
               with ``clip`` or another nonlinearity than tanh and relu saves

    >>> import numpy as np, treadle
    >>> x, w, r = (np.ones(s, np.float32) for s in ((5, 2, 3), (4, 3), (4, 4)))
    >>> y, h_n, saved = treadle.functional.rnn_forward(x, w, r, lengths=[5, 3])
    >>> treadle.functional.rnn_backward(saved, np.ones_like(y))["weight_hh"].shape
    (4, 4)
    """
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    saved = _saved("rnn", weights, (x, h_0, None), options, recompute)
    y, h_n, _ = saved.results()
    return y, h_n, saved


def rnn_backward(
    saved: Saved, dy: ArrayLike | None = None, dh_n: ArrayLike | None = None
) -> dict[str, Any]:
    """The gradients of what `rnn_forward` was given.

    dy    float32 like y, [T, B, H] ([B, T, H] with batch_first, [T, H]); None: zero
    dh_n  float32 like h_n, [B, H] ([H]); None: zero

    With a_t what enters the activation, and d for the gradient of a loss::

        d a_t = f'(a_t) (dy_t + W_hh^T d a_{t+1})        d x_t = W_ih^T d a_t
        d W_ih = sum_tb d a_t x_t^T    d W_hh = sum_tb d a_t h_{t-1}^T    d b = sum_tb d a_t

    Returns a dict: x, weight_ih, weight_hh, bias_ih and bias_hh where given, h_0, and reset_state
    with resets. Raises ValueError for a shape that does not fit, TypeError for another dtype.

    >>> import numpy as np, treadle
    >>> x, w, r = (np.ones(s, np.float32) for s in ((1, 1, 1), (1, 1), (1, 1)))
    >>> y, h_n, saved = treadle.functional.rnn_forward(x, w, r, nonlinearity="relu")
    >>> treadle.functional.rnn_backward(saved, np.full_like(y, 3.0))["weight_ih"]
    array([[3.]], dtype=float32)
    """
    return _backward("rnn", saved, dy, dh_n, None)


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
    """`treadle.functional.lstm` with all its options, and what `lstm_backward` needs.

    Returns (y, (h_n, c_n), saved).

    options    activation, recurrent_activation, output_activation, clip, input_forget, reverse,
               batch_first, lengths, mask, resets and reset_state, as in `treadle.functional.lstm`
    recompute  save c_t alone, a fifth of what is saved with the gates; the backward pass computes
               them again, with the same bits

    >>> import numpy as np, treadle
    >>> x, w, r = (np.ones(s, np.float32) for s in ((5, 2, 3), (16, 3), (16, 4)))
    >>> y, (h_n, c_n), saved = treadle.functional.lstm_forward(x, w, r)
    >>> sorted(treadle.functional.lstm_backward(saved, dc_n=np.ones_like(c_n)))
    ['c_0', 'h_0', 'weight_hh', 'weight_ih', 'x']
    """
    weights = (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, peepholes)
    saved = _saved("lstm", weights, (x, h_0, c_0), options, recompute)
    y, h_n, c_n = saved.results()
    return y, (h_n, c_n), saved


def lstm_backward(
    saved: Saved,
    dy: ArrayLike | None = None,
    dh_n: ArrayLike | None = None,
    dc_n: ArrayLike | None = None,
) -> dict[str, Any]:
    """The gradients of what `lstm_forward` was given.

    dy    float32 like y, [T, B, P] ([B, T, P] with batch_first, [T, P]); None: zero
    dh_n  float32 like h_n, [B, P] ([P]); None: zero
    dc_n  float32 like c_n, [B, H] ([H]); None: zero

    With dh_t = dy_t + W_hh^T d a_{t+1} for the gates i, f, g, o (with a projection W_hr^T times
    that), and ``*`` elementwise::

        d c_t = d c_{t+1} * f_{t+1} + dh_t * o * tanh'(c_t)
        d a = (d c_t * g * i', d c_t * c_{t-1} * f', d c_t * i * g', dh_t * tanh(c_t) * o')

    Returns a dict as `rnn_backward` does, with c_0, and with weight_hr and peepholes where given;
    reset_state is a pair. Raises ValueError for a shape that does not fit, TypeError for another
    dtype.

    >>> import numpy as np, treadle
    >>> x, w, r = (np.zeros(s, np.float32) for s in ((1, 1, 1), (4, 1), (4, 1)))
    >>> y, (h_n, c_n), saved = treadle.functional.lstm_forward(x, w, r)
    >>> treadle.functional.lstm_backward(saved, dc_n=np.ones_like(c_n))["c_0"]  # the forget gate
    array([[0.5]], dtype=float32)
    """
    return _backward("lstm", saved, dy, dh_n, dc_n)


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
    """`treadle.functional.gru` with all its options, and what `gru_backward` needs.

    Returns (y, h_n, saved).

    options    activation, recurrent_activation, reset_after, clip, reverse, batch_first, lengths,
               mask, resets and reset_state, as in `treadle.functional.gru`
    recompute  save nothing but the results; the backward pass computes the gates again, with the
               same bits

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
    saved = _saved("gru", weights, (x, h_0, None), options, recompute)
    y, h_n, _ = saved.results()
    return y, h_n, saved


def gru_backward(
    saved: Saved, dy: ArrayLike | None = None, dh_n: ArrayLike | None = None
) -> dict[str, Any]:
    """The gradients of what `gru_forward` was given.

    dy    float32 like y, [T, B, H] ([B, T, H] with batch_first, [T, H]); None: zero
    dh_n  float32 like h_n, [B, H] ([H]); None: zero

    With ``*`` elementwise and dh_t the sum of dy_t, dh_{t+1} * z_{t+1} and what the products of the
    next step give back::

        d a_n = dh_t * (1 - z) * n'    d a_z = dh_t * (h_{t-1} - n) * z'
        reset_after:  d a_r = d a_n * (W_hn h_{t-1} + b_hn) * r'
                      back to h_{t-1}: W_hr^T d a_r + W_hz^T d a_z + W_hn^T (d a_n * r)
        else:         d a_r = (W_hn^T d a_n) * h_{t-1} * r'
                      back to h_{t-1}: W_hr^T d a_r + W_hz^T d a_z + (W_hn^T d a_n) * r

    Returns a dict as `rnn_backward` does. Raises ValueError for a shape that does not fit,
    TypeError for another dtype.

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
