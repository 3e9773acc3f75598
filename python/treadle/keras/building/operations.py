"""This module writes operations as nodes that expressions of tensors put into functional models.

``x + y`` of two tensors of Keras becomes an operation "Add" of the model, ``x[:, -1]`` becomes
"GetItem"; functions of keras.ops are found the same way. What they make has no mask. Operations
that only move numbers are in `treadle.keras.building.movement`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._storage.json import short
from treadle.keras.building.activations import applied, softmax_over
from treadle.keras.building.builder import Size, Tensor, text
from treadle.keras.building.operands import axes_of, option, pair, tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from treadle.keras.building.site import Site

    Meanings = dict[str, Callable[[Site], Tensor | Sequence[Tensor]]]

_DTYPES = {"bool": "bool", "int32": "int32", "int64": "int64"}


# -- element by element ---------------------------------------------------------------------------


def _float(op: str, site: Site) -> Tensor:
    return site.unary(op, site.floats(tensor(site, 0, "x")))


def _same(op: str, site: Site) -> Tensor:
    return site.unary(op, tensor(site, 0, "x"))


def _applied(name: str, site: Site) -> Tensor:
    return applied(site, site.floats(tensor(site, 0, "x")), name)


def _binary(op: str, site: Site) -> Tensor:
    return site.binary(op, *pair(site))


def _divided(site: Site) -> Tensor:
    a, b = pair(site)
    return site.binary("Div", site.floats(a), site.floats(b))


def _floor_divided(site: Site) -> Tensor:
    a, b = pair(site)
    if a.dtype == "float32":
        return site.unary("Floor", site.binary("Div", a, b))
    quotient = site.binary("Div", site.cast(a, "float32"), site.cast(b, "float32"))
    return site.cast(site.unary("Floor", quotient), a.dtype)


def _compared(op: str, site: Site) -> Tensor:
    return site.binary(op, *pair(site), dtype="bool")


def _different(site: Site) -> Tensor:
    return site.unary("Not", _compared("Equal", site))


def _logical(op: str, site: Site) -> Tensor:
    a, b = (site.cast(tensor(site, i, f"x{i + 1}"), "bool") for i in range(2))
    return site.binary(op, a, b)


def _modulo(site: Site) -> Tensor:
    """Return the rest of a division, which has the sign of the divisor, as in Python."""
    a, b = pair(site)
    if a.dtype != "float32":
        return site.binary("Mod", a, b)
    whole = site.unary("Floor", site.binary("Div", a, b))
    return site.binary("Sub", a, site.binary("Mul", whole, b))


def _square(site: Site) -> Tensor:
    x = tensor(site, 0, "x")
    return site.binary("Mul", x, x)


def _rsqrt(site: Site) -> Tensor:
    return site.unary("Reciprocal", _float("Sqrt", site))


def _expm1(site: Site) -> Tensor:
    return site.binary("Sub", _float("Exp", site), site.number(1))


def _log1p(site: Site) -> Tensor:
    x = site.floats(tensor(site, 0, "x"))
    return site.unary("Log", site.binary("Add", x, site.number(1)))


def _clip(site: Site) -> Tensor:
    x = tensor(site, 0, "x")
    low, high = (tensor_of(site, option(site, name), x.dtype) for name in ("x_min", "x_max"))
    return site.emit("Clip", [x, low, high], x.shape, x.dtype)


def tensor_of(site: Site, value: Any, dtype: str) -> Tensor:
    """Return a number as a constant."""
    if not isinstance(value, int | float):
        raise site.error(f"has the option {short(value)}, expected a number")
    return site.number(value, dtype)


def _elu(site: Site) -> Tensor:
    return site.unary("Elu", tensor(site, 0, "x"), alpha=float(option(site, "alpha", 1.0)))


def _leaky_relu(site: Site) -> Tensor:
    slope = float(option(site, "negative_slope", 0.2))
    return site.unary("LeakyRelu", tensor(site, 0, "x"), alpha=slope)


def _gelu(site: Site) -> Tensor:
    mode = "tanh" if option(site, "approximate", True) else "none"
    return site.unary("Gelu", tensor(site, 0, "x"), approximate=mode)


def _softmax(site: Site) -> Tensor:
    x = site.floats(tensor(site, 0, "x"))
    return softmax_over(site, x, axes_of(site, x.rank, option(site, "axis", -1)))


def _log_softmax(site: Site) -> Tensor:
    x = site.floats(tensor(site, 0, "x"))
    (axis,) = axes_of(site, x.rank, option(site, "axis", -1))
    return site.unary("LogSoftmax", x, axis=axis)


def _dtype(site: Site, otherwise: str) -> str:
    """Return the dtype that is an option."""
    dtype = option(site, "dtype")
    if dtype is None:
        return otherwise
    wanted = _DTYPES.get(dtype, "float32" if str(dtype).startswith(("float", "bfloat")) else "")
    if not wanted:
        raise site.error(f"converts to {short(dtype)}, expected float32, int32, int64 or bool")
    return wanted


def _cast(site: Site) -> Tensor:
    x = tensor(site, 0, "x")
    return site.cast(x, _dtype(site, x.dtype))


def _where(site: Site) -> Tensor:
    condition = site.cast(tensor(site, 0, "condition"), "bool")
    return site.where(condition, *pair(site, 1))


def _filled(value: float, site: Site) -> Tensor:
    """Return a tensor of one number, of the shape of another one."""
    x = tensor(site, 0, "x")
    sizes = site.emit("Shape", [x], [x.rank], "int64")
    number = site.number(value, _dtype(site, x.dtype))
    return site.emit("Expand", [number, sizes], x.shape, number.dtype)


# -- sums and their like --------------------------------------------------------------------------


def _reduced(op: str, site: Site) -> Tensor:
    x = tensor(site, 0, "x")
    for name in ("initial", "weights", "dtype"):
        if option(site, name) is not None:
            raise site.error(f"has {name}, which treadle has not")
    if op in ("ReduceMean", "ReduceLogSumExp") or x.dtype == "bool":
        x = site.floats(x)
    axes = axes_of(site, x.rank, option(site, "axis"))
    return site.reduce(op, x, axes, keep=bool(option(site, "keepdims", False)))


def _any_or_all(op: str, site: Site) -> Tensor:
    x = site.cast(site.cast(tensor(site, 0, "x"), "bool"), "int32")
    axes = axes_of(site, x.rank, option(site, "axis"))
    return site.cast(site.reduce(op, x, axes, keep=bool(option(site, "keepdims"))), "bool")


def _spread(root: bool, site: Site) -> Tensor:
    """Return the variance, or its root."""
    x = site.floats(tensor(site, 0, "x"))
    axes = axes_of(site, x.rank, option(site, "axis"))
    rest = site.binary("Sub", x, site.reduce("ReduceMean", x, axes, keep=True))
    square = site.binary("Mul", rest, rest)
    made = site.reduce("ReduceMean", square, axes, keep=bool(option(site, "keepdims", False)))
    return site.unary("Sqrt", made) if root else made


def _place(op: str, site: Site) -> Tensor:
    x, axis, keep = tensor(site, 0, "x"), option(site, "axis"), bool(option(site, "keepdims"))
    if axis is None:
        raise site.error("looks for a place among all axes, expected one")
    axis = site.axis(int(axis), x.rank)
    shape: list[Size] = [*x.shape[:axis], *([1] if keep else []), *x.shape[axis + 1 :]]
    made = site.emit(op, [x], shape, "int64", axis=axis, keepdims=int(keep))
    return site.cast(made, "int32")


def _dot(site: Site) -> Tensor:
    a, b = (site.floats(tensor(site, i, f"x{i + 1}")) for i in range(2))
    if a.rank < 2 or b.rank != 2:
        raise site.error(
            f"multiplies {text(a.shape)} by {text(b.shape)}, expected [.., K] by [K, N]"
        )
    return site.matmul(a, b)


def _rounded(site: Site) -> Tensor:
    if option(site, "decimals", 0):
        raise site.error("rounds to decimals, which treadle does not")
    return _same("Round", site)


def _cumulated(site: Site) -> Tensor:
    x, axis = tensor(site, 0, "x"), option(site, "axis")
    if axis is None:
        raise site.error("sums over all axes, expected one")
    place = site.builder.constant(np.array(site.axis(int(axis), x.rank)), f"{site.path}/axis")
    return site.emit("CumSum", [x, place], x.shape, x.dtype)


def _matmul(site: Site) -> Tensor:
    a, b = (site.floats(tensor(site, i, f"x{i + 1}")) for i in range(2))
    if a.rank < 2 or b.rank < 2:
        raise site.error(f"multiplies {text(a.shape)} by {text(b.shape)}, expected matrices")
    return site.matmul(a, b)


_UNARY: Meanings = {
    **{name: partial(_float, op) for name, op in (
        ("Exp", "Exp"), ("Log", "Log"), ("Sqrt", "Sqrt"), ("Sin", "Sin"), ("Cos", "Cos"),
        ("Tanh", "Tanh"), ("Arccos", "Acos"), ("Arcsin", "Asin"), ("Arctan", "Atan"),
        ("Erf", "Erf"), ("Sigmoid", "Sigmoid"), ("Reciprocal", "Reciprocal"),
    )},
    **{name: partial(_same, op) for name, op in (
        ("Absolute", "Abs"), ("Negative", "Neg"), ("Sign", "Sign"), ("Ceil", "Ceil"),
        ("Floor", "Floor"),
    )},
    **{name: partial(_applied, function) for name, function in (
        ("Relu", "relu"), ("Relu6", "relu6"), ("Selu", "selu"), ("Silu", "silu"),
        ("Softplus", "softplus"), ("Softsign", "softsign"), ("Mish", "mish"),
        ("HardSigmoid", "hard_sigmoid"), ("HardSilu", "hard_silu"), ("HardTanh", "hard_tanh"),
        ("LogSigmoid", "log_sigmoid"),
    )},
}  # fmt: skip
_BINARY: Meanings = {
    **{name: partial(_binary, op) for name, op in (
        ("Add", "Add"), ("Subtract", "Sub"), ("Multiply", "Mul"), ("Power", "Pow"),
        ("Maximum", "Max"), ("Minimum", "Min"),
    )},
    **{name: partial(_compared, op) for name, op in (
        ("Equal", "Equal"), ("Greater", "Greater"), ("GreaterEqual", "GreaterOrEqual"),
        ("Less", "Less"), ("LessEqual", "LessOrEqual"),
    )},
    "LogicalAnd": partial(_logical, "And"),
    "LogicalOr": partial(_logical, "Or"),
}  # fmt: skip
_REDUCED: Meanings = {
    name: partial(_reduced, op)
    for name, op in (
        ("Sum", "ReduceSum"),
        ("Mean", "ReduceMean"),
        ("Average", "ReduceMean"),
        ("Max", "ReduceMax"),
        ("Min", "ReduceMin"),
        ("Prod", "ReduceProd"),
        ("Logsumexp", "ReduceLogSumExp"),
    )
}
_OTHERS: Meanings = {
    "All": partial(_any_or_all, "ReduceMin"),
    "Any": partial(_any_or_all, "ReduceMax"),
    "Argmax": partial(_place, "ArgMax"),
    "Argmin": partial(_place, "ArgMin"),
    "Cast": _cast,
    "Clip": _clip,
    "ConvertToTensor": _cast,
    "Cumsum": _cumulated,
    "Divide": _divided,
    "TrueDivide": _divided,
    "Dot": _dot,
    "Elu": _elu,
    "Expm1": _expm1,
    "FloorDivide": _floor_divided,
    "Gelu": _gelu,
    "LeakyRelu": _leaky_relu,
    "Log1p": _log1p,
    "LogSoftmax": _log_softmax,
    "LogicalNot": lambda site: site.unary("Not", site.cast(tensor(site, 0, "x"), "bool")),
    "Matmul": _matmul,
    "Mod": _modulo,
    "NotEqual": _different,
    "OnesLike": partial(_filled, 1),
    "Round": _rounded,
    "Rsqrt": _rsqrt,
    "Softmax": _softmax,
    "Square": _square,
    "Std": partial(_spread, True),
    "Var": partial(_spread, False),
    "Where": _where,
    "ZerosLike": partial(_filled, 0),
}

KINDS: Meanings = {
    f"ops.{name}": function
    for name, function in {**_UNARY, **_BINARY, **_REDUCED, **_OTHERS}.items()
}
