"""These functions give images and sequences another size: they interpolate and pad."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import to_dense
from treadle.layers.pooling import adaptively_pooled, spread

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float

# PyTorch's names of what treadle computes, and how many axes x must have for them, if not any.
_MODES: dict[str, int | None] = {
    "nearest": None,
    "nearest-exact": None,
    "area": None,
    "linear": 1,
    "bilinear": 2,
}


def interpolate(
    x: ArrayLike,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Float:
    """Return x [B, C, T] or [B, C, H, W] in another size, ``torch.nn.functional.interpolate``.

    Parameters
    ----------
    size, scale_factor
        The new size, or what it is divided by the old one: a number, or one for each axis. One of
        the two must be given. A scale factor also tells where the new pixels lie, unless
        ``recompute_scale_factor`` is True.
    mode
        "nearest", "nearest-exact", "area" (the adaptive average), "linear" for sequences or
        "bilinear" for images.
    align_corners
        Linear modes: whether the first and last pixels stay where they are; None is False.
    antialias
        Must be False.

    Raises
    ------
    ValueError
        For sizes that do not fit or a mode that treadle does not have (bicubic, trilinear, ...).
    TypeError
        For another dtype than float32 and bfloat16.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.interpolate([[[1.0, 3.0]]], scale_factor=2, mode="linear")
    array([[[1. , 1.5, 2.5, 3. ]]], dtype=float32)
    """
    function = "treadle.functional.interpolate"
    if mode not in list(_MODES):
        raise ValueError(
            f"{function}: mode is {checks.shown(mode)}, expected one of {', '.join(_MODES)}"
        )
    if checks.flag(function, "antialias", antialias):
        raise ValueError(f"{function}: antialias is True, expected False: treadle does not have it")
    linear = mode in ("linear", "bilinear")
    if align_corners is not None:
        checks.flag(function, "align_corners", align_corners)
        if not linear:
            raise ValueError(f"{function}: align_corners is given, but mode {mode!r} has none")
    x = to_dense(function, "x", x)
    axes = _MODES[mode] or max(1, min(2, x.ndim - 2))
    checks.shape(function, "x", x, (None,) * (axes + 2), "BCHW" if axes == 2 else "BCT")
    sizes, scales = _sizes(function, x.shape[2:], size, scale_factor, recompute_scale_factor)
    if mode == "area":
        return adaptively_pooled(function, x, "average", sizes, axes)
    if linear:
        mode = "linear_aligned" if align_corners else "linear"
    rows = x.shape[2] if axes == 2 else 1
    images = x.reshape(x.shape[0] * x.shape[1], rows, x.shape[-1])
    if axes == 1:
        sizes, scales = (1, *sizes), (0.0, *scales)
    y = _core.resize(function, images, mode, (sizes[0], sizes[1]), (scales[0], scales[1]))
    return y.reshape(*x.shape[:2], *y.shape[3 - axes :])


def _sizes(
    function: str,
    old: tuple[int, ...],
    size: object,
    scale_factor: object,
    recompute_scale_factor: object,
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return the new sizes, and the scales that tell where pixels lie; 0 is that of the sizes."""
    if (size is None) == (scale_factor is None):
        raise ValueError(f"{function}: expected one of size and scale_factor")
    recompute = recompute_scale_factor is not None and checks.flag(
        function, "recompute_scale_factor", recompute_scale_factor
    )
    if scale_factor is None:
        if recompute:
            raise ValueError(
                f"{function}: recompute_scale_factor is True, expected a scale_factor with it"
            )
        return spread(function, "size", size, len(old)), (0.0,) * len(old)
    given = scale_factor if isinstance(scale_factor, Sequence) else (scale_factor,) * len(old)
    if len(given) != len(old) or isinstance(given, str):
        raise ValueError(
            f"{function}: scale_factor is {checks.shown(scale_factor)}, expected a number or "
            f"{len(old)} of them"
        )
    scales = tuple(checks.number(function, "scale_factor", one, above=0) for one in given)
    sizes = tuple(
        checks.integer(function, "size by scale_factor", math.floor(n * scale))
        for n, scale in zip(old, scales, strict=True)
    )
    return sizes, (0.0,) * len(old) if recompute else scales


def pad(
    x: ArrayLike, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Float:
    """Return x with more elements before and after, ``torch.nn.functional.pad``.

    ``pad`` has two numbers for each axis, from the last axis on: how many elements come before and
    after; negative ones cut elements off. The new elements are ``value`` (0 by default), or those
    of x: "reflect" mirrors at the first and last element, which do not come twice, "replicate"
    repeats these, "circular" goes round. PyTorch has the last three for some ranks only; here x may
    have any.

    Raises
    ------
    ValueError
        For more numbers than axes, more cut off or mirrored than there is, or another mode.
    TypeError
        For another dtype than float32 and bfloat16.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.pad([1.0, 2.0, 3.0], (2, 1), mode="reflect")
    array([3., 2., 1., 2., 3., 2.], dtype=float32)
    """
    function = "treadle.functional.pad"
    modes = ("constant", "reflect", "replicate", "circular")
    if mode not in modes:
        raise ValueError(
            f"{function}: mode is {checks.shown(mode)}, expected one of {', '.join(modes)}"
        )
    if value is not None and mode != "constant":
        raise ValueError(f"{function}: value is given, but mode {mode!r} has none")
    fill = 0.0 if value is None else _value(function, value)
    x = to_dense(function, "x", x)
    if isinstance(pad, str | bytes) or not isinstance(pad, Sequence):
        raise TypeError(f"{function}: pad is {checks.shown(pad)}, expected a sequence of integers")
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise ValueError(
            f"{function}: pad has {len(pad)} numbers, expected two for each of at most {x.ndim} "
            "axes"
        )
    most = checks.MAX_SIZE
    numbers = [checks.integer(function, "pad", one, -most, most) for one in pad]
    still = [0] * (x.ndim - len(numbers) // 2)
    before, after = still + numbers[-2::-2], still + numbers[::-2]
    return _core.pad(function, x.reshape(-1), list(x.shape), mode, before, after, fill)


def _value(function: str, value: object) -> float:
    """Return a fill value, which may be infinite or NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return value
    return checks.number(function, "value", value)
