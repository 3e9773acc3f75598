"""This module writes Keras' layers that move numbers about as nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle.keras.building.builder import Size, Tensor, text
from treadle.keras.building.conv import as_before, channels_first
from treadle.keras.building.site import number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from treadle.keras.building.site import Site


def flatten(site: Site) -> Tensor:
    """Turn [B, sizes..] into [B, product of the sizes], channels last."""
    x = site.x
    if site.option("data_format") == "channels_first" and x.rank > 2:
        x = site.transpose(x, [0, *range(2, x.rank), 1])
    count: Size | None = number_of(x.shape[1:])
    if count is None:
        count = site.builder.symbol("features")
    return site.reshape(x, [x.shape[0], count]).masked(None)


def reshape(site: Site) -> Tensor:
    """Turn [B, sizes..] into [B, target..], where a target of -1 is what is left."""
    x = site.x
    target: list[Size] = list(site.option("target_shape"))
    count = number_of(x.shape[1:])
    fixed = 1
    for size in target:
        fixed *= size if isinstance(size, int) and size > 0 else 1
    if -1 in target:
        place = target.index(-1)
        free = [size for size in x.shape[1:] if isinstance(size, str)]
        if count is not None:
            if count % fixed:
                raise site.error(f"turns {text(x.shape)} into {text(target)}, which cannot be")
            target[place] = count // fixed
        elif len(free) == 1 and number_of([s for s in x.shape[1:] if s != free[0]]) == fixed:
            target[place] = free[0]
        else:
            target[place] = site.builder.symbol(free[0] if free else "size")
    elif count is not None and count != fixed:
        raise site.error(f"turns {text(x.shape)} into {text(target)}, which cannot be")
    return site.reshape(x, [x.shape[0], *target]).masked(None)


def permute(site: Site) -> Tensor:
    """Put the axes behind the batch into another order; they are counted from 1."""
    x, dims = site.x, list(site.option("dims"))
    if sorted(dims) != list(range(1, x.rank)):
        raise site.error(f"has dims {tuple(dims)}, and is called with {text(x.shape)}")
    return site.transpose(x, [0, *dims]).masked(None)


def repeat_vector(site: Site) -> Tensor:
    """Turn [B, F] into [B, n, F]."""
    x = site.x
    if x.rank != 2:
        raise site.error(f"is called with {text(x.shape)}, expected [B, F]")
    wide = site.unsqueeze(x, 1)
    count = site.option("n")
    shape = [x.shape[0], count, x.shape[1]]
    return site.emit("Tile", [wide, site.integers([1, count, 1], "times")], shape, x.dtype)


def zero_padding(site: Site) -> Tensor:
    """Add zeros before and behind the steps, or rows and columns."""
    x, begin, given = _spatial(site, "padding")
    axes = range(begin, begin + len(given))
    shape = list(x.shape)
    for axis, pair in zip(axes, given, strict=True):
        size = shape[axis]
        if isinstance(size, int):
            shape[axis] = size + sum(pair)
        elif sum(pair):
            shape[axis] = site.builder.symbol(size)
    pads = [pair[0] for pair in given] + [pair[1] for pair in given]
    reads = [x, site.integers(pads, "pads"), site.number(0, x.dtype), site.integers(axes, "axes")]
    return site.emit("Pad", reads, shape, x.dtype, mode="constant")


def cropping(site: Site) -> Tensor:
    """Cut steps off, or rows and columns."""
    x, begin, given = _spatial(site, "cropping")
    for axis, (first, last) in enumerate(given, begin):
        if first or last:
            x = site.slice(x, axis, first, -last if last else None)
    return x.masked(None)


def _spatial(site: Site, option: str) -> tuple[Tensor, int, list[Sequence[int]]]:
    """Return the input, its first axis that is neither the batch nor channels, and a pair each."""
    x, given = site.x, site.option(option)
    pairs = [given] if site.layer.kind.endswith("1D") else list(given)
    if x.rank != len(pairs) + 2:
        raise site.error(f"is called with {text(x.shape)}, expected {len(pairs) + 2} axes")
    first = site.layer.config.get("data_format") == "channels_first"
    return x, 2 if first else 1, pairs


def up_sampling_1d(site: Site) -> Tensor:
    """Repeat each step."""
    x, times = site.x, site.option("size")
    if x.rank != 3:
        raise site.error(f"is called with {text(x.shape)}, expected [B, T, F]")
    wide = site.emit(
        "Tile",
        [site.unsqueeze(x, 2), site.integers([1, 1, times, 1], "times")],
        [*x.shape[:2], times, x.shape[2]],
        x.dtype,
    )
    steps = x.shape[1]
    length = steps * times if isinstance(steps, int) else site.builder.symbol(steps)
    return site.reshape(wide, [x.shape[0], length, x.shape[2]]).masked(None)


def up_sampling_2d(site: Site) -> Tensor:
    """Repeat rows and columns, or put numbers between them that lie on straight lines."""
    x = channels_first(site)
    if x.rank != 4:
        raise site.error(f"is called with {text(site.x.shape)}, expected 4 axes")
    factors = list(site.option("size"))
    nearest = site.option("interpolation") == "nearest"
    scales = site.builder.constant(np.array([1, 1, *factors], np.float32), f"{site.path}/scales")
    shape = list(x.shape)
    for i, factor in enumerate(factors, 2):
        size = shape[i]
        shape[i] = size * factor if isinstance(size, int) else site.builder.symbol(size)
    modes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
    if not nearest:
        modes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    y = site.emit("Resize", [x, None, scales], shape, nearest_mode="floor", **modes)
    return as_before(site, y)


KINDS: dict[str, Callable[[Site], Tensor]] = {
    "Flatten": flatten,
    "Reshape": reshape,
    "Permute": permute,
    "RepeatVector": repeat_vector,
    **dict.fromkeys(("ZeroPadding1D", "ZeroPadding2D"), zero_padding),
    **dict.fromkeys(("Cropping1D", "Cropping2D"), cropping),
    "UpSampling1D": up_sampling_1d,
    "UpSampling2D": up_sampling_2d,
}
