"""The layers over whole sequences: RNN, LSTM, GRU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from treadle._inputs.arrays import to_pair
from treadle._inputs.sequence import run
from treadle._public import published
from treadle.layers.configuration import Integer, Nonlinearity
from treadle.layers.module import layer
from treadle.layers.recurrent_base import GRU_ENTRIES, LSTM_ENTRIES
from treadle.layers.recurrent_stack import Recurrent

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float
    from treadle.layers.activation import Activation
    from treadle.layers.configuration import Entries


class _OneState(Recurrent):
    """The base of RNN and GRU, whose state is h alone."""

    def __call__(
        self,
        x: ArrayLike,
        state: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        resets: ArrayLike | None = None,
        reset_state: ArrayLike | None = None,
    ) -> tuple[Float, Float]:
        """Run over whole sequences: ``(y, h_n)``.

        Arguments and results are those of `treadle.LSTM.__call__` with h [D*L, B, H] for a state.
        """
        y, h_n, _ = run(
            self._sizes,
            self._packed.native,
            x,
            (state, None),
            lengths,
            mask,
            resets,
            (reset_state, None),
        )
        return y, h_n


@published("treadle")
@layer
class RNN(_OneState):
    """Elman's recurrent network, L layers, one or both directions.

    ``dtype`` is the format of the matrices and of the vectors that they are multiplied by:
    "float32", "bfloat16" or "int8"; or one for each layer, as a list, or as a dict such as
    ``{"default": "int8", "layer0": "bfloat16"}``. States, sums and activations are float32. The
    layer runs inference; `treadle.torch` trains.

    For each time step t, layer and direction::

        h_t = act(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)

    with the input of a layer above the first being the output of the layer below, both directions
    side by side. ``act`` is ``nonlinearity``: tanh, relu or any activation of
    `treadle.layers.activation`.

    Arguments and defaults are those of ``torch.nn.RNN`` (without dropout, which inference ignores).
    Two more are ONNX's: ``clip`` keeps the argument of act in [-clip, clip], and ``reverse`` runs
    the only direction from the last step to the first, with y in the order of time.
    Shapes, in the letters T time, B batch, I input, H hidden, D directions, L layers::

        x [T, B, I] (batch_first: [B, T, I]; unbatched: [T, I])    h_0, h_n [D*L, B, H] ([D*L, H])
        y [T, B, D*H] (likewise)
        weight_ih_l0 [H, I]   weight_ih_l{k} [H, D*H]   weight_hh_l{k} [H, H]
        bias_ih_l{k}, bias_hh_l{k} [H]   and the same with _reverse for the other direction

    ``seed`` makes the initial U(-1/sqrt(H), 1/sqrt(H)) parameters repeatable.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value.
    MemoryError
        For sizes beyond the machine.

    References
    ----------
    Elman, Finding structure in time, 1990; ``torch.nn.RNN``; the ONNX operator RNN.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> m = treadle.RNN(8, 16, nonlinearity="relu", seed=0)
    >>> y, h_n = m(np.zeros((5, 3, 8), np.float32))
    >>> y.shape, h_n.shape
    ((5, 3, 16), (1, 3, 16))
    """

    mode = "rnn"
    _entries: ClassVar[Entries] = {**Recurrent._entries, "nonlinearity": Nonlinearity()}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Activation = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        bidirectional: bool = False,
        *,
        dtype: Any = "float32",
        seed: Any = None,
        clip: float | None = None,
        reverse: bool = False,
    ) -> None:
        self._initialize(locals())


@published("treadle")
@layer
class LSTM(Recurrent):
    """Long short-term memory, L layers, one or both directions.

    ``dtype`` is the format of the matrices and of the vectors that they are multiplied by:
    "float32", "bfloat16" or "int8"; or one for each layer, as a list, or as a dict such as
    ``{"default": "int8", "layer0": "bfloat16"}``. States, sums and activations are float32. The
    layer runs inference; `treadle.torch` trains.

    For each time step t, layer and direction, with ``*`` elementwise::

        i = rec(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi)        input gate
        f = rec(W_if x_t + b_if + W_hf h_{t-1} + b_hf)        forget gate
        g = act(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)        candidate
        o = rec(W_io x_t + b_io + W_ho h_{t-1} + b_ho)        output gate
        c_t = f * c_{t-1} + i * g
        h_t = o * act(c_t)                or, with proj_size:  h_t = W_hr (o * act(c_t))

    with the input of a layer above the first being the output of the layer below, both directions
    side by side. ``act`` is ``activation``, ``rec`` is ``recurrent_activation``; any activation of
    `treadle.layers.activation` will do.

    Arguments and defaults are those of ``torch.nn.LSTM`` (without dropout, which inference
    ignores). The others are Keras' and ONNX's::

        output_activation  act in the formula of h_t; None: the same as ``activation``
        use_peepholes      adds p_i * c_{t-1}, p_f * c_{t-1} and p_o * c_t to the pre-activations
                           (the arguments of rec and act) of i, f and o
        input_forget       f = 1 - i
        clip               keeps all pre-activations in [-clip, clip]
        reverse            the only direction runs from the last step to the first; y stays in
                           the order of time

    Shapes, in the letters T time, B batch, I input, H hidden, P projection, D directions,
    L layers; a layer without projection has P = H::

        x [T, B, I] (batch_first: [B, T, I]; unbatched: [T, I])    h_0, h_n [D*L, B, P] ([D*L, P])
        y [T, B, D*P] (likewise)                                   c_0, c_n [D*L, B, H] ([D*L, H])
        weight_ih_l0 [4*H, I]   weight_ih_l{k} [4*H, D*P]   weight_hh_l{k} [4*H, P]
        bias_ih_l{k}, bias_hh_l{k} [4*H]   weight_hr_l{k} [P, H]
        peepholes_l{k} [3*H], in ONNX's order i, o, f
        and the same with _reverse for the other direction; rows in the order i, f, g, o

    ``seed`` makes the initial U(-1/sqrt(H), 1/sqrt(H)) parameters repeatable.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value.
    MemoryError
        For sizes beyond the machine.

    References
    ----------
    Hochreiter and Schmidhuber, Long short-term memory, 1997, with the forget gate of Gers et al.,
    2000; ``torch.nn.LSTM`` (projection: Sak et al., arXiv:1402.1128); the ONNX operator LSTM;
    ``keras.layers.LSTM`` for the two activations.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> m = treadle.LSTM(8, 16, num_layers=2, bidirectional=True, seed=0)
    >>> y, (h_n, c_n) = m(np.zeros((5, 3, 8), np.float32))
    >>> y.shape, h_n.shape, c_n.shape
    ((5, 3, 32), (4, 3, 16), (4, 3, 16))
    """

    mode = "lstm"
    _entries: ClassVar[Entries] = {
        **Recurrent._entries,
        **LSTM_ENTRIES,
        "proj_size": Integer(least=0),
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        dtype: Any = "float32",
        seed: Any = None,
        output_activation: Activation = None,
        use_peepholes: bool = False,
        input_forget: bool = False,
        clip: float | None = None,
        reverse: bool = False,
    ) -> None:
        self._initialize(locals())

    def __call__(
        self,
        x: ArrayLike,
        state: tuple[ArrayLike, ArrayLike] | None = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        resets: ArrayLike | None = None,
        reset_state: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> tuple[Float, tuple[Float, Float]]:
        """Run over whole sequences: ``(y, (h_n, c_n))``.

        Parameters
        ----------
        x
            float32 [T, B, I], [B, T, I] with batch_first, or [T, I].
        state
            (h_0, c_0), float32; zero when left out.
        lengths
            Integers [B] in 0..T, in any order: row b ends after lengths[b] steps. Its output is
            zero from there on, its final state is the one at its end, and the reverse direction
            starts there, as with PyTorch's packed sequences.
        mask
            bool [B, T] (not together with lengths), with Keras' meaning: a step that is False keeps
            the state and repeats the output before it, or zeros if no step came before.
        resets
            bool [T, B] ([B, T] with batch_first, [T] unbatched): the state of the row returns to
            zero, or to ``reset_state``, before that step. The reverse direction has the same
            border between t-1 and t: its state returns before step t-1.
        reset_state
            (h, c) like ``state``.

        Raises
        ------
        ValueError
            For a shape or value that does not fit.
        TypeError
            For another dtype or kind of object; float64 is never rounded silently.

        Notes
        -----
        The results are new float32 arrays in the shapes of the class.

        Examples
        --------
        >>> import numpy as np, treadle
        >>> m = treadle.LSTM(2, 4, seed=0)
        >>> y, (h_n, c_n) = m(np.ones((3, 2, 2), np.float32), lengths=[3, 1])
        >>> bool(np.all(y[1:, 1] == 0)), bool(np.all(h_n[0, 1] == y[0, 1]))
        (True, True)
        """
        h_c = reset = (None, None)
        if state is not None:
            h_c = to_pair(self._function, "state", state)
        if reset_state is not None:
            reset = to_pair(self._function, "reset_state", reset_state)
        y, h_n, c_n = run(self._sizes, self._packed.native, x, h_c, lengths, mask, resets, reset)
        return y, (h_n, c_n)


@published("treadle")
@layer
class GRU(_OneState):
    """Gated recurrent unit, L layers, one or both directions.

    ``dtype`` is the format of the matrices and of the vectors that they are multiplied by:
    "float32", "bfloat16" or "int8"; or one for each layer, as a list, or as a dict such as
    ``{"default": "int8", "layer0": "bfloat16"}``. States, sums and activations are float32. The
    layer runs inference; `treadle.torch` trains.

    For each time step t, layer and direction, with ``*`` elementwise::

        r = rec(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)            reset gate
        z = rec(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)            update gate
        n = act(W_in x_t + b_in + r * (W_hn h_{t-1} + b_hn))      candidate, reset_after=True
        n = act(W_in x_t + b_in + W_hn (r * h_{t-1}) + b_hn)      candidate, reset_after=False
        h_t = (1 - z) * n + z * h_{t-1}

    with the input of a layer above the first being the output of the layer below, both directions
    side by side. ``act`` is ``activation``, ``rec`` is ``recurrent_activation``; any activation of
    `treadle.layers.activation` will do. ``reset_after=True`` is PyTorch's candidate, cuDNN's,
    Keras' default and ONNX's linear_before_reset=1; ``False`` is ONNX's default and Keras' other
    candidate.

    Arguments and defaults are those of ``torch.nn.GRU`` (without dropout, which inference ignores).
    Two more are ONNX's: ``clip`` keeps the arguments of rec and act in [-clip, clip], and
    ``reverse`` runs the only direction from the last step to the first; y keeps the order of time.
    Shapes, in the letters T time, B batch, I input, H hidden, D directions, L layers::

        x [T, B, I] (batch_first: [B, T, I]; unbatched: [T, I])    h_0, h_n [D*L, B, H] ([D*L, H])
        y [T, B, D*H] (likewise)
        weight_ih_l0 [3*H, I]   weight_ih_l{k} [3*H, D*H]   weight_hh_l{k} [3*H, H]
        bias_ih_l{k}, bias_hh_l{k} [3*H]   and the same with _reverse for the other direction;
        rows in the order r, z, n

    ``seed`` makes the initial U(-1/sqrt(H), 1/sqrt(H)) parameters repeatable.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value.
    MemoryError
        For sizes beyond the machine.

    References
    ----------
    Cho et al., arXiv:1406.1078 (reset before the product in its third version, after it in the
    first); ``torch.nn.GRU``; the ONNX operator GRU; ``keras.layers.GRU``.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> m = treadle.GRU(8, 16, batch_first=True, seed=0)
    >>> y, h_n = m(np.zeros((3, 5, 8), np.float32))
    >>> y.shape, h_n.shape
    ((3, 5, 16), (1, 3, 16))
    """

    mode = "gru"
    _entries: ClassVar[Entries] = {**Recurrent._entries, **GRU_ENTRIES}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        bidirectional: bool = False,
        *,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        reset_after: bool = True,
        dtype: Any = "float32",
        seed: Any = None,
        clip: float | None = None,
        reverse: bool = False,
    ) -> None:
        self._initialize(locals())
