"""This module writes operations of functional models as nodes that only move numbers: shapes, axes,
and x[key].
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._storage.json import short
from treadle.keras.building.builder import Tensor, text
from treadle.keras.building.operands import axes_of, option, tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from treadle.keras.building.site import Site


def _reshape(site: Site) -> Tensor:
    x, target = tensor(site, 0, "x"), list(option(site, "newshape"))
    if any(not isinstance(size, int) for size in target):
        raise site.error(f"has the shape {short(target)}, expected numbers")
    if target and target[0] == -1:
        known = [size for size in x.shape[1:] if isinstance(size, int)]
        if (
            int(np.prod(known or [1])) == int(np.prod(target[1:] or [1]))
            and len(known) + 1 == x.rank
        ):
            return site.reshape(x, [x.shape[0], *target[1:]])
    free = [size for size in x.shape if isinstance(size, str)]
    shape = [size if size != -1 else free[0] if len(free) == 1 else "size" for size in target]
    shape = [site.builder.symbol(str(s)) if s == "size" else s for s in shape]
    return site.reshape(x, shape)


def _transpose(site: Site) -> Tensor:
    x = tensor(site, 0, "x")
    axes = option(site, "axes")
    return site.transpose(
        x, axes_of(site, x.rank, axes) if axes is not None else range(x.rank)[::-1]
    )


def _swapped(site: Site) -> Tensor:
    x = tensor(site, 0, "x")
    one, two = (site.axis(int(option(site, name)), x.rank) for name in ("axis1", "axis2"))
    order = list(range(x.rank))
    order[one], order[two] = two, one
    return site.transpose(x, order)


def _moved(site: Site) -> Tensor:
    x = tensor(site, 0, "x")
    source, target = (axes_of(site, x.rank, option(site, n)) for n in ("source", "destination"))
    order = [axis for axis in range(x.rank) if axis not in source]
    for to, axis in sorted(zip(target, source, strict=True)):
        order.insert(to, axis)
    return site.transpose(x, order)


def _expanded(site: Site) -> Tensor:
    x, axis = tensor(site, 0, "x"), option(site, "axis")
    given = [int(a) for a in (axis if isinstance(axis, list | tuple) else [axis])]
    return site.unsqueeze(x, *given)


def _squeezed(site: Site) -> Tensor:
    x, axis = tensor(site, 0, "x"), option(site, "axis")
    ones = [a for a, size in enumerate(x.shape) if size == 1]
    return site.squeeze(x, *(ones if axis is None else axes_of(site, x.rank, axis)))


def _joined(site: Site) -> Tensor:
    xs = site.xs
    return site.concat(xs, site.axis(int(option(site, "axis", -1)), xs[0].rank)).masked(None)


def _stacked(site: Site) -> Tensor:
    xs = site.xs
    axis = int(option(site, "axis", 0)) % (xs[0].rank + 1)
    return site.concat([site.unsqueeze(x, axis) for x in xs], axis)


def _flipped(site: Site) -> Tensor:
    x = tensor(site, 0, "x")
    for axis in axes_of(site, x.rank, option(site, "axis")):
        x = site.flip(x, axis)
    return x


def _broadcast(site: Site) -> Tensor:
    x, target = tensor(site, 0, "x"), option(site, "shape")
    if not isinstance(target, list | tuple) or not all(isinstance(n, int) for n in target):
        raise site.error(f"has the shape {short(target)}, expected numbers")
    shape = site.broadcast(tuple(target), x.shape)
    return site.emit("Expand", [x, site.integers(target, "shape")], shape, x.dtype)


def _repeated(site: Site) -> Tensor:
    """Repeat each element of an axis."""
    x, times = tensor(site, 0, "x"), option(site, "repeats")
    axis = option(site, "axis")
    if not isinstance(times, int) or axis is None:
        raise site.error(
            f"repeats {short(times)} times along {axis}, expected a number and an axis"
        )
    axis = site.axis(int(axis), x.rank)
    size = x.shape[axis]
    made = size * times if isinstance(size, int) else site.builder.symbol(size)
    wide = site.unsqueeze(x, axis + 1)
    numbers = [1] * wide.rank
    numbers[axis + 1] = times
    shape = [*x.shape[: axis + 1], times, *x.shape[axis + 1 :]]
    tiled = site.emit("Tile", [wide, site.integers(numbers, "times")], shape, x.dtype)
    return site.reshape(tiled, [*x.shape[:axis], made, *x.shape[axis + 1 :]])


def _padded(site: Site) -> Tensor:
    x, given = tensor(site, 0, "x"), option(site, "pad_width")
    mode = {"constant": "constant", "reflect": "reflect", "edge": "edge"}.get(
        str(option(site, "mode", "constant"))
    )
    flat = np.asarray(given if given is not None else 0)
    if mode is None or flat.dtype.kind != "i":
        raise site.error(f"pads by {short(given)}, mode {short(option(site, 'mode'))}")
    widths = np.broadcast_to(flat, (x.rank, 2))
    shape = [
        size + int(sum(pair)) if isinstance(size, int) else site.builder.symbol(size) if any(pair)
        else size
        for size, pair in zip(x.shape, widths.tolist(), strict=True)
    ]  # fmt: skip
    value = option(site, "constant_values", 0)
    fill = site.number(0 if value is None else float(value), x.dtype)
    pads = site.integers([int(n) for n in widths.T.reshape(-1)], "pads")
    return site.emit(
        "Pad", [x, pads, *([fill] if mode == "constant" else [])], shape, x.dtype, mode=mode
    )


def _tiled(site: Site) -> Tensor:
    x, times = tensor(site, 0, "x"), option(site, "repeats")
    numbers = [int(n) for n in (times if isinstance(times, list | tuple) else [times])]
    numbers = [1] * (x.rank - len(numbers)) + numbers
    if len(numbers) != x.rank:
        raise site.error(f"repeats {text(x.shape)} {numbers} times")
    shape = [
        size if n == 1 else size * n if isinstance(size, int) else site.builder.symbol(size)
        for size, n in zip(x.shape, numbers, strict=True)
    ]
    return site.emit("Tile", [x, site.integers(numbers, "times")], shape, x.dtype)


def _split(site: Site) -> Sequence[Tensor]:
    x, parts = tensor(site, 0, "x"), option(site, "indices_or_sections")
    axis = site.axis(int(option(site, "axis", 0)), x.rank)
    size = x.shape[axis]
    if not isinstance(size, int):
        raise site.error(f"splits an axis of any size of {text(x.shape)}")
    if isinstance(parts, int):
        borders = [size // parts * i for i in range(parts + 1)] if size % parts == 0 else []
    else:
        borders = [0, *(int(p) for p in parts), size]
    if not borders:
        raise site.error(f"splits an axis of {size} into {parts}")
    return [site.slice(x, axis, a, b) for a, b in pairwise(borders)]


def _taken(site: Site) -> Tensor:
    x, axis = tensor(site, 0, "x"), option(site, "axis")
    places = tensor(site, 1, "indices", "int64")
    if axis is None:
        raise site.error("takes elements of all axes, expected one")
    at = site.axis(int(axis), x.rank)
    shape = [*x.shape[:at], *places.shape, *x.shape[at + 1 :]]
    rows = places if places.dtype in ("int32", "int64") else site.cast(places, "int64")
    return site.emit("Gather", [x, rows], shape, x.dtype, axis=at)


def _item(site: Site) -> Tensor:
    """Return x[key] for a key of numbers, slices, None and Ellipsis."""
    x = tensor(site, 0, "x")
    key = site.args[1] if len(site.args) > 1 else site.kwargs.get("key")
    keys = list(key) if isinstance(key, list | tuple) else [key]
    whole = sum(1 for one in keys if not _is(one, "newaxis"))
    if any(_is(one, "ellipsis") for one in keys):
        at = next(i for i, one in enumerate(keys) if _is(one, "ellipsis"))
        keys[at : at + 1] = [slice(None)] * (x.rank - whole + 1)
    if whole > x.rank + 1:
        raise site.error(f"takes {whole} axes of {text(x.shape)}")
    axis = 0
    for one in keys:
        if _is(one, "newaxis"):
            x = site.unsqueeze(x, axis)
            axis += 1
        elif isinstance(one, int) and not isinstance(one, bool):
            x = site.pick(x, axis, one)
        elif isinstance(one, slice):
            begin, end, step = one.start, one.stop, one.step or 1
            if (begin, end, step) != (None, None, 1):
                first = (0 if step > 0 else -1) if begin is None else begin
                x = site.slice(x, axis, first, end, step)
            axis += 1
        else:
            raise site.error(f"takes {short(one)}, expected numbers and slices")
    return x


def _is(one: Any, what: str) -> bool:
    return one is (None if what == "newaxis" else Ellipsis)


KINDS: dict[str, Callable[[Site], Tensor | Sequence[Tensor]]] = {
    "ops.BroadcastTo": _broadcast,
    "ops.Concatenate": _joined,
    "ops.Pad": _padded,
    "ops.Repeat": _repeated,
    "ops.ExpandDims": _expanded,
    "ops.Flip": _flipped,
    "ops.GetItem": _item,
    "ops.Moveaxis": _moved,
    "ops.Reshape": _reshape,
    "ops.Split": _split,
    "ops.Squeeze": _squeezed,
    "ops.Stack": _stacked,
    "ops.SwapAxes": _swapped,
    "ops.Swapaxes": _swapped,
    "ops.Take": _taken,
    "ops.Tile": _tiled,
    "ops.Transpose": _transpose,
}
