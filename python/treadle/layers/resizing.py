"""This module interpolates sequences and images: the layer Upsample and what it shares with
`treadle.functional.interpolate`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import to_dense
from treadle._public import published
from treadle.layers.adaptive_pooling import adaptively_pooled
from treadle.layers.configuration import Entry, Flag
from treadle.layers.elementwise import Elementwise
from treadle.layers.module import layer
from treadle.layers.pooling import spread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle._inputs.types import ArrayLike, Float
    from treadle.layers.configuration import Entries

# PyTorch's names of what treadle computes, and how many axes x must have for them, if not any.
_MODES: dict[str, int | None] = {
    "nearest": None,
    "nearest-exact": None,
    "area": None,
    "linear": 1,
    "bilinear": 2,
}


class Resizing(NamedTuple):
    """A Resizing has PyTorch's arguments of an interpolation, as far as they can be checked before
    there is an x.
    """

    size: Any
    scale_factor: Any
    mode: str
    align_corners: bool
    recompute: bool

    @classmethod
    def checked(cls, function: str, arguments: Mapping[str, Any]) -> Resizing:
        """Return the interpolation that arguments describe. Raises TypeError or ValueError."""
        mode, size, scale = (arguments[name] for name in ("mode", "size", "scale_factor"))
        if mode not in list(_MODES):
            raise ValueError(
                f"{function}: mode is {checks.shown(mode)}, expected one of {', '.join(_MODES)}"
            )
        flags = [False, False]
        for number, name in enumerate(("align_corners", "recompute_scale_factor")):
            if arguments[name] is not None:
                flags[number] = checks.flag(function, name, arguments[name])
        if arguments["align_corners"] is not None and mode not in ("linear", "bilinear"):
            raise ValueError(f"{function}: align_corners is given, but mode {mode!r} has none")
        if (size is None) == (scale is None):
            raise ValueError(f"{function}: expected one of size and scale_factor")
        if scale is None and flags[1]:
            raise ValueError(
                f"{function}: recompute_scale_factor is True, expected a scale_factor with it"
            )
        return cls(size, scale, mode, *flags)

    def run(self, function: str, x: ArrayLike) -> Float:
        """Return x [B, C, T] or [B, C, H, W] in its new size; errors name ``function``."""
        x = to_dense(function, "x", x)
        axes = _MODES[self.mode] or max(1, min(2, x.ndim - 2))
        checks.shape(function, "x", x, (None,) * (axes + 2), "BCHW" if axes == 2 else "BCT")
        sizes, scales = self._sizes(function, x.shape[2:])
        if self.mode == "area":
            return adaptively_pooled(function, x, "average", sizes, axes)
        mode = self.mode
        if mode in ("linear", "bilinear"):
            mode = "linear_aligned" if self.align_corners else "linear"
        rows = x.shape[2] if axes == 2 else 1
        images = x.reshape(x.shape[0] * x.shape[1], rows, x.shape[-1])
        if axes == 1:
            sizes, scales = (1, *sizes), (0.0, *scales)
        y = _core.resize(function, images, mode, (sizes[0], sizes[1]), (scales[0], scales[1]))
        return y.reshape(*x.shape[:2], *y.shape[3 - axes :])

    def _sizes(
        self, function: str, old: tuple[int, ...]
    ) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Return the new sizes, and the scales that tell where pixels lie; 0 is that of the
        sizes.
        """
        if self.scale_factor is None:
            return spread(function, "size", self.size, len(old)), (0.0,) * len(old)
        scales = _scales(function, self.scale_factor, len(old))
        sizes = tuple(
            checks.integer(function, "size by scale_factor", math.floor(n * scale))
            for n, scale in zip(old, scales, strict=True)
        )
        return sizes, (0.0,) * len(old) if self.recompute else scales


def _scales(function: str, value: object, axes: int) -> tuple[float, ...]:
    """Return the scale factor of each axis."""
    given = value if isinstance(value, Sequence) else (value,) * axes
    if len(given) != axes or isinstance(given, str):
        raise ValueError(
            f"{function}: scale_factor is {checks.shown(value)}, expected a number or "
            f"{axes} of them"
        )
    return tuple(checks.number(function, "scale_factor", one, above=0) for one in given)


class _Several(Entry):
    """This entry is a number for all axes, or one for each of one or two axes."""

    __slots__ = ()

    def _checked(self, function: str, name: str, value: Any) -> Any:
        if not isinstance(value, tuple | list):
            return self._one(function, name, value)
        if len(value) not in (1, 2):
            raise ValueError(
                f"{function}: {name} is {checks.shown(value)}, expected a number, or one for each "
                "of one or two axes"
            )
        found = tuple(self._one(function, name, one) for one in value)
        return found[0] if len(found) == 1 else found

    def _one(self, function: str, name: str, value: Any) -> float:
        raise NotImplementedError


class _Size(_Several):
    __slots__ = ()

    def _one(self, function: str, name: str, value: Any) -> int:
        return checks.integer(function, name, value)


class _Scale(_Several):
    __slots__ = ()

    def _one(self, function: str, name: str, value: Any) -> float:
        return checks.number(function, name, value, above=0)


class _Mode(Entry):
    """This entry is a name that `Resizing.checked` knows."""

    __slots__ = ()

    def _checked(self, function: str, name: str, value: Any) -> Any:
        return value


@published("treadle")
@layer
class Upsample(Elementwise):
    """``torch.nn.Upsample``: x [B, C, T] or [B, C, H, W] in another size, by interpolation.

    The arguments are those of `treadle.functional.interpolate`: ``size`` or ``scale_factor``, a
    number or one for each axis; ``mode``, which is "nearest", "nearest-exact", "area", "linear" for
    sequences or "bilinear" for images; ``align_corners`` and ``recompute_scale_factor``. With the
    scale s of an axis, y[.., t] is x[.., floor(t / s)] in the mode "nearest".

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value, a mode that treadle does not have (bicubic,
        trilinear, ...), and in a call for an x of another shape.

    Examples
    --------
    >>> import treadle
    >>> treadle.Upsample(scale_factor=2)([[[1.0, 3.0]]])
    array([[[1., 1., 3., 3.]]], dtype=float32)
    >>> treadle.Upsample(3, mode="linear", align_corners=True)([[[1.0, 3.0]]])
    array([[[1., 2., 3.]]], dtype=float32)
    """

    _resizing: Resizing
    _derived = Elementwise._derived | {"_resizing"}
    _entries: ClassVar[Entries] = {
        "size": _Size(optional=True),
        "scale_factor": _Scale(optional=True),
        "mode": _Mode(),
        "align_corners": Flag(optional=True),
        "recompute_scale_factor": Flag(optional=True),
    }

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        self._initialize(locals())

    def _check_configuration(self) -> None:
        super()._check_configuration()
        self.__dict__["_resizing"] = Resizing.checked(self._function, self._configuration)

    def __call__(self, x: ArrayLike) -> Float:
        return self._resizing.run(self._function, x)
