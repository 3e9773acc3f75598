"""These rules are of operators that work on each frame alone, if their axes are none of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle.graph.causal_site import Refused
from treadle.graph.ir import Node

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle.graph.causal_site import CausalSite

_UNARY = (
    *("Relu", "Sigmoid", "Tanh", "Elu", "Selu", "Celu", "LeakyRelu", "HardSigmoid", "HardSwish"),
    *("Softplus", "Softsign", "Gelu", "Mish", "ThresholdedRelu", "Shrink", "Identity", "Cast"),
    *("Abs", "Neg", "Exp", "Log", "Sqrt", "Reciprocal", "Floor", "Ceil", "Round", "Sign", "Erf"),
    *("Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh"),
    *("Not", "IsNaN", "IsInf", "BitwiseNot", "treadle.HardSwish", "treadle.Silu", "Clip"),
)
_BROADCAST = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "Sum", "Mean", "PRelu", "Where"),
    *("And", "Or", "Xor", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"),
)
_REDUCE = (
    *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"),
    *("ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"),
)


def _unary(site: CausalSite) -> None:
    site.keep(site.only_first(), trail=site.plain())


def _broadcast(site: CausalSite) -> None:
    """All inputs have their frames on the same axis, counted from the end, or are the same for all
    frames.
    """
    trail = site.plain()
    places = [place for place in range(len(site.node.inputs)) if site.input(place)]
    ranks = {place: site.rank(place) for place in places}
    ends = {a - ranks[p] for p in places if (a := site.axis(p)) is not None}
    if len(ends) != 1:
        raise Refused("its inputs have their frames on different axes")
    (end,) = ends
    for place in places:
        if site.axis(place) is None and ranks[place] >= -end:
            size = (site.known(place).shape or ())[end]
            if size != 1:
                raise Refused(f"its input {site.input(place)} is not the same for all frames")
    site.keep(max(ranks.values()) + end, trail=trail)


def _moved(site: CausalSite, axis: int) -> None:
    """Keep a node that only moves numbers: zeros stay zeros."""
    name, work = site.input(0), site.work
    site.keep(axis, trail=work.trail.get(name, 0), lead=work.lead.get(name, 0))


def _transpose(site: CausalSite) -> None:
    axis, rank = site.only_first(), site.rank(0)
    perm = site.attribute("perm", list(reversed(range(rank))))
    _moved(site, list(perm).index(axis))


def _unsqueeze(site: CausalSite) -> None:
    axis = site.only_first()
    axes = site.integers(1)
    rank = site.rank(0) + len(axes)
    added = {a % rank for a in axes}
    _moved(site, [a for a in range(rank) if a not in added][axis])


def _squeeze(site: CausalSite) -> None:
    axis, rank = site.only_first(), site.rank(0)
    shape = site.known(0).shape or ()
    axes = site.integers(1) if site.input(1) else [a for a in range(rank) if shape[a] == 1]
    gone = {a % rank for a in axes}
    if axis in gone:
        raise Refused("it takes the axis of time away")
    _moved(site, axis - sum(a < axis for a in gone))


def _matmul(site: CausalSite) -> None:
    axis = site.only_first()
    trail = site.plain()
    rank, other = site.rank(0), site.rank(1)
    if axis == rank - 1:
        raise Refused("it sums over time")
    if other > 2 and axis < rank - 2:
        raise Refused("each frame has a matrix of its own")
    site.keep(axis + max(0, other - rank), trail=trail)


def _linear(site: CausalSite) -> None:
    axis = site.axis(0)
    trail = site.plain()
    if axis is None or axis == site.rank(0) - 1:
        raise Refused("it sums over time")
    if site.input(3) and site.axis(3) != axis:
        raise Refused("its residual input has its frames on another axis")
    site.keep(axis, trail=trail)


def _gemm(site: CausalSite) -> None:
    axis = site.only_first()
    trail = site.plain()
    if axis != 0 or site.attribute("transA", 0):
        raise Refused("it sums over time")
    if site.input(2) and site.rank(2) == 2 and (site.known(2).shape or ())[0] != 1:
        raise Refused("its summand is not the same for all frames")
    site.keep(axis, trail=trail)


def _along(site: CausalSite) -> None:
    """Keep Softmax and its kin, if the axis that they are over is not that of time."""
    axis, rank = site.only_first(), site.rank(0)
    trail = site.plain()
    if site.attribute("axis", -1) % rank == axis:
        raise Refused("it is over all of time")
    site.keep(axis, trail=trail)


def _layer_norm(site: CausalSite) -> None:
    axis, rank = site.only_first(), site.rank(0)
    trail = site.plain()
    if site.attribute("axis", -1) % rank <= axis:
        raise Refused("its mean is over all of time")
    site.keep(axis, trail=trail)


def _batch_norm(site: CausalSite) -> None:
    axis = site.only_first()
    trail = site.plain()
    if axis == 1:
        raise Refused("the axis of time is that of its channels")
    site.keep(axis, trail=trail)


def _reduce(site: CausalSite) -> None:
    axis, rank = site.only_first(), site.rank(0)
    trail = site.plain()
    axes = site.integers(1) if site.input(1) else []
    if not axes and not site.attribute("noop_with_empty_axes", 0):
        axes = list(range(rank))
    gone = {a % rank for a in axes}
    if axis in gone:
        raise Refused("it is over all of time")
    keeps = site.attribute("keepdims", 1)
    site.keep(axis if keeps else axis - sum(a < axis for a in gone), trail=trail)


def _concat(site: CausalSite) -> None:
    trail = site.plain()
    axes = {site.axis(place) for place in range(len(site.node.inputs))}
    if len(axes) != 1:
        raise Refused("some of its inputs have no frames, or have them on another axis")
    axis = axes.pop()
    if axis is None or site.attribute("axis", 0) % site.rank(0) == axis:
        raise Refused("it adds frames")
    site.keep(axis, trail=trail)


def _split(site: CausalSite) -> None:
    axis = site.only_first()
    trail = site.plain()
    if site.attribute("axis", 0) % site.rank(0) == axis:
        raise Refused("it cuts time")
    site.keep(axis, trail=trail)


def _slice(site: CausalSite) -> None:
    """Keep a Slice of other axes, and drop one that cuts off all frames behind the last one."""
    axis, rank = site.only_first(), site.rank(0)
    starts, ends = site.integers(1), site.integers(2)
    axes = site.integers(3) if site.input(3) else list(range(len(starts)))
    steps = site.integers(4) if site.input(4) else [1] * len(starts)
    trail = site.plain()
    for start, end, on, step in zip(starts, ends, axes, steps, strict=True):
        if on % rank != axis:
            continue
        if len(axes) > 1 or start != 0 or step != 1 or end >= 0 or -end != trail:
            raise Refused("it cuts time")
        site.work.alias(site.node.outputs[0], site.input(0))
        site.work.axes[site.node.outputs[0]] = axis
        return
    site.keep(axis, trail=trail)


def _gather(site: CausalSite) -> None:
    axis = site.attribute("axis", 0) % max(site.rank(0), 1)
    trail = site.plain()
    of_data, of_ids = site.axis(0), site.axis(1)
    if of_data is None and of_ids is not None:
        return site.keep(axis + of_ids, trail=trail)
    if of_data is None or of_ids is not None or of_data == axis:
        raise Refused("it chooses among frames")
    return site.keep(of_data + (site.rank(1) - 1 if axis < of_data else 0), trail=trail)


def _reshape(site: CausalSite) -> None:
    """Keep a Reshape, if its axis of time is found by the size, which no other axis has."""
    axis = site.only_first()
    trail = site.plain()
    before = site.known(0).shape
    after = site.work.known[site.node.outputs[0]].shape
    if before is None or after is None or isinstance(before[axis], int):
        raise Refused("it is not known where the frames go")
    places = [place for place, size in enumerate(after) if size == before[axis]]
    if (
        len(places) != 1
        or before[:axis].count(before[axis])
        or before[axis + 1 :].count(before[axis])
    ):
        raise Refused("it mixes time with another axis")
    if _product(before[:axis]) != _product(after[: places[0]]):
        raise Refused("it mixes time with another axis")
    site.keep(places[0], trail=trail)


def _product(sizes: tuple[object, ...]) -> tuple[int, list[str]]:
    """Return a product of sizes: the numbers in it, and the symbols."""
    number = int(np.prod([size for size in sizes if isinstance(size, int)], dtype=np.int64))
    return number, sorted(str(size) for size in sizes if not isinstance(size, int))


def _pad(site: CausalSite) -> None:
    """Keep a Pad of other axes; zeros before the first frame begin the tail of a convolution."""
    axis, rank = site.only_first(), site.rank(0)
    trail = site.plain()
    pads = site.integers(1)
    axes = [a % rank for a in site.integers(3)] if site.input(3) else list(range(rank))
    if len(pads) != 2 * len(axes):
        raise Refused("its pads are malformed")
    if axis not in axes:
        return site.keep(axis, trail=trail)
    place = axes.index(axis)
    before, after = pads[place], pads[place + len(axes)]
    if not before and not after:
        return site.keep(axis, trail=trail)
    fill = site.work.constants.get(site.input(2)) if site.input(2) else None
    zero = not site.input(2) or (fill is not None and not np.any(fill))
    if after or before < 0 or site.attribute("mode", "constant") != "constant" or not zero:
        raise Refused("it pads time with something else than zeros before the first frame")
    (result,) = site.node.outputs
    others = list(pads)
    others[place] = 0
    if any(others):
        reads = list(site.node.inputs)
        reads[1] = site.work.constant(f"{result}.pads", others)
        site.emit(Node("Pad", reads, [result], site.node.attributes, site.node.name))
    else:
        site.work.alias(result, site.input(0))
    site.work.axes[result] = axis
    site.work.lead[result] = before
    return None


def _shape(site: CausalSite) -> None:
    """Let the number of frames be that of the call; its readers have no frames themselves."""
    site.emit(site.node)


def _last_axis(site: CausalSite) -> None:
    axis = site.only_first()
    trail = site.plain()
    if axis == site.rank(0) - 1:
        raise Refused("it is over all of time")
    site.keep(axis, trail=trail)


RULES: dict[str, Callable[[CausalSite], None]] = {
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_BROADCAST, _broadcast),
    **dict.fromkeys(_REDUCE, _reduce),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _along),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "treadle.Linear": _linear,
    "LayerNormalization": _layer_norm,
    "BatchNormalization": _batch_norm,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Reshape": _reshape,
    "Pad": _pad,
    "Shape": _shape,
    "treadle.Magnitude": _last_axis,
}
