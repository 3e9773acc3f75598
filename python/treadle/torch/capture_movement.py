"""This module captures what moves numbers without computing: views, joins, cuts, padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from treadle.torch.capture_builder import captures
from treadle.torch.capture_sizes import (
    expression,
    known,
    number,
    one,
    reshape,
    same,
    size_of,
    vector,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle.torch.capture_builder import Call

_FAR = 2**63 - 1


@captures(
    "aten.clone", "aten.contiguous", "aten.detach", "aten.alias", "aten.lift_fresh",
    "aten.lift_fresh_copy", "aten.dropout", "aten.feature_dropout", "aten.alpha_dropout",
    "aten.native_dropout", "aten.resolve_conj", "aten.resolve_neg", "aten.positive",
    "aten.feature_alpha_dropout",
)  # fmt: skip
def _same(call: Call) -> str:
    if call.get("train") and call.get("p"):
        raise call.refuse("it drops at random (train=True), which a captured model cannot")
    return call.value("self" if "self" in call.arguments else "input")


@captures("aten.to", "aten._to_copy", "aten.type_as")
def _to(call: Call) -> str:
    return call.value("self", call.dtype)


@captures(
    "aten.view.default", "aten.reshape", "aten._unsafe_view", "aten.flatten", "aten.unflatten",
    "aten.view_as", "aten.reshape_as", "aten._reshape_alias", "aten.view_copy.default",
)  # fmt: skip
def _view(call: Call) -> str:
    return reshape(call, call.value("self"), call.shape("self"), tuple(call.result.shape))


@captures("aten.squeeze", "aten.squeeze_copy")
def _squeeze(call: Call) -> str:
    shape = call.shape("self")
    axes = call.axes() if "dim" in call.arguments else range(len(shape))
    gone = [axis for axis in axes if same(shape[axis], 1)]
    value = call.value("self")
    return call.emit("Squeeze", value, call.builder.integers(gone)) if gone else value


@captures("aten.unsqueeze", "aten.unsqueeze_copy")
def _unsqueeze(call: Call) -> str:
    axis = call.axis(extra=1)
    return call.emit("Unsqueeze", call.value("self"), call.builder.integers([axis]))


def transposed(call: Call, value: str, order: Sequence[int]) -> str:
    """Return a value with its axes in another order; two transpositions become one or none."""
    maker = call.builder.maker(value)
    if maker is not None and maker.op == "Transpose":
        value, before = maker.inputs[0], maker.attributes["perm"]
        order = [before[axis] for axis in order]
    if list(order) == list(range(len(order))):
        return value
    return call.emit("Transpose", value, perm=list(order))


@captures("aten.permute", "aten.permute_copy")
def _permute(call: Call) -> str:
    rank = call.rank("self")
    return transposed(call, call.value("self"), [axis % rank for axis in call["dims"]])


@captures("aten.transpose", "aten.transpose_copy", "aten.swapaxes", "aten.swapdims")
def _transpose(call: Call) -> str:
    names = ("dim0", "dim1") if "dim0" in call.arguments else ("axis0", "axis1")
    order = list(range(call.rank("self")))
    if not order:
        return call.value("self")
    first, second = (call.axis(name) for name in names)
    order[first], order[second] = order[second], order[first]
    return transposed(call, call.value("self"), order)


@captures("aten.t", "aten.numpy_T", "aten.mT", "aten.adjoint")
def _turned(call: Call) -> str:
    order = list(range(call.rank("self")))
    return transposed(call, call.value("self"), [*order[:-2], *order[-2:][::-1]])


@captures("aten.movedim")
def _movedim(call: Call) -> str:
    rank = call.rank("self")
    pair = (call["source"], call["destination"])
    sources, targets = ([x] if isinstance(x, int) else list(x) for x in pair)
    sources, targets = ([x % rank for x in xs] for xs in (sources, targets))
    rest = iter(axis for axis in range(rank) if axis not in sources)
    order = [
        sources[targets.index(axis)] if axis in targets else next(rest) for axis in range(rank)
    ]
    return transposed(call, call.value("self"), order)


@captures("aten.expand", "aten.expand_as", "aten.expand_copy", "aten.broadcast_to")
def _expand(call: Call) -> str:
    before, after = call.shape("self"), tuple(call.result.shape)
    extra = len(after) - len(before)
    if len(before) == len(after) and all(map(same, before, after)):
        return call.value("self")
    if "other" in call.arguments:
        return call.emit("Expand", call.value("self"), call.emit("Shape", call.value("other")))
    wanted = call["size"]
    # Expand takes 1 for "as it is".
    sizes = [
        1 if i >= extra and (same(before[i - extra], after[i]) or wanted[i] == -1) else wanted[i]
        for i in range(len(after))
    ]
    return call.emit("Expand", call.value("self"), vector(call, sizes))


@captures("aten.cat", "aten.concat", "aten.concatenate")
def _cat(call: Call) -> str:
    # An empty tensor of one axis joins anything, for PyTorch's old programs.
    parts = [x for x in call["tensors"] if tuple(call.shape(x)) != (0,)] or call["tensors"][:1]
    axis = call.axis(of=parts[0])
    values = [call.value(x, call.dtype) for x in parts]
    return values[0] if len(values) == 1 else call.emit("Concat", *values, axis=axis)


@captures("aten.stack")
def _stack(call: Call) -> str:
    axis = call.axis(of=call["tensors"][0], extra=1)
    at = call.builder.integers([axis])
    parts = [call.emit("Unsqueeze", call.value(x, call.dtype), at) for x in call["tensors"]]
    return call.emit("Concat", *parts, axis=axis)


def cut(call: Call, value: str, axis: int, start: Any, end: Any, step: int = 1) -> str:
    """Return numbers start..end of an axis; ints, recorded sizes or names."""
    parts = [value, one(call, start), one(call, end), call.builder.integers([axis])]
    return call.emit("Slice", *parts, *([call.builder.integers([step])] if step != 1 else []))


@captures("aten.slice", "aten.slice_copy")
def _slice(call: Call) -> str:
    start, end = call["start"], call["end"]
    start, end = 0 if start is None else start, _FAR if end is None else end
    shape, axis = call.shape("self"), call.axis()
    if same(start, 0) and call["step"] == 1 and same(shape[axis], call.result.shape[axis]):
        return call.value("self")
    return cut(call, call.value("self"), axis, start, end, call["step"])


@captures("aten.narrow")
def _narrow(call: Call) -> str:
    start, length = call["start"], call["length"]
    if known(start) and known(length):
        end: Any = expression(start) + expression(length)
    else:
        end = call.emit("Add", one(call, start), one(call, length))
    return cut(call, call.value("self"), call.axis(), start, end)


@captures("aten.select.int", "aten.select_copy.int")
def _select(call: Call) -> str:
    return call.emit("Gather", call.value("self"), number(call, call["index"]), axis=call.axis())


def _parts(call: Call, axis: int) -> tuple[str, ...]:
    """Split along an axis, into the sizes that PyTorch's result has."""
    sizes = [part.shape[axis] for part in call.node.meta["val"]]
    value = call.value("self")
    if len(sizes) == 1:
        return (value,)
    if not all(map(known, sizes)):
        # The parts before the last have one size, which an argument names.
        step = call.get("split_size", call.get("chunks"))
        if not known(sizes[0]) or not isinstance(step, int) or "chunk" in str(call.node.target):
            raise call.refuse("the number or the sizes of its parts depend on a dynamic axis")
        size = expression(sizes[0])
        ends = [*(size * (i + 1) for i in range(len(sizes) - 1)), _FAR]
        return tuple(cut(call, value, axis, size * i, end) for i, end in enumerate(ends))
    split = call.builder.integers([expression(size) for size in sizes])
    return call.builder.emit_all("Split", [value, split], len(sizes), axis=axis)


