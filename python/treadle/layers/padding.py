"""This module pads arrays: the function that layers and `treadle.functional` share, and ZeroPad."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import to_dense
from treadle._public import published
from treadle.layers.configuration import Entry
from treadle.layers.elementwise import Elementwise
from treadle.layers.module import layer

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle._inputs.types import AnyArray, ArrayLike, Float
    from treadle.layers.configuration import Entries

_MODES = ("constant", "reflect", "replicate", "circular")


def padded(
    function: str,
    x: ArrayLike,
    pad: Any,
    mode: str = "constant",
    value: float | None = None,
    fits: Callable[[AnyArray], None] | None = None,
) -> Float:
    """Pad x as `treadle.functional.pad` does; ``fits`` checks its shape, and errors name
    ``function``.
    """
    if mode not in _MODES:
        raise ValueError(
            f"{function}: mode is {checks.shown(mode)}, expected one of {', '.join(_MODES)}"
        )
    if value is not None and mode != "constant":
        raise ValueError(f"{function}: value is given, but mode {mode!r} has none")
    fill = 0.0 if value is None else _value(function, value)
    x = to_dense(function, "x", x, fits)
    if isinstance(pad, str | bytes) or not isinstance(pad, Sequence):
        raise TypeError(f"{function}: pad is {checks.shown(pad)}, expected a sequence of integers")
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise ValueError(
            f"{function}: pad has {len(pad)} numbers, expected two for each of at most {x.ndim} "
            "axes"
        )
    numbers = [_margin(function, "pad", one) for one in pad]
    still = [0] * (x.ndim - len(numbers) // 2)
    before, after = still + numbers[-2::-2], still + numbers[::-2]
    return _core.pad(function, x.reshape(-1), list(x.shape), mode, before, after, fill)


def _margin(function: str, name: str, value: object) -> int:
    """Return a number of elements, of which negative ones are cut off."""
    return checks.integer(function, name, value, -checks.MAX_SIZE, checks.MAX_SIZE)


def _value(function: str, value: object) -> float:
    """Return a fill value, which may be infinite or NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return value
    return checks.number(function, "value", value)


class _Margins(Entry):
    """This entry is a number of elements on every side, or two numbers for each axis, from the last
    axis on.
    """

    __slots__ = ("axes",)

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.axes = axes

    def _checked(self, function: str, name: str, value: Any) -> int | tuple[int, ...]:
        if not isinstance(value, tuple | list):
            return _margin(function, name, value)
        if len(value) != 2 * self.axes:
            raise ValueError(
                f"{function}: {name} is {checks.shown(value)}, expected an integer or "
                f"{2 * self.axes} of them"
            )
        found = tuple(_margin(function, name, one) for one in value)
        return found[0] if len(set(found)) == 1 else found


class _ZeroPad(Elementwise):
    _axes: ClassVar[int]

    def __call__(self, x: ArrayLike) -> Float:
        margins = self._configuration["padding"]
        if isinstance(margins, int):
            margins = (margins,) * (2 * self._axes)
        return padded(self._function, x, margins, fits=self._fits)

    def _fits(self, x: AnyArray) -> None:
        if x.ndim not in (self._axes + 1, self._axes + 2):
            letters = "BCT" if self._axes == 1 else "BCHW"
            checks.shape(self._function, "x", x, (None,) * len(letters), letters)


@published("treadle")
@layer
class ZeroPad1d(_ZeroPad):
    """``torch.nn.ZeroPad1d``: zeros before and after the steps of x.

    ``padding`` is a number of zeros at both ends, or one for each, (left, right); negative ones cut
    steps off. x [B, C, T] or [C, T], y [B, C, T + left + right] or [C, T + left + right].

    Raises
    ------
    TypeError, ValueError
        For a padding of the wrong kind, and for an x of another shape or less than is cut off.

    Examples
    --------
    >>> import treadle
    >>> treadle.ZeroPad1d((1, 2))([[1.0, 3.0]])
    array([[0., 1., 3., 0., 0.]], dtype=float32)
    """

    _axes = 1
    _entries: ClassVar[Entries] = {"padding": _Margins(1)}

    def __init__(self, padding: Any) -> None:
        self._initialize(locals())


@published("treadle")
@layer
class ZeroPad2d(_ZeroPad):
    """``torch.nn.ZeroPad2d``: zeros around images.

    ``padding`` is a number of zeros on every side, or one for each, (left, right, top, bottom);
    negative ones cut pixels off. x [B, C, H, W] or [C, H, W], y likewise with H + top + bottom rows
    and W + left + right columns.

    Raises
    ------
    TypeError, ValueError
        For a padding of the wrong kind, and for an x of another shape or less than is cut off.

    Examples
    --------
    >>> import treadle
    >>> treadle.ZeroPad2d((1, 0, 0, 1))([[[2.0, 3.0]]])
    array([[[0., 2., 3.],
            [0., 0., 0.]]], dtype=float32)
    """

    _axes = 2
    _entries: ClassVar[Entries] = {"padding": _Margins(2)}

    def __init__(self, padding: Any) -> None:
        self._initialize(locals())
