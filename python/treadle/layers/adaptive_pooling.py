"""This module has pools with a given number of outputs, whose windows together cover all of x.

Window i of n along an axis of T has the places from floor(i T / n) up to ceil((i + 1) T / n), as in
PyTorch. The functions of `treadle.functional` compute the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from treadle import _core
from treadle._inputs import checks
from treadle._public import published
from treadle.layers.configuration import Entry
from treadle.layers.elementwise import Elementwise
from treadle.layers.module import layer
from treadle.layers.pooling import NoIndices, as_images

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float
    from treadle.layers.configuration import Entries


def adaptively_pooled(
    function: str, x: ArrayLike, kind: str, output_size: object, axes: int
) -> Float:
    """Pool over the last axes of x to so many outputs; None keeps the size of an axis."""
    wanted = _output_sizes(function, output_size, axes)
    images, leading = as_images(function, x, axes)
    sizes = images.shape[4 - axes :]
    own = [have if want is None else want for want, have in zip(wanted, sizes, strict=True)]
    height, width = [1] * (2 - axes) + own
    y = _core.adaptive_pool(function, images, kind, height, width)
    return y.reshape(*leading, *y.shape[4 - axes :])


def _output_sizes(function: str, value: object, axes: int) -> tuple[int | None, ...]:
    """Return the output size of an adaptive pool, an integer or None for each axis."""
    several: Sequence[Any] = (value,) * axes
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        several = value
    if len(several) != axes:
        raise ValueError(
            f"{function}: output_size is {checks.shown(value)}, expected an integer or {axes} of "
            "them"
        )
    return tuple(
        None if one is None else checks.integer(function, "output_size", one, 0) for one in several
    )


class _OutputSize(Entry):
    """This entry is the output size of an adaptive pool."""

    __slots__ = ("axes",)

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.axes = axes

    def _checked(self, function: str, name: str, value: Any) -> Any:
        found = _output_sizes(function, value, self.axes)
        return found[0] if len(set(found)) == 1 else found


class _AdaptivePool(Elementwise):
    _axes: ClassVar[int]
    _kind: ClassVar[str]

    def __call__(self, x: ArrayLike) -> Float:
        size = self._configuration["output_size"]
        return adaptively_pooled(self._function, x, self._kind, size, self._axes)


@published("treadle")
@layer
class AdaptiveAvgPool1d(_AdaptivePool):
    """``torch.nn.AdaptiveAvgPool1d``: the averages of output_size windows that cover all of x.

    x [B, C, T] or [C, T]; the arguments are those of `treadle.functional.adaptive_avg_pool1d`.

    Examples
    --------
    >>> import treadle
    >>> treadle.AdaptiveAvgPool1d(1)([[1.0, 3.0]])
    array([[2.]], dtype=float32)
    """

    _axes, _kind = 1, "average"
    _entries: ClassVar[Entries] = {"output_size": _OutputSize(1)}

    def __init__(self, output_size: Any) -> None:
        self._initialize(locals())


@published("treadle")
@layer
class AdaptiveAvgPool2d(_AdaptivePool):
    """``torch.nn.AdaptiveAvgPool2d``: the averages of output_size windows that cover all of x.

    x [B, C, H, W] or [C, H, W]; the arguments are those of
    `treadle.functional.adaptive_avg_pool2d`.

    Examples
    --------
    >>> import treadle
    >>> treadle.AdaptiveAvgPool2d(1)([[[1.0, 3.0], [2.0, 0.0]]])
    array([[[1.5]]], dtype=float32)
    """

    _axes, _kind = 2, "average"
    _entries: ClassVar[Entries] = {"output_size": _OutputSize(2)}

    def __init__(self, output_size: Any) -> None:
        self._initialize(locals())


@published("treadle")
@layer
class AdaptiveMaxPool1d(_AdaptivePool):
    """``torch.nn.AdaptiveMaxPool1d``: the largest numbers of output_size windows that together
    cover all of x.

    x [B, C, T] or [C, T]; the arguments are those of `treadle.functional.adaptive_max_pool1d`.

    Examples
    --------
    >>> import treadle
    >>> treadle.AdaptiveMaxPool1d(1)([[1.0, 3.0]])
    array([[3.]], dtype=float32)
    """

    _axes, _kind = 1, "max"
    _entries: ClassVar[Entries] = {"output_size": _OutputSize(1), "return_indices": NoIndices()}

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        self._initialize(locals())


@published("treadle")
@layer
class AdaptiveMaxPool2d(_AdaptivePool):
    """``torch.nn.AdaptiveMaxPool2d``: the largest numbers of output_size windows that together
    cover all of x.

    x [B, C, H, W] or [C, H, W]; the arguments are those of
    `treadle.functional.adaptive_max_pool2d`.

    Examples
    --------
    >>> import treadle
    >>> treadle.AdaptiveMaxPool2d(1)([[[1.0, 3.0], [2.0, 0.0]]])
    array([[[3.]]], dtype=float32)
    """

    _axes, _kind = 2, "max"
    _entries: ClassVar[Entries] = {"output_size": _OutputSize(2), "return_indices": NoIndices()}

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        self._initialize(locals())