@captures("aten.split", "aten.chunk", "aten.split_with_sizes", "aten.tensor_split",
          "aten.split_copy", "aten.split_with_sizes_copy")  # fmt: skip
def _split(call: Call) -> tuple[str, ...]:
    sizes = call.get("split_sizes", call.get("split_size"))
    axis = call.axis()
    if isinstance(sizes, list | tuple) and not all(map(known, sizes)):
        return call.builder.emit_all(
            "Split", [call.value("self"), vector(call, sizes)], len(sizes), axis=axis
        )
    if "chunk" in str(call.node.target) and not known(call.shape("self")[axis]):
        raise call.refuse("an axis of a dynamic size is split into chunks")
    return _parts(call, axis)


@captures("aten.unbind", "aten.unbind_copy")
def _unbind(call: Call) -> tuple[str, ...]:
    axis, count = call.axis(), len(call.node.meta["val"])
    at = call.builder.integers([axis])
    value = call.value("self")
    if count == 1:
        return (call.emit("Squeeze", value, at),)
    split = call.builder.integers([1] * count)
    parts = call.builder.emit_all("Split", [value, split], count, axis=axis)
    return tuple(call.emit("Squeeze", part, at) for part in parts)


@captures("aten.repeat", "aten.tile")
def _repeat(call: Call) -> str:
    counts = list(call.get("repeats", call.get("dims")))
    value, rank = call.value("self"), call.rank("self")
    counts = [1] * (rank - len(counts)) + counts
    if len(counts) > rank:
        axes = call.builder.integers(range(len(counts) - rank))
        value = call.emit("Unsqueeze", value, axes)
    return call.emit("Tile", value, vector(call, counts))


@captures("aten.repeat_interleave.self_int")
def _repeat_interleave(call: Call) -> str:
    value, rank = call.value("self"), call.rank("self")
    if call["dim"] is None:
        value, rank, axis = call.emit("Reshape", value, call.builder.integers([-1])), 1, 0
    else:
        axis = call.axis()
    at = call.builder.integers([axis + 1])
    sizes: list[Any] = [1] * (rank + 1)
    sizes[axis + 1] = call["repeats"]
    value = call.emit("Expand", call.emit("Unsqueeze", value, at), vector(call, sizes))
    merged = [0] * axis + [-1] + [0] * (rank - axis - 1)
    # Behind the merged axis, 0 would mean another axis: the sizes are moved in front instead.
    order = [i for i in range(rank + 1) if i not in (axis, axis + 1)]
    if order and axis < rank - 1:
        value = call.emit("Transpose", value, perm=[*order, axis, axis + 1])
        value = call.emit("Reshape", value, call.builder.integers([*[0] * (rank - 1), -1]))
        back = list(range(rank - 1))
        back.insert(axis, rank - 1)
        return call.emit("Transpose", value, perm=back)
    return call.emit("Reshape", value, call.builder.integers(merged))


