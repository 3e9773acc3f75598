"""This module captures PyTorch's operators that read and write at indices, and what sorts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from treadle.torch.capture_builder import captures
from treadle.torch.capture_movement import cut, transposed
from treadle.torch.capture_sizes import known, number, one, same, size_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle.torch.capture_builder import Call


@captures("aten.embedding")
def _embedding(call: Call) -> str:
    return call.emit("Gather", call.value("weight"), call.value("indices"), axis=0)


@captures("aten.embedding_bag", "aten._embedding_bag", "aten._embedding_bag_forward_only")
def _embedding_bag(call: Call) -> tuple[str | None, ...]:
    """A bag is a row of indices; bags of unequal lengths, by offsets, are refused."""
    # PyTorch turns rows [B, n] into indices [B n] with offsets arange(0, B n, n).
    offsets = call["offsets"]
    rows = call.values.get(call["indices"])
    maker = call.builder.maker(rows)
    even = str(getattr(offsets, "target", "")).startswith("aten.arange")
    if not even or maker is None or maker.op != "Reshape" or call["padding_idx"] >= 0:
        raise call.refuse("bags by offsets or with padding_idx are not supported: give rows [B, n]")
    if call["include_last_offset"]:
        raise call.refuse("include_last_offset is not supported")
    found = call.emit("Gather", call.value("weight"), maker.inputs[0], axis=0)
    if call.has("per_sample_weights"):
        raise call.refuse("per_sample_weights are not supported")
    op = ("ReduceSum", "ReduceMean", "ReduceMax")[call["mode"]]
    return call.emit(op, found, call.builder.integers([1]), keepdims=0), None, None, None


@captures("aten.index_select")
def _index_select(call: Call) -> str:
    return call.emit("Gather", call.value("self"), call.value("index"), axis=call.axis())


@captures("aten.gather")
def _gather(call: Call) -> str:
    return call.emit("GatherElements", call.value("self"), call.value("index"), axis=call.axis())


@captures("aten.scatter.src", "aten.scatter.value", "aten.scatter_add")
def _scatter(call: Call) -> str:
    index, axis, dtype = call.value("index"), call.axis(), call.dtype
    if "src" in call.arguments:
        source = call.value("src", dtype)
        if not all(map(same, call.shape("src"), call.shape("index"))):
            for i in range(call.rank("index")):  # PyTorch reads the beginning of src
                source = cut(call, source, i, 0, size_of(call, call["index"], i))
    else:
        shape = call.emit("Shape", index)
        source = call.emit("Expand", call.value("value", dtype), shape)
    how = "add" if "add" in str(call.node.target) else "none"
    value = call.value("self", dtype)
    return call.emit("ScatterElements", value, index, source, axis=axis, reduction=how)


@captures("aten.select_scatter")
def _select_scatter(call: Call) -> str:
    axis, index = call.axis(), call["index"]
    part = call.emit("Unsqueeze", call.value("src", call.dtype), call.builder.integers([axis]))
    if known(index):
        start = int(index)
        end: Any = start + 1 if start != -1 else 2**63 - 1
        return _replaced(call, part, axis, start, end)
    end = call.emit("Add", one(call, index), call.builder.integers([1]))
    return _replaced(call, part, axis, index, end)


@captures("aten.slice_scatter")
def _slice_scatter(call: Call) -> str:
    axis, step = call.axis(), call["step"]
    start = 0 if call["start"] is None else call["start"]
    end = 2**63 - 1 if call["end"] is None else call["end"]
    part = call.value("src", call.dtype)
    if same(call.shape("src")[axis], call.shape("self")[axis]) and step == 1:
        return part
    if step != 1:
        places = _range(call, axis)
        taken = cut(call, places, 0, start, end, step)
        return _written(call, part, axis, taken)
    return _replaced(call, part, axis, start, end)


def _replaced(call: Call, part: str, axis: int, start: Any, end: Any) -> str:
    """Return self with ``part`` from start to end of an axis."""
    value, pieces = call.value("self"), []
    if not same(start, 0):
        pieces.append(cut(call, value, axis, 0, start))
    pieces.append(part)
    if not (isinstance(end, int) and end > 2**62):
        pieces.append(cut(call, value, axis, end, 2**63 - 1))
    return pieces[0] if len(pieces) == 1 else call.emit("Concat", *pieces, axis=axis)


def _range(call: Call, axis: int) -> str:
    """Return 0, 1, ... of an axis of self."""
    size = number(call, size_of(call, call["self"], axis))
    zero, step = (call.builder.constant(np.array(n, np.int64)) for n in (0, 1))
    return call.emit("Range", zero, size, step)


def _written(call: Call, part: str, axis: int, places: str) -> str:
    """Return self with ``part`` at places of an axis."""
    rank = call.rank("self")
    order = [axis, *(i for i in range(rank) if i != axis)]
    rows = call.emit("Unsqueeze", places, call.builder.integers([1]))
    moved = (transposed(call, x, order) for x in (call.value("self"), part))
    found = call.emit("ScatterND", next(moved), rows, next(moved))
    back = [order.index(i) for i in range(rank)]
    return transposed(call, found, back)


def _indices(call: Call) -> tuple[list[int], list[str], int]:
    """Return the axes that an index has, its tensors as int64, and the rank they broadcast to."""
    axes, values, ranks = [], [], []
    for axis, index in enumerate(call["indices"]):
        if index is None:
            continue
        if call.fake(index).dtype in (torch.bool, torch.uint8):
            raise call.refuse(
                "a mask as an index makes sizes that depend on numbers; use torch.where"
            )
        axes.append(axis)
        values.append(call.value(index, "int64"))
        ranks.append(call.rank(index))
    return axes, values, max(ranks)


@captures("aten.index.Tensor", "aten._unsafe_index.Tensor")
def _index(call: Call) -> str:
    axes, values, rank = _indices(call)
    if len(axes) == 1:
        return call.emit("Gather", call.value("self"), values[0], axis=axes[0])
    value, places = _as_rows(call, axes, values)
    found = call.emit("GatherND", value, places)
    # The axes of the indices stand where the first was, or in front if they are apart.
    rest = call.rank("self") - len(axes)
    before = axes[0] if axes == list(range(axes[0], axes[0] + len(axes))) else 0
    order = [*range(rank, rank + before), *range(rank), *range(rank + before, rank + rest)]
    return transposed(call, found, order)


def _as_rows(call: Call, axes: Sequence[int], values: Sequence[str]) -> tuple[str, str]:
    """Return self with indexed axes first, and the indices as rows of one tensor."""
    rank = call.rank("self")
    order = [*axes, *(i for i in range(rank) if i not in axes)]
    value = transposed(call, call.value("self"), order)
    # A sum of zeros has the shape to which all indices broadcast.
    common = values[0]
    zero = call.builder.constant(np.array(0, np.int64))
    for other in values[1:]:
        common = call.emit("Add", common, call.emit("Mul", other, zero))
    shape = call.emit("Shape", common)
    last = call.builder.integers([-1])
    size = [call.emit("Expand", v, shape) for v in values]
    rows = [call.emit("Unsqueeze", v, last) for v in size]
    return value, call.emit("Concat", *rows, axis=-1)


@captures("aten.index_put")
def _index_put(call: Call) -> str:
    found = [index for index in call["indices"] if index is not None]
    dtype = call.dtype
    if (
        len(found) == 1
        and call.fake(found[0]).dtype is torch.bool
        and call["indices"][0] is not None
    ):
        if call.rank("values") or call["accumulate"]:
            raise call.refuse("numbers at a mask are supported for a single number alone")
        mask, extra = call.value(found[0]), call.rank("self") - call.rank(found[0])
        if extra:
            ends = range(call.rank(found[0]), call.rank("self"))
            mask = call.emit("Unsqueeze", mask, call.builder.integers(ends))
        return call.emit("Where", mask, call.value("values", dtype), call.value("self", dtype))
    axes, values, _ = _indices(call)
    value, places = _as_rows(call, axes, values)
    # The shape of what is written: that of the places, then the axes without an index.
    shape = call.emit("Shape", call.emit("GatherND", value, places))
    written = call.emit("Expand", call.value("values", dtype), shape)
    how = "add" if call["accumulate"] else "none"
    found_value = call.emit("ScatterND", value, places, written, reduction=how)
    rank = call.rank("self")
    order = [*axes, *(i for i in range(rank) if i not in axes)]
    return transposed(call, found_value, [order.index(i) for i in range(rank)])


@captures("aten.topk")
def _topk(call: Call) -> tuple[str, ...]:
    options = {"axis": call.axis(), "largest": int(call["largest"]), "sorted": 1}
    return call.builder.emit_all("TopK", [call.value("self"), one(call, call["k"])], 2, **options)


@captures("aten.sort", "aten.argsort")
def _sort(call: Call) -> Any:
    axis = call.axis()
    options = {"axis": axis, "largest": int(bool(call["descending"])), "sorted": 1}
    size = one(call, size_of(call, call["self"], axis))
    found = call.builder.emit_all("TopK", [call.value("self"), size], 2, **options)
    return found[1] if "argsort" in str(call.node.target) else found


@captures("aten.one_hot")
def _one_hot(call: Call) -> str:
    count = call["num_classes"]
    if not isinstance(count, int) or count < 0:
        raise call.refuse("it needs the number of classes")
    values = call.builder.constant(np.array([0, 1], np.int64))
    depth = call.builder.integers([count])
    return call.emit("OneHot", call.value("self"), depth, values, axis=-1)


@captures("aten.nonzero")
def _nonzero(call: Call) -> str:
    return transposed(call, call.emit("NonZero", call.value("self")), [1, 0])
