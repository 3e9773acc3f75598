"""This module has pools, which take the largest number or the average of each window.

Names, arguments and shapes are PyTorch's: images are [B, C, H, W] or [C, H, W], sequences [B, C, T]
or [C, T]. The functions of `treadle.functional` compute the same. adaptive_pooling.py has the pools
with a given number of outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import to_dense
from treadle._public import published
from treadle.layers.configuration import Entry, Flag, Integer
from treadle.layers.convolution import sizes
from treadle.layers.elementwise import Elementwise
from treadle.layers.module import layer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle._inputs.types import ArrayLike, Float
    from treadle.layers.configuration import Entries

# -- functions that layers and treadle.functional share -------------------------------------------


def spread(function: str, name: str, value: object, axes: int, least: int = 1) -> tuple[int, ...]:
    """Return an argument that is an integer for all axes, also in a sequence, or one for each."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        if len(value) == 1:
            value = value[0]
        elif len(value) == axes:
            value = tuple(value)
    return sizes(function, name, value, axes, least)


class Windows(NamedTuple):
    """These are the sizes of the windows of a pool, an integer for each axis."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool

    @classmethod
    def checked(cls, function: str, axes: int, arguments: Mapping[str, Any]) -> Windows:
        """Return the windows that PyTorch's arguments describe. Raises TypeError or ValueError."""
        kernel = spread(function, "kernel_size", arguments["kernel_size"], axes)
        stride = arguments["stride"]
        steps = kernel if stride is None else spread(function, "stride", stride, axes)
        padding = spread(function, "padding", arguments["padding"], axes, 0)
        dilation = spread(function, "dilation", arguments.get("dilation", 1), axes)
        for size, zeros, gap in zip(kernel, padding, dilation, strict=True):
            if 2 * zeros > gap * (size - 1) + 1:
                raise ValueError(
                    f"{function}: padding is {zeros}, expected at most half of what the kernel "
                    f"reaches over, {gap * (size - 1) + 1}"
                )
        ceil_mode = checks.flag(function, "ceil_mode", arguments["ceil_mode"])
        return cls(kernel, steps, padding, dilation, ceil_mode)

    def axes(self) -> list[tuple[int, int, int, int, bool]]:
        """Return the two axes of an image: a sequence is an image of one row."""
        along = zip(self.kernel_size, self.stride, self.dilation, self.padding, strict=True)
        found = [(*axis, self.ceil_mode) for axis in along]
        return [(1, 1, 1, 0, False)] * (2 - len(found)) + found


def as_images(function: str, x: ArrayLike, axes: int) -> tuple[Float, tuple[int, ...]]:
    """Return x as images [B, C, H, W], and the axes before those that are pooled."""
    x = to_dense(function, "x", x)
    letters = "CHW" if axes == 2 else "CT"
    if x.ndim not in (axes + 1, axes + 2):
        checks.shape(function, "x", x, (None,) * (axes + 2), "B" + letters)
    leading = x.shape[: x.ndim - axes]
    batch, channels = (1, *leading)[-2:]
    rows = x.shape[-2] if axes == 2 else 1
    return x.reshape(batch, channels, rows, x.shape[-1]), leading


def pooled(
    function: str, x: ArrayLike, kind: str, windows: Windows, divisor: int | None = None
) -> Float:
    """Pool over the last axes of x, as many as the windows have."""
    axes = len(windows.kernel_size)
    images, leading = as_images(function, x, axes)
    number = 0
    if divisor is not None:
        number = checks.integer(function, "divisor_override", divisor)
    y = _core.pool(function, images, kind, windows.axes(), number)
    return y.reshape(*leading, *y.shape[4 - axes :])


def without_indices(function: str, return_indices: object) -> None:
    """Raise ValueError where somebody asks for the places of the largest numbers."""
    if checks.flag(function, "return_indices", return_indices):
        raise ValueError(
            f"{function}: return_indices is True, expected False: treadle does not compute indices"
        )


# -- the layers -----------------------------------------------------------------------------------


class _Spread(Entry):
    """This entry is an integer for all axes, or one for each."""

    __slots__ = ("axes", "least")

    def __init__(self, axes: int, least: int = 1, *, optional: bool = False) -> None:
        super().__init__(optional=optional)
        self.axes, self.least = axes, least

    def _checked(self, function: str, name: str, value: Any) -> int | tuple[int, ...]:
        found = spread(function, name, value, self.axes, self.least)
        return found[0] if len(set(found)) == 1 else found