@captures("aten.flip")
def _flip(call: Call) -> str:
    axes = [axis % max(call.rank("self"), 1) for axis in call["dims"]]
    if not axes:
        return call.value("self")
    every = [[-1] * len(axes), [-_FAR] * len(axes), axes, [-1] * len(axes)]
    return call.emit("Slice", call.value("self"), *map(call.builder.integers, every))


@captures("aten.roll")
def _roll(call: Call) -> str:
    value, shape = call.value("self"), call.shape("self")
    dims = call["dims"]
    if not dims:
        flat = call.emit("Reshape", value, call.builder.integers([-1]))
        turned = _rolled(call, flat, 0, call["shifts"][0])
        return call.emit("Reshape", turned, call.emit("Shape", value))
    for shift, axis in zip(call["shifts"], dims, strict=True):
        value = _rolled(call, value, axis % len(shape), shift)
    return value


def _rolled(call: Call, value: str, axis: int, shift: Any) -> str:
    """Return a value whose axis begins ``shift`` numbers before its end."""
    if not known(shift):
        raise call.refuse("it rolls by a size that is known only in a run")
    shift = int(expression(shift))
    if shift == 0:
        return value
    size = call.builder.once("Shape", value, start=axis, end=axis + 1)
    # -shift modulo the size, which may be smaller than the shift
    start = call.emit("Mod", call.builder.integers([-shift]), size)
    first = cut(call, value, axis, start, _FAR)
    return call.emit("Concat", first, cut(call, value, axis, 0, start), axis=axis)


@captures("aten.constant_pad_nd", "aten.pad", "aten.reflection_pad1d", "aten.reflection_pad2d",
          "aten.replication_pad1d", "aten.replication_pad2d", "aten.zero_pad2d")  # fmt: skip
def _pad(call: Call) -> str:
    name, rank = str(call.node.target), call.rank("self")
    mode = call.get("mode", "constant")
    mode = "reflect" if "reflection" in name else "replicate" if "replication" in name else mode
    mode = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}[
        mode
    ]
    found = list(call.get("pad", call.get("padding")))
    if all(known(size) and expression(size) == 0 for size in found):
        return call.value("self")
    axes = [rank - 1 - i for i in range(len(found) // 2)]
    pads = vector(call, [*found[0::2], *found[1::2]])
    value = call.get("value") or 0
    filling = call.value(value, call.dtype) if mode == "constant" and value != 0 else None
    return call.emit(
        "Pad", call.value("self"), pads, filling, call.builder.integers(axes), mode=mode
    )


@captures("aten.tril", "aten.triu")
def _triangle(call: Call) -> str:
    diagonal = call.builder.constant(np.array(call["diagonal"], np.int64))
    upper = int("triu" in str(call.node.target))
    return call.emit("Trilu", call.value("self"), diagonal, upper=upper)


@captures("aten.pixel_shuffle")
def _pixel_shuffle(call: Call) -> str:
    factor = call["upscale_factor"]
    return call.emit("DepthToSpace", call.value("self"), blocksize=factor, mode="CRD")


@captures("aten.unfold")
def _unfold(call: Call) -> str:
    """Make the windows of an axis an axis of their own, the last one."""
    names = ("dimension", "size", "step")
    axis, size, step = call.axis(names[0]), call[names[1]], call[names[2]]
    length = one(call, size_of(call, call["self"], axis))
    last = call.emit("Sub", length, call.builder.integers([size - 1]))
    scalar = call.builder.integers([])
    starts = call.emit(
        "Range",
        call.builder.constant(np.array(0, np.int64)),
        call.emit("Reshape", last, scalar),
        call.builder.constant(np.array(step, np.int64)),
    )
    starts = call.emit("Unsqueeze", starts, call.builder.integers([1]))
    places = call.emit("Add", starts, call.builder.integers(range(size)))
    value = call.emit("Gather", call.value("self"), places, axis=axis)
    rank = call.rank("self")
    order = [i for i in range(rank + 1) if i != axis + 1]
    return transposed(call, value, [*order, axis + 1])


@captures("getitem")
def _getitem(call: Call) -> Any:
    found = call.values[call[0]]
    return found[call[1]]


def is_zero(call: Call, found: Any) -> bool:
    """Tell whether a recorded tensor is made of zeros."""
    if not isinstance(found, torch.fx.Node):
        return False
    return str(found.target) in ("aten.zeros.default", "aten.zeros_like.default",
                                 "aten.new_zeros.default")  # fmt: skip
