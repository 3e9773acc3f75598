"""This module prepares the arrays of a call of a native recurrent net, and calls it.

The native side works on x [T, B, I] (or [B, T, I]) with states [D*L, B, H] and checks all shapes
and values. This module translates the other forms that PyTorch's functions take: an unbatched
sequence, the state of a single layer, and (in `step`) a single time step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from treadle._inputs.arrays import copied, to_bool, to_dense, to_float32, to_int64
from treadle._inputs.checks import fits, shape

if TYPE_CHECKING:
    import numpy.typing as npt

    from treadle import _core
    from treadle._inputs.arrays import Fits
    from treadle._inputs.types import AnyArray, ArrayLike, Float

    # (h, c), of which a part may be None.
    State: TypeAlias = tuple[ArrayLike | None, ArrayLike | None]


class Sizes(NamedTuple):
    """The sizes and the name that the checks of a call need from the layer that it runs."""

    function: str
    input_size: int
    h_size: int
    """H, or P with a projection."""
    c_size: int
    states: int
    """D*L, or 0 where states come without that axis: one layer, one direction."""
    batch_first: bool = False

    def check(self, x: AnyArray) -> None:
        """Raise ValueError unless x is [T, I] or [T, B, I], or [B, T, I] with ``batch_first``."""
        letters = "TI" if x.ndim == 2 else "BTI" if self.batch_first else "TBI"
        shape(self.function, "x", x, (None, None, self.input_size)[-len(letters) :], letters)

    def check_step(self, x: AnyArray) -> None:
        """Raise ValueError unless x is [I] or [B, I]."""
        letters = "I" if x.ndim == 1 else "BI"
        shape(self.function, "x", x, (None, self.input_size)[-len(letters) :], letters)


@dataclass(slots=True)  # not frozen: that would take a microsecond of every call
class SequenceInputs:
    """The arrays that one call of a native recurrent net reads, in the native form.

    This is what crosses the border: the native side reads the attributes, checks shapes, dtypes and
    values, and keeps the arrays alive. None stands for an array that is absent.
    """

    x: Float
    """[T, B, I], or [B, T, I] with ``batch_first``."""
    h_0: Float | None = None
    """[D*L, B, H], or P with a projection."""
    c_0: Float | None = None
    """[D*L, B, H], of an LSTM."""
    lengths: npt.NDArray[np.int64] | None = None
    """[B], each from 0 to T."""
    mask: npt.NDArray[np.bool_] | None = None
    """[B, T], also with ``batch_first``."""
    resets: npt.NDArray[np.bool_] | None = None
    """[T, B], also with ``batch_first``."""
    reset_h: Float | None = None
    """The shape of h_0."""
    reset_c: Float | None = None
    """The shape of c_0."""
    batch_first: bool = False


def run(sizes: Sizes, native: _core.RecurrentStack, *arrays: Any) -> tuple[Float, Float, Any]:
    """Run whole sequences; return (y, h_n, c_n or None). `prepare` names the ``arrays``."""
    inputs, unbatched = prepare(sizes, *arrays)
    return results(sizes, unbatched, *native.run(inputs))


def results(
    sizes: Sizes, unbatched: bool, y: Float, h_n: Float, c_n: Any
) -> tuple[Float, Float, Any]:
    """Return native results in the caller's shapes."""
    return (
        y[:, 0] if unbatched else y,
        trimmed(sizes, h_n, unbatched),
        trimmed(sizes, c_n, unbatched),
    )