class NoIndices(Flag):
    """This entry refuses PyTorch's option that returns the places of the largest numbers."""

    __slots__ = ()

    def _checked(self, function: str, name: str, value: Any) -> bool:
        without_indices(function, value)
        return False


class Pool(Elementwise):
    """The base of the pools with windows at regular distances."""

    _axes: ClassVar[int]

    def _windows(self) -> Windows:
        return Windows.checked(self._function, self._axes, self._configuration)

    def _check_configuration(self) -> None:
        super()._check_configuration()
        self._windows()


def _entries(axes: int, *others: str) -> dict[str, Entry]:
    """Return the entries of a pool: PyTorch's arguments in their order are those of its class."""
    known: dict[str, Entry] = {
        "kernel_size": _Spread(axes),
        "stride": _Spread(axes, optional=True),
        "padding": _Spread(axes, 0),
        "dilation": _Spread(axes),
        "return_indices": NoIndices(),
        "ceil_mode": Flag(),
        "count_include_pad": Flag(),
        "divisor_override": Integer(optional=True),
    }
    return {name: known[name] for name in ("kernel_size", "stride", "padding", *others)}


class _MaxPool(Pool):
    def __call__(self, x: ArrayLike) -> Float:
        return pooled(self._function, x, "max", self._windows())


class _AvgPool(Pool):
    def __call__(self, x: ArrayLike) -> Float:
        own = self._configuration
        kind = average(own["count_include_pad"])
        return pooled(self._function, x, kind, self._windows(), own.get("divisor_override"))


def average(count_include_pad: bool) -> str:
    """Return the kind of an average that counts the padding, or does not."""
    return "average_with_pad" if count_include_pad else "average"


@published("treadle")
@layer
class MaxPool1d(_MaxPool):
    """``torch.nn.MaxPool1d``: the largest number of each window over time.

    x [B, C, T] or [C, T]; the arguments are those of `treadle.functional.max_pool1d`.

    Examples
    --------
    >>> import treadle
    >>> treadle.MaxPool1d(2)([[1.0, 3.0, 2.0, 0.0]])
    array([[3., 2.]], dtype=float32)
    """

    _axes = 1
    _entries: ClassVar[Entries] = _entries(1, "dilation", "return_indices", "ceil_mode")

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        self._initialize(locals())


@published("treadle")
@layer
class MaxPool2d(_MaxPool):
    """``torch.nn.MaxPool2d``: the largest number of each window of an image.

    x [B, C, H, W] or [C, H, W]; the arguments are those of `treadle.functional.max_pool2d`.

    Examples
    --------
    >>> import treadle
    >>> treadle.MaxPool2d(2)([[[1.0, 3.0], [2.0, 0.0]]])
    array([[[3.]]], dtype=float32)
    """

    _axes = 2
    _entries: ClassVar[Entries] = _entries(2, "dilation", "return_indices", "ceil_mode")

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        self._initialize(locals())


@published("treadle")
@layer
class AvgPool1d(_AvgPool):
    """``torch.nn.AvgPool1d``: the average of each window over time.

    x [B, C, T] or [C, T]; the arguments are those of `treadle.functional.avg_pool1d`.

    Examples
    --------
    >>> import treadle
    >>> treadle.AvgPool1d(2)([[1.0, 3.0, 2.0, 0.0]])
    array([[2., 1.]], dtype=float32)
    """

    _axes = 1
    _entries: ClassVar[Entries] = _entries(1, "ceil_mode", "count_include_pad")

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self._initialize(locals())


@published("treadle")
@layer
class AvgPool2d(_AvgPool):
    """``torch.nn.AvgPool2d``: the average of each window of an image.

    x [B, C, H, W] or [C, H, W]; the arguments are those of `treadle.functional.avg_pool2d`.

    Examples
    --------
    >>> import treadle
    >>> treadle.AvgPool2d(2)([[[1.0, 3.0], [2.0, 0.0]]])
    array([[[1.5]]], dtype=float32)
    """

    _axes = 2
    _entries: ClassVar[Entries] = _entries(2, "ceil_mode", "count_include_pad", "divisor_override")

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self._initialize(locals())
