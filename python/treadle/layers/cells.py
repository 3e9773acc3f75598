"""The cells take one time step of one layer: RNNCell, LSTMCell, GRUCell.

The formulas are those of `treadle.RNN`, `treadle.LSTM` and `treadle.GRU`, the arguments and the
names of the weights those of PyTorch's cells. A cell takes a state and returns the next one. If the
state is just carried from step to step, ``cell.stream()`` is faster, since it allocates nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from treadle._inputs.arrays import to_pair
from treadle._inputs.sequence import step
from treadle._public import published
from treadle.layers.configuration import Nonlinearity
from treadle.layers.module import layer
from treadle.layers.recurrent_base import GRU_ENTRIES, LSTM_ENTRIES
from treadle.layers.stream import Streaming

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float
    from treadle.layers.activation import Activation
    from treadle.layers.configuration import Entries


class Cell(Streaming):
    """The base of the cells: one layer, forward, whose parameter names have no layer number."""

    def _suffixes(self) -> list[tuple[int, str]]:
        return [(0, "")]


class _OneState(Cell):
    """The base of RNNCell and GRUCell, whose state is h alone."""

    def __call__(self, x: ArrayLike, state: ArrayLike | None = None) -> Float:
        """Take one step: h_t [B, H] from x [B, I] and h_{t-1} [B, H] (zero when left out); or all
        three without B. All are float32. Raises ValueError for shapes that do not fit, TypeError
        for other dtypes.
        """
        return step(self._sizes, self._packed.native, x, state, None)[0]


@published("treadle")
@layer
class RNNCell(_OneState):
    """One step of `treadle.RNN`, with the arguments of ``torch.nn.RNNCell`` and ``clip``.

    weight_ih [H, I], weight_hh [H, H], bias_ih [H], bias_hh [H].

    Examples
    --------
    >>> import numpy as np, treadle
    >>> cell = treadle.RNNCell(8, 16, seed=0)
    >>> h = cell(np.ones((3, 8), np.float32))
    >>> cell(np.ones((3, 8), np.float32), h).shape
    (3, 16)
    """

    mode = "rnn"
    _entries: ClassVar[Entries] = {**Cell._entries, "nonlinearity": Nonlinearity()}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: Activation = "tanh",
        *,
        dtype: Any = "float32",
        seed: Any = None,
        clip: float | None = None,
    ) -> None:
        self._initialize(locals())


@published("treadle")
@layer
class LSTMCell(Cell):
    """One step of `treadle.LSTM`, with the arguments of ``torch.nn.LSTMCell`` and its options.

    weight_ih [4*H, I], weight_hh [4*H, H], bias_ih [4*H], bias_hh [4*H]; rows i, f, g, o; with
    ``use_peepholes`` peepholes [3*H], in ONNX's order i, o, f.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> cell = treadle.LSTMCell(8, 16, seed=0)
    >>> h, c = cell(np.ones((3, 8), np.float32))
    >>> h, c = cell(np.ones((3, 8), np.float32), (h, c))
    >>> h.shape, c.shape
    ((3, 16), (3, 16))
    """

    mode = "lstm"
    _entries: ClassVar[Entries] = {**Cell._entries, **LSTM_ENTRIES}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        dtype: Any = "float32",
        seed: Any = None,
        output_activation: Activation = None,
        use_peepholes: bool = False,
        input_forget: bool = False,
        clip: float | None = None,
    ) -> None:
        self._initialize(locals())

    def __call__(
        self, x: ArrayLike, state: tuple[ArrayLike, ArrayLike] | None = None
    ) -> tuple[Float, Float]:
        """Take one step: (h_t, c_t), each [B, H], from x [B, I] and (h_{t-1}, c_{t-1}), which are
        zero when left out; or all of them without B. All are float32. Raises ValueError for shapes
        that do not fit, TypeError for other dtypes.
        """
        h = c = None
        if state is not None:
            h, c = to_pair(self._function, "state", state)
        return step(self._sizes, self._packed.native, x, h, c)


@published("treadle")
@layer
class GRUCell(_OneState):
    """One step of `treadle.GRU`, with the arguments of ``torch.nn.GRUCell`` and its options.

    weight_ih [3*H, I], weight_hh [3*H, H], bias_ih [3*H], bias_hh [3*H]; rows r, z, n.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> cell = treadle.GRUCell(8, 16, seed=0)
    >>> cell(np.ones(8, np.float32)).shape
    (16,)
    """

    mode = "gru"
    _entries: ClassVar[Entries] = {**Cell._entries, **GRU_ENTRIES}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        reset_after: bool = True,
        dtype: Any = "float32",
        seed: Any = None,
        clip: float | None = None,
    ) -> None:
        self._initialize(locals())