def prepare(
    sizes: Sizes,
    x: ArrayLike,
    state: State,
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    resets: ArrayLike | None,
    reset_state: State,
) -> tuple[SequenceInputs, bool]:
    """Check the arguments of a call; return them, and whether x came without the axis B.

    ``state`` is (h_0, c_0) and ``reset_state`` what replaces it where ``resets`` says so; each part
    may be None.
    """
    function = sizes.function
    (h, c), (reset_h, reset_c) = state, reset_state
    x = to_float32(function, "x", x, None if dense(x) else sizes.check)
    unbatched = x.ndim == 2
    if x.ndim != 3 and not unbatched:
        sizes.check(x)
    rows_first = sizes.batch_first and not unbatched
    steps = x.shape[1 if rows_first else 0]
    rows = None if unbatched else x.shape[0 if rows_first else 1]
    if h is not None:
        h = to_dense(function, "h_0", h, _fits_state(sizes, "h_0", sizes.h_size, rows))
    if c is not None:
        c = to_dense(function, "c_0", c, _fits_state(sizes, "c_0", sizes.c_size, rows))
    if lengths is not None:
        lengths = to_int64(function, "lengths", lengths, _fits_lengths(function, rows))
    if mask is not None:
        of_mask = fits(function, "mask", (steps,), "T")
        if rows is not None:
            of_mask = fits(function, "mask", (rows, steps), "BT")
        mask = to_bool(function, "mask", mask, of_mask)
    if resets is not None:
        axes = {"T": steps} if rows is None else {"T": steps, "B": rows}
        letters = tuple(axes)[::-1] if rows_first else tuple(axes)
        of_resets = fits(function, "resets", tuple(axes[k] for k in letters), letters)
        resets = to_bool(function, "resets", resets, of_resets)
        name = "reset_state"
        if reset_h is not None:
            of_h = _fits_state(sizes, name, sizes.h_size, rows)
            reset_h = to_dense(function, name, reset_h, of_h)
        if reset_c is not None:
            of_c = _fits_state(sizes, name, sizes.c_size, rows)
            reset_c = to_dense(function, name, reset_c, of_c)
    elif reset_h is not None or reset_c is not None:
        raise ValueError(f"{function}: reset_state is given without resets, expected both")

    if unbatched:
        shape(function, "x", x, (None, sizes.input_size), "TI")
        x = x[:, None]
        if lengths is not None:
            lengths = np.atleast_1d(lengths)
        if mask is not None:
            mask = mask[None]
        if resets is not None:
            resets = resets[:, None]
    elif rows_first and resets is not None:
        resets = copied(resets.T)
    if unbatched or not sizes.states:
        h, c, reset_h, reset_c = (
            _with_axes(sizes, state, rows) for state in (h, c, reset_h, reset_c)
        )

    inputs = SequenceInputs(x, h, c, lengths, mask, resets, reset_h, reset_c, rows_first)
    return inputs, unbatched


def trimmed(sizes: Sizes, state: Any, unbatched: bool) -> Any:
    """Return a native state [D*L, B, H] without the axes that the caller's states do not have."""
    if state is None:
        return None
    state = state[:, 0] if unbatched else state
    return state if sizes.states else state[0]


def step(
    sizes: Sizes,
    native: _core.RecurrentStack,
    x: ArrayLike,
    h: ArrayLike | None,
    c: ArrayLike | None,
) -> tuple[Float, Any]:
    """Run one time step of one layer on x [B, I] or [I]; return (h_n, c_n or None)."""
    function = sizes.function
    x = to_float32(function, "x", x, sizes.check_step)
    unbatched = x.ndim == 1
    rows = None if unbatched else x.shape[0]
    if unbatched:
        x = x[None]
    if h is not None:
        h = to_dense(function, "h", h, _fits_state(sizes, "h", sizes.h_size, rows))
        h = _with_axes(sizes, h, rows)
    if c is not None:
        c = to_dense(function, "c", c, _fits_state(sizes, "c", sizes.c_size, rows))
        c = _with_axes(sizes, c, rows)
    _, h_n, c_n = native.run(SequenceInputs(x[None], h, c))
    row = (0, 0) if unbatched else 0
    return h_n[row], None if c_n is None else c_n[row]


def dense(x: ArrayLike) -> bool:
    """Tell whether a conversion of x takes no memory, so that the native side may check it."""
    return type(x) is np.ndarray and x.flags.c_contiguous


def _fits_state(sizes: Sizes, name: str, size: int, rows: int | None) -> Fits:
    """Return the check of a state's shape; ``rows`` is None for the state of one row."""
    expected = (size,) if rows is None else (rows, size)
    letters = ("H",) if rows is None else ("B", "H")
    if sizes.states:
        expected, letters = (sizes.states, *expected), ("D*L", *letters)
    return fits(sizes.function, name, expected, letters)


def _fits_lengths(function: str, rows: int | None) -> Fits:
    """Return the check of the shape of lengths: [B], or of one row also a number."""
    of_rows = fits(function, "lengths", (1 if rows is None else rows,), "B")
    return lambda array: None if rows is None and array.ndim == 0 else of_rows(array)


def _with_axes(sizes: Sizes, state: Float | None, rows: int | None) -> Float | None:
    """Give a state the axes D*L and B; ``rows`` is None for the state of one row."""
    if state is None:
        return None
    if not sizes.states:
        state = state[None]
    return state[:, None] if rows is None else state
