"""These functions give images and sequences another size: they interpolate and pad."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from treadle._inputs import checks
from treadle._public import published
from treadle.layers.padding import padded
from treadle.layers.resizing import Resizing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle._inputs.types import ArrayLike, Float


@published("treadle.functional")
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
    function, arguments = "treadle.functional.interpolate", locals()
    if checks.flag(function, "antialias", antialias):
        raise ValueError(f"{function}: antialias is True, expected False: treadle does not have it")
    return Resizing.checked(function, arguments).run(function, x)


@published("treadle.functional")
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
    return padded("treadle.functional.pad", x, pad, mode, value)
