"""These rules describe the outputs of elementwise operators, reductions and products."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from treadle.graph.shapes import dims
from treadle.graph.shapes.site import Site, axis_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from treadle.graph.shapes.dims import Dim


def same(site: Site) -> None:
    """Describe an output that has the dtype and the shape of the first input."""
    site.output(site[0].dtype, site[0].shape)


def same_as(dtype: str, site: Site) -> None:
    """Describe an output that has the shape of the first input and a dtype of its own."""
    site.output(dtype, site[0].shape)


def _together(site: Site, inputs: Sequence[int]) -> Sequence[Dim] | None:
    shapes = [site[index].shape for index in inputs]
    known = [shape for shape in shapes if shape is not None]
    return dims.broadcast_shapes(*known) if len(known) == len(shapes) else None


def broadcast(site: Site) -> None:
    """Describe the output of inputs that broadcast to one shape."""
    site.output(site[0].dtype, _together(site, range(len(site.node.inputs))))


def integers(compute: Callable[[Dim, Dim], Dim | None], site: Site) -> None:
    """Describe the output of arithmetic, which is followed where it computes shapes."""
    shape = _together(site, (0, 1))
    first, second = site[0].elements, site[1].elements
    elements: list[Dim] | None = None
    if shape is not None and len(shape) <= 1 and first is not None and second is not None:
        count = max(len(first), len(second))
        if {len(first), len(second)} <= {1, count}:
            pairs = zip(first * (count // len(first)), second * (count // len(second)), strict=True)
            found = [compute(a, b) for a, b in pairs]
            elements = [one for one in found if one is not None]
            elements = elements if len(elements) == count else None
    site.output(site[0].dtype, shape, elements=elements)


def _subtract(a: Dim, b: Dim) -> Dim | None:
    if a == b:
        return 0
    return dims.add(a, -b) if isinstance(b, int) else None


def _divide(a: Dim, b: Dim) -> Dim | None:
    if not isinstance(b, int) or b <= 0 or (isinstance(a, int) and a < 0):
        return None
    return dims.floor_divide(a, b)


def compare(site: Site) -> None:
    """Describe the output of comparisons and logic, which is bool."""
    site.output("bool", _together(site, range(len(site.node.inputs))))


def equal(site: Site) -> None:
    """Describe the output of Equal, which exporters ask of ranks and sizes."""
    shape = _together(site, (0, 1))
    first, second = site[0].elements, site[1].elements
    answer: list[Dim] | None = None
    if (
        shape is not None
        and len(shape) <= 1
        and first
        and second
        and len(first) == len(second) == 1
    ):
        both = isinstance(first[0], int) and isinstance(second[0], int)
        answer = [int(first[0] == second[0])] if both or first == second else None
    site.output("bool", shape, elements=answer)


def not_(site: Site) -> None:
    """Describe the output of Not."""
    elements = site.numbers(0)
    answer = None if elements is None else [1 - element for element in elements]
    site.output("bool", site[0].shape, elements=answer)


def where(site: Site) -> None:
    """Describe the output of Where."""
    site.output(site[1].dtype, _together(site, (0, 1, 2)))


def reduce_(site: Site) -> None:
    """Describe the output of reductions, whose axes are an input."""
    shape = site[0].shape
    keep = site.attribute("keepdims", 1)
    axes = site.numbers(1) if site.has(1) else []
    if shape is None or axes is None:
        site.unknown(site[0].dtype, None if shape is None or not keep else len(shape))
        return
    if not axes:
        if site.attribute("noop_with_empty_axes", 0):
            site.output(site[0].dtype, shape)
            return
        axes = list(range(len(shape)))
    site.output(site[0].dtype, _reduced(shape, axes, bool(keep)))


def _reduced(shape: Sequence[Dim], axes: Sequence[int], keep: bool) -> list[Dim]:
    gone = {axis_of(axis, len(shape)) for axis in axes}
    kept: list[Dim] = [1 if axis in gone else size for axis, size in enumerate(shape)]
    return kept if keep else [size for axis, size in enumerate(kept) if axis not in gone]


def arg(site: Site) -> None:
    """Describe the output of ArgMax and ArgMin."""
    shape = site[0].shape
    if shape is None:
        site.unknown("int64", None)
        return
    axes = [site.attribute("axis", 0)]
    site.output("int64", _reduced(shape, axes, bool(site.attribute("keepdims", 1))))


def top_k(site: Site) -> None:
    """Describe the output of TopK."""
    shape, count = site[0].shape, site[1].elements
    axis = None if shape is None else axis_of(site.attribute("axis", -1), len(shape))
    if shape is None or axis is None:
        return
    size = count[0] if count else dims.fresh()
    for index, dtype in enumerate((site[0].dtype, "int64")):
        site.output(dtype, (*shape[:axis], size, *shape[axis + 1 :]), index)


def matmul(dtype: str | None, site: Site) -> None:
    """Describe the output of MatMul and MatMulInteger."""
    a, b = site[0].shape, site[1].shape
    dtype = dtype or site[0].dtype
    if not a or not b:
        site.unknown(dtype, None)
        return
    batch = dims.broadcast_shapes(a[:-2], b[:-2])
    rows = a[-2:-1] if len(a) > 1 else ()
    columns = b[-1:] if len(b) > 1 else ()
    site.output(dtype, (*batch, *rows, *columns))


def qlinear_matmul(site: Site) -> None:
    """Describe the output of QLinearMatMul."""
    a, b = site[0].shape, site[3].shape
    if a is None or b is None or len(a) < 2 or len(b) < 2:
        site.unknown(site[7].dtype, None)
        return
    site.output(site[7].dtype, (*dims.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]))


def gemm(site: Site) -> None:
    """Describe the output of Gemm."""
    a, b = site[0].shape, site[1].shape
    if a is None or b is None or len(a) != 2 or len(b) != 2:
        site.unknown(site[0].dtype, 2)
        return
    rows = a[1] if site.attribute("transA", 0) else a[0]
    columns = b[0] if site.attribute("transB", 0) else b[1]
    site.output(site[0].dtype, (rows, columns))


def linear(site: Site) -> None:
    """Describe the output of treadle.Linear."""
    shape, weight = site[0].shape, site[1].shape
    if shape is None or weight is None:
        site.unknown(site[0].dtype, None)
        return
    site.output(site[0].dtype, (*shape[:-1], weight[0]))


def one_hot(site: Site) -> None:
    """Describe the output of OneHot."""
    shape, depth = site[0].shape, site[1].elements
    if shape is None:
        site.unknown(site[2].dtype, None)
        return
    axis = axis_of(site.attribute("axis", -1), len(shape) + 1)
    size = depth[0] if depth else dims.fresh()
    site.output(site[2].dtype, (*shape[:axis], size, *shape[axis:]) if axis is not None else None)


def non_zero(site: Site) -> None:
    """Describe the output of NonZero."""
    rank = site[0].rank
    site.output("int64", None if rank is None else (rank, dims.fresh()))


def layer_norm(site: Site) -> None:
    """Describe the outputs of LayerNormalization: the second and the third are statistics."""
    same(site)
    shape = site[0].shape
    axis = None if shape is None else axis_of(site.attribute("axis", -1), len(shape))
    for index in (1, 2):
        if shape is not None and axis is not None:
            site.output(site[0].dtype, (*shape[:axis], *[1] * (len(shape) - axis)), index)


def quantize(site: Site) -> None:
    """Describe the output of QuantizeLinear: its dtype is that of the zero point."""
    site.output(site[2].dtype or "uint8", site[0].shape)


def dynamic_quantize(site: Site) -> None:
    """Describe the output of DynamicQuantizeLinear."""
    site.output("uint8", site[0].shape)
    site.output("float32", (), 1)
    site.output("uint8", (), 2)


def attention(site: Site) -> None:
    """Describe ONNX's Attention over [B, N, S, E]; three-dimensional inputs keep their order."""
    q, v = site[0].shape, site[2].shape
    if q is None or v is None or len(q) != 4 or len(v) != 4:
        site.unknown(site[0].dtype, None if q is None else len(q))
        return
    site.output(site[0].dtype, (*q[:3], v[3]))


