"""These rules describe the outputs of operators that move numbers or make shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle.graph.shapes import dims
from treadle.graph.shapes.site import MOST_ELEMENTS, Site, axis_of
from treadle.graph.vocabulary import COMPUTED_DTYPES

if TYPE_CHECKING:
    from treadle.graph.shapes.dims import Dim


def identity(site: Site) -> None:
    """Describe the output of Identity."""
    site.output(site[0].dtype, site[0].shape, elements=site[0].elements)


def cast(site: Site) -> None:
    """Describe the output of Cast."""
    to = site.attribute("to", None)
    dtype = COMPUTED_DTYPES.get(to) if isinstance(to, int) else to
    integer = dtype in ("int64", "int32")
    site.output(dtype, site[0].shape, elements=site[0].elements if integer else None)


def shape(site: Site) -> None:
    """Describe the output of Shape, the sizes of the axes from start to end."""
    sizes = site[0].shape
    if sizes is None:
        site.unknown("int64", 1)
        return
    part = sizes[site.attribute("start", 0) : site.attribute("end", None)]
    site.output("int64", (len(part),), elements=part)


def size(site: Site) -> None:
    """Describe the output of Size."""
    sizes = site[0].shape
    site.output("int64", (), elements=None if sizes is None else [dims.multiply(sizes)])


def reshape(site: Site) -> None:
    """Describe the output of Reshape."""
    target, sizes = site[1].elements, site[0].shape
    if target is None:
        length = site[1].shape
        rank = length[0] if length is not None and len(length) == 1 else None
        site.unknown(site[0].dtype, rank if isinstance(rank, int) else None)
        return
    result: list[Dim] = list(target)
    if not site.attribute("allowzero", 0):
        for axis, number in enumerate(result):
            if number == 0:
                known = sizes is not None and axis < len(sizes)
                result[axis] = sizes[axis] if known and sizes is not None else dims.fresh()
    if -1 in result:
        hole = result.index(-1)
        others = result[:hole] + result[hole + 1 :]
        found = None if sizes is None else dims.quotient(sizes, others)
        result[hole] = dims.fresh() if found is None else found
    site.output(site[0].dtype, result, elements=site[0].elements if len(result) <= 1 else None)


def flatten(site: Site) -> None:
    """Describe the output of Flatten."""
    sizes = site[0].shape
    if sizes is None:
        site.unknown(site[0].dtype, 2)
        return
    axis = site.attribute("axis", 1)
    axis += len(sizes) if axis < 0 else 0
    site.output(site[0].dtype, (dims.multiply(sizes[:axis]), dims.multiply(sizes[axis:])))


def transpose(site: Site) -> None:
    """Describe the output of Transpose."""
    sizes = site[0].shape
    order = site.attribute("perm", None)
    if sizes is None:
        site.unknown(site[0].dtype, None if order is None else len(order))
        return
    order = list(reversed(range(len(sizes)))) if order is None else order
    if sorted(order) != list(range(len(sizes))):
        return
    site.output(site[0].dtype, [sizes[axis] for axis in order])


def squeeze(site: Site) -> None:
    """Describe the output of Squeeze."""
    sizes = site[0].shape
    if sizes is None:
        site.unknown(site[0].dtype, None)
        return
    if site.has(1):
        axes = site.numbers(1)
        if axes is None:
            site.unknown(site[0].dtype, None)
            return
        gone = {axis_of(axis, len(sizes)) for axis in axes}
    elif any(isinstance(size, str) for size in sizes):
        site.unknown(site[0].dtype, None)
        return
    else:
        gone = {axis for axis, size in enumerate(sizes) if size == 1}
    kept = [size for axis, size in enumerate(sizes) if axis not in gone]
    site.output(site[0].dtype, kept, elements=site[0].elements)


def unsqueeze(site: Site) -> None:
    """Describe the output of Unsqueeze."""
    sizes, axes = site[0].shape, site.numbers(1)
    if sizes is None or axes is None:
        site.unknown(site[0].dtype, None)
        return
    rank = len(sizes) + len(axes)
    new = {axis_of(axis, rank) for axis in axes}
    rest = iter(sizes)
    result = [1 if axis in new else next(rest, 1) for axis in range(rank)]
    site.output(site[0].dtype, result, elements=site[0].elements if rank <= 1 else None)


def concat(site: Site) -> None:
    """Describe the output of Concat."""
    parts = [site[index] for index in range(len(site.node.inputs))]
    ranked = [part.shape for part in parts if part.shape is not None]
    dtype = next((part.dtype for part in parts if part.dtype), None)
    if not ranked or any(len(one) != len(ranked[0]) for one in ranked):
        site.unknown(dtype, None)
        return
    axis = axis_of(site.attribute("axis", 0), len(ranked[0]))
    if axis is None:
        return
    result = list(ranked[0])
    total: Dim = 0
    for part in parts:
        total = dims.add(total, dims.fresh() if part.shape is None else part.shape[axis])
        for other, size in enumerate(part.shape or ()):
            if isinstance(result[other], str) and isinstance(size, int):
                result[other] = size
    result[axis] = total
    elements: list[Dim] | None = None
    if len(result) == 1 and all(part.elements is not None for part in parts):
        elements = [one for part in parts for one in part.elements or ()]
    site.output(dtype, result, elements=elements)


def split(site: Site) -> None:
    """Describe the output of Split."""
    sizes, count = site[0].shape, len(site.node.outputs)
    axis = None if sizes is None else axis_of(site.attribute("axis", 0), len(sizes))
    if sizes is None or axis is None:
        for index in range(count):
            site.unknown(site[0].dtype, None, index)
        return
    lengths = site[1].elements if site.has(1) else None
    total = sizes[axis]
    parts: list[Dim] = [dims.fresh() for _ in range(count)]
    if lengths is not None and len(lengths) == count:
        parts = list(lengths)
    elif not site.has(1) and isinstance(total, int):
        each = -(-total // count)
        parts = [max(0, min(each, total - each * index)) for index in range(count)]
    for index in range(count):
        site.output(site[0].dtype, (*sizes[:axis], parts[index], *sizes[axis + 1 :]), index)


def slice_(site: Site) -> None:
    """Describe the output of Slice."""
    sizes = site[0].shape
    if sizes is None:
        site.unknown(site[0].dtype, None)
        return
    starts, ends = site.numbers(1), site.numbers(2)
    axes = site.numbers(3) if site.has(3) else list(range(len(starts or ())))
    steps = site.numbers(4) if site.has(4) else [1] * len(starts or ())
    result: list[Dim] = list(sizes)
    if axes is None:
        site.unknown(site[0].dtype, len(sizes))
        return
    places = [axis_of(axis, len(sizes)) for axis in axes]
    if starts is None or ends is None or steps is None:
        for place in places:
            if place is not None:
                result[place] = dims.fresh()
        site.output(site[0].dtype, result)
        return
    elements = site[0].elements if len(sizes) == 1 else None
    for place, start, end, step in zip(places, starts, ends, steps, strict=False):
        if place is None or step == 0:
            return
        result[place] = _sliced(sizes[place], start, end, step)
        if elements is not None:
            elements = elements[slice(start, None if _beyond(end, step) else end, step)]
    site.output(site[0].dtype, result, elements=elements)


def _beyond(end: int, step: int) -> bool:
    """Return whether a slice goes to the end of its axis, or with a negative step to the front."""
    return end >= 2**31 - 1 if step > 0 else end <= -(2**31)


def _sliced(size: Dim, start: int, end: int, step: int) -> Dim:
    if isinstance(size, int):
        return len(range(size)[slice(start, None if _beyond(end, step) else end, step)])
    if step == 1 and start == 0 and _beyond(end, 1):
        return size
    if step == -1 and start == -1 and _beyond(end, -1):
        return size
    return dims.fresh()  # what n[:-1], n[1:] and n[:3] have depends on whether n is as large


def gather(site: Site) -> None:
    """Describe the output of Gather."""
    sizes, indices = site[0].shape, site[1].shape
    axis = None if sizes is None else axis_of(site.attribute("axis", 0), len(sizes))
    if sizes is None or indices is None or axis is None:
        site.unknown(site[0].dtype, None)
        return
    elements: list[Dim] | None = None
    numbers = site.numbers(1)
    from_ = site[0].elements
    if len(sizes) == 1 and from_ is not None and numbers is not None:
        inside = all(-len(from_) <= number < len(from_) for number in numbers)
        elements = [from_[number] for number in numbers] if inside else None
    result = (*sizes[:axis], *indices, *sizes[axis + 1 :])
    site.output(site[0].dtype, result, elements=elements)


def gather_nd(site: Site) -> None:
    """Describe the output of GatherND."""
    sizes, indices = site[0].shape, site[1].shape
    if sizes is None or not indices or not isinstance(indices[-1], int):
        site.unknown(site[0].dtype, None)
        return
    batch = site.attribute("batch_dims", 0)
    site.output(site[0].dtype, (*indices[:-1], *sizes[batch + indices[-1] :]))


def like_indices(site: Site) -> None:
    """Describe the output of GatherElements, which has the shape of the indices."""
    site.output(site[0].dtype, site[1].shape)


def expand(site: Site) -> None:
    """Describe the output of Expand."""
    sizes, target = site[0].shape, site[1].elements
    length = (site[1].shape or (None,))[0]
    if target is None and isinstance(length, int):
        target = tuple(dims.fresh() for _ in range(length))
    if sizes is None or target is None:
        site.unknown(site[0].dtype, None)
        return
    site.output(site[0].dtype, dims.broadcast_shapes(sizes, target))


def tile(site: Site) -> None:
    """Describe the output of Tile."""
    sizes, repeats = site[0].shape, site[1].elements
    if sizes is None or repeats is None or len(repeats) != len(sizes):
        site.unknown(site[0].dtype, None if sizes is None else len(sizes))
        return
    site.output(site[0].dtype, [dims.multiply(pair) for pair in zip(sizes, repeats, strict=True)])


def pad(site: Site) -> None:
    """Describe the output of Pad."""
    sizes, pads = site[0].shape, site.numbers(1)
    if sizes is None:
        site.unknown(site[0].dtype, None)
        return
    axes = site.numbers(3) if site.has(3) else list(range(len(sizes)))
    result: list[Dim] = list(sizes)
    if pads is None or axes is None or len(pads) != 2 * len(axes):
        site.unknown(site[0].dtype, len(sizes))
        return
    for index, axis in enumerate(axes):
        place = axis_of(axis, len(sizes))
        if place is not None:
            result[place] = dims.add(sizes[place], pads[index] + pads[index + len(axes)])
    site.output(site[0].dtype, result)


def constant_of_shape(site: Site) -> None:
    """Describe the output of ConstantOfShape."""
    value = site.attribute("value", None)
    dtype = "float32" if value is None else np.asarray(value).dtype.name
    sizes = site[0].elements
    if sizes is None:
        length = site[0].shape
        rank = length[0] if length is not None and len(length) == 1 else None
        site.unknown(dtype, rank if isinstance(rank, int) else None)
        return
    elements = None
    count = sizes[0] if len(sizes) == 1 else 1 if not sizes else None
    if dtype == "int64" and isinstance(count, int) and 0 <= count <= MOST_ELEMENTS:
        elements = [int(np.asarray(value).reshape(-1)[0])] * count
    site.output(dtype, sizes, elements=elements)


def range_(site: Site) -> None:
    """Describe the output of Range."""
    parts = [site.numbers(index) for index in range(3)]
    if any(part is None or len(part) != 1 for part in parts):
        site.unknown(site[0].dtype, 1)
        return
    start, limit, delta = (part[0] for part in parts if part)
    if delta == 0:
        return
    numbers = range(start, limit, delta)
    known = list(numbers) if len(numbers) <= MOST_ELEMENTS else None
    site.output(site[0].dtype, (len(numbers),), elements=known)


def depth_to_space(site: Site) -> None:
    """Describe the output of DepthToSpace."""
    sizes, block = site[0].shape, site.attribute("blocksize", 1)
    if sizes is None or len(sizes) != 4:
        return
    channels = dims.floor_divide(sizes[1], block * block)
    spatial = [dims.multiply([size, block]) for size in sizes[2:]]
    site.output(site[0].dtype, (sizes[0], channels, *spatial))


def space_to_depth(site: Site) -> None:
    """Describe the output of SpaceToDepth."""
    sizes, block = site[0].shape, site.attribute("blocksize", 1)
    if sizes is None or len(sizes) != 4:
        return
    channels = dims.multiply([sizes[1], block * block])
    spatial = [dims.floor_divide(size, block) for size in sizes[2:]]
    site.output(site[0].dtype, (sizes[0], channels, *spatial))


RULES = {
    "Identity": identity,
    "treadle.Require": identity,
    "Cast": cast,
    "Shape": shape,
    "Size": size,
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "GatherND": gather_nd,
    "GatherElements": like_indices,
    "ScatterElements": lambda site: site.output(site[0].dtype, site[0].shape),
    "ScatterND": lambda site: site.output(site[0].dtype, site[0].shape),
    "Expand": expand,
    "Tile": tile,
    "Pad": pad,
    "ConstantOfShape": constant_of_shape,
    "Range": range_,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
}