def treadle_attention(site: Site) -> None:
    """Describe the output of treadle.Attention over [B, S, N, E]."""
    q, v = site[0].shape, site[2].shape
    if q is None or v is None:
        site.unknown(site[0].dtype, 4)
        return
    sizes: tuple[Dim, ...] = q[:3]
    if site.attribute("broadcast", 0):
        k, mask = site[1].shape, site[3].shape if site.has(3) else ()
        if k is None or mask is None:
            site.unknown(site[0].dtype, 4)
            return
        padded: list[Dim] = [*[1] * (4 - len(mask)), *mask]
        batch, heads, queries, _ = padded
        sizes = (
            dims.broadcast_shapes(q[:1], k[:1], v[:1], (batch,))[0],
            dims.broadcast(q[1], queries),
            dims.broadcast_shapes(q[2:3], k[2:3], v[2:3], (heads,))[0],
        )
    site.output(site[0].dtype, (*sizes, v[3]))


def magnitude(site: Site) -> None:
    """Describe the output of treadle.Magnitude."""
    shape = site[0].shape
    if not shape:
        return
    site.output(site[0].dtype, (*shape[:-1], dims.floor_divide(shape[-1], 2)))


RULES: dict[str, Callable[[Site], None]] = {
    **dict.fromkeys(
        (
            *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Ceil"),
            *("Celu", "Clip", "Cos", "Cosh", "CumSum", "Elu", "Erf", "Exp", "Floor", "Gelu"),
            *("GroupNormalization", "HardSigmoid", "HardSwish", "Hardmax", "InstanceNormalization"),
            *("LRN", "LeakyRelu", "Log", "LogSoftmax", "LpNormalization", "Mish", "Neg"),
            *("MeanVarianceNormalization", "PRelu", "RMSNormalization", "Reciprocal", "Relu"),
            *("ReverseSequence", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh"),
            *("Softmax", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh"),
            *("ThresholdedRelu", "Trilu", "BatchNormalization", "treadle.HardSwish"),
            *("treadle.Silu", "treadle.InstanceNormalization"),
        ),
        same,
    ),
    **dict.fromkeys(
        ("Max", "Min", "Mean", "Sum", "Pow", "Mod", "BitwiseAnd", "BitwiseOr", "BitwiseXor"),
        broadcast,
    ),
    "Add": partial(integers, dims.add),
    "Sub": partial(integers, _subtract),
    "Mul": partial(integers, lambda a, b: dims.multiply([a, b])),
    "Div": partial(integers, _divide),
    **dict.fromkeys(
        ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor"), compare
    ),
    "Equal": equal,
    "Not": not_,
    "IsNaN": partial(same_as, "bool"),
    "IsInf": partial(same_as, "bool"),
    "Where": where,
    **dict.fromkeys(
        (
            *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1"),
            *("ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
        ),
        reduce_,
    ),
    "ArgMax": arg,
    "ArgMin": arg,
    "TopK": top_k,
    "MatMul": partial(matmul, None),
    "MatMulInteger": partial(matmul, "int32"),
    "QLinearMatMul": qlinear_matmul,
    "Gemm": gemm,
    "OneHot": one_hot,
    "NonZero": non_zero,
    "LayerNormalization": layer_norm,
    "QuantizeLinear": quantize,
    "DequantizeLinear": partial(same_as, "float32"),
    "DynamicQuantizeLinear": dynamic_quantize,
    "Attention": attention,
    "treadle.Attention": treadle_attention,
    "treadle.Linear": linear,
    "treadle.Magnitude": magnitude,
}
