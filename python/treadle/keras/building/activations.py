"""This module writes Keras' activations as nodes, and says which of them recurrent layers have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from treadle._storage.json import short
from treadle.keras.activations import FUNCTIONS
from treadle.keras.building.builder import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle.keras.building.site import Site
    from treadle.keras.files.description import Layer
    from treadle.layers.activation import Activation

    Meaning = Callable[[Site, Tensor], Tensor]


def _operator(op: str, **attributes: Any) -> Meaning:
    """Return the meaning of an activation that is one operator."""
    return lambda site, x: site.unary(op, x, **attributes)


def _clip(low: float, high: float) -> Meaning:
    return lambda site, x: clipped(site, x, low, high)


def clipped(site: Site, x: Tensor, low: float, high: float) -> Tensor:
    """Keep a tensor between two numbers."""
    return site.emit("Clip", [x, site.number(low), site.number(high)], x.shape)


def _hard_sigmoid(site: Site, x: Tensor) -> Tensor:
    """Return relu6(x + 3) / 6, or 0.2 x + 0.5 between 0 and 1 for Keras 2."""
    return site.unary("HardSigmoid", x, alpha=hard_slope(site), beta=0.5)


def hard_slope(site: Site) -> float:
    """Return the slope of hard_sigmoid, which Keras 3 changed."""
    return 0.2 if site.builder.version == 2 else 1 / 6


def _softmax(site: Site, x: Tensor) -> Tensor:
    return site.unary("Softmax", x, axis=-1)


def _log_softmax(site: Site, x: Tensor) -> Tensor:
    return site.unary("LogSoftmax", x, axis=-1)


def _tanh_shrink(site: Site, x: Tensor) -> Tensor:
    return site.binary("Sub", x, site.unary("Tanh", x))


def _log_sigmoid(site: Site, x: Tensor) -> Tensor:
    return site.unary("Neg", site.unary("Softplus", site.unary("Neg", x)))


def _squareplus(site: Site, x: Tensor) -> Tensor:
    """Return (x + sqrt(x^2 + 4)) / 2."""
    square = site.binary("Add", site.binary("Mul", x, x), site.number(4))
    return site.scaled(site.binary("Add", x, site.unary("Sqrt", square)), 0.5)


def _sparse_plus(site: Site, x: Tensor) -> Tensor:
    """Return 0 below -1, x above 1 and (x + 1)^2 / 4 between them."""
    one = site.binary("Add", clipped(site, x, -1, 1), site.number(1))
    middle = site.scaled(site.binary("Mul", one, one), 0.25)
    above = site.emit("Greater", [x, site.number(1)], x.shape, "bool")
    return site.where(above, x, middle)


def _sparse_sigmoid(site: Site, x: Tensor) -> Tensor:
    """Return (x + 1) / 2 between 0 and 1."""
    return site.unary("HardSigmoid", x, alpha=0.5, beta=0.5)


def _gated(site: Site, x: Tensor) -> Tensor:
    """Return a sigmoid(b) of the halves a and b of the last axis."""
    size = x.shape[-1]
    if not isinstance(size, int) or size % 2:
        raise site.error(f"has the activation glu of {size} features, expected an even number")
    a, b = site.slice(x, -1, 0, size // 2), site.slice(x, -1, size // 2, size)
    return site.binary("Mul", a, site.unary("Sigmoid", b))


MEANINGS: dict[str, Meaning] = {
    "linear": lambda site, x: x,
    "relu": _operator("Relu"),
    "relu6": _clip(0, 6),
    "leaky_relu": _operator("LeakyRelu", alpha=0.2),
    "elu": _operator("Elu", alpha=1.0),
    "selu": _operator("Selu"),
    "celu": _operator("Celu", alpha=1.0),
    "softplus": _operator("Softplus"),
    "softsign": _operator("Softsign"),
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "sigmoid": _operator("Sigmoid"),
    "log_sigmoid": _log_sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "tanh": _operator("Tanh"),
    "hard_tanh": _clip(-1, 1),
    "tanh_shrink": _tanh_shrink,
    "hard_shrink": _operator("Shrink", lambd=0.5, bias=0.0),
    "soft_shrink": _operator("Shrink", lambd=0.5, bias=0.5),
    "exponential": _operator("Exp"),
    "silu": _operator("treadle.Silu"),
    "swish": _operator("treadle.Silu"),
    "hard_silu": _operator("HardSwish"),
    "hard_swish": _operator("HardSwish"),
    "gelu": _operator("Gelu"),
    "glu": _gated,
    "mish": _operator("Mish"),
    "squareplus": _squareplus,
    "sparse_plus": _sparse_plus,
    "sparse_sigmoid": _sparse_sigmoid,
}


def activated(site: Site, x: Tensor, option: str = "activation") -> Tensor:
    """Apply the activation that is an option of the layer."""
    name = site.option(option)
    if name is None:
        part = site.layer.parts.get(option)
        if part is None:
            return x
        made = KINDS.get(part.kind)
        if made is None:
            raise site.error(f"has the activation {short(part.kind)}, which treadle has not")
        return made(site.inner(part, [x]))
    return applied(site, x, name)


def applied(site: Site, x: Tensor, name: str) -> Tensor:
    """Apply an activation by Keras' name of it."""
    if name not in MEANINGS:
        raise site.error(
            f"has the activation {short(name)}, expected one of: {', '.join(MEANINGS)}"
        )
    return MEANINGS[name](site, x)


def of_cell(site: Site, option: str) -> list[Any]:
    """Return an activation as treadle.Recurrent has it. Raises ValueError for others."""
    name, part = site.option(option), site.layer.parts.get(option)
    if name is None and part is None:
        return ["linear"]
    found = _part_of_cell(part) if part is not None else FUNCTIONS.get(name)
    if part is None and name == "hard_sigmoid":
        found = ("hard_sigmoid", hard_slope(site), 0.5)
    if found is None:
        raise site.error(
            f"has the {option} {short(part.kind if part is not None else name)}, and a recurrent "
            f"layer of treadle has none but: {', '.join(FUNCTIONS)}"
        )
    return [found] if isinstance(found, str) else list(found)


def _part_of_cell(part: Layer) -> Activation:
    config = part.config
    if part.kind == "LeakyReLU":
        return "leaky_relu", float(config["negative_slope"])
    if part.kind == "ELU":
        return "elu", float(config["alpha"])
    if part.kind == "ReLU" and not config["threshold"]:
        if config["max_value"] is None:
            slope = float(config["negative_slope"])
            return ("leaky_relu", slope) if slope else "relu"
        if not config["negative_slope"]:
            return "clip", 0.0, float(config["max_value"])
    return None


# -- layers ---------------------------------------------------------------------------------------


def activation(site: Site) -> Tensor:
    x = site.x
    return activated(site, site.floats(x)).masked(x.mask)


def relu(site: Site) -> Tensor:
    """Return min(max_value, x) above the threshold, negative_slope * (x - threshold) below it."""
    x, mask = site.floats(site.x), site.x.mask
    slope, top = float(site.option("negative_slope")), site.option("max_value")
    threshold = float(site.option("threshold"))
    if not threshold and top is None:
        made = site.unary("LeakyRelu", x, alpha=slope) if slope else site.unary("Relu", x)
        return made.masked(mask)
    if not threshold:
        positive = clipped(site, x, 0, float(top))
    else:
        above = site.emit("Greater", [x, site.number(threshold)], x.shape, "bool")
        positive = site.where(above, x, site.number(0))
        if top is not None:
            positive = clipped(site, positive, 0, float(top))
    if slope:
        below = site.unary("Relu", site.binary("Sub", site.number(threshold), x))
        positive = site.binary("Sub", positive, site.scaled(below, slope))
    return positive.masked(mask)


def leaky_relu(site: Site) -> Tensor:
    slope = float(site.option("negative_slope"))
    return site.unary("LeakyRelu", site.floats(site.x), alpha=slope).masked(site.x.mask)


def elu(site: Site) -> Tensor:
    alpha = float(site.option("alpha"))
    return site.unary("Elu", site.floats(site.x), alpha=alpha).masked(site.x.mask)


def prelu(site: Site) -> Tensor:
    x = site.floats(site.x)
    alpha = site.constant("alpha")
    site.broadcast(x.shape[1:], alpha.shape)
    return site.emit("PRelu", [x, alpha], x.shape).masked(site.x.mask)


def softmax(site: Site) -> Tensor:
    """Return the softmax over some axes of what a mask keeps; what it hides becomes 0."""
    x = site.floats(site.x)
    axes = [site.axis(a, x.rank) for a in site.option("axis")]
    mask = site.kwargs.get("mask", site.x.mask)
    if mask is None:
        return softmax_over(site, x, axes)
    hidden = masked_softmax(site, x, mask, axes)
    return hidden.masked(site.x.mask)


def softmax_over(site: Site, x: Tensor, axes: list[int]) -> Tensor:
    """Return e^x over its sum along axes."""
    if len(axes) == 1:
        return site.unary("Softmax", x, axis=axes[0])
    shifted = site.binary("Sub", x, site.reduce("ReduceMax", x, axes, keep=True))
    powers = site.unary("Exp", shifted)
    return site.binary("Div", powers, site.reduce("ReduceSum", powers, axes, keep=True))


def masked_softmax(site: Site, x: Tensor, mask: Tensor, axes: list[int]) -> Tensor:
    """Return the softmax of where(mask, x, -1e9), with 0 where the mask is false."""
    mask = site.cast(mask, "bool")
    if mask.rank > x.rank or site.broadcast(x.shape, mask.shape) != x.shape:
        raise site.error("has a mask that does not fit its input")
    kept = site.where(mask, x, site.number(-1e9))
    return site.where(mask, softmax_over(site, kept, axes), site.number(0))


KINDS: dict[str, Callable[[Site], Tensor]] = {
    "Activation": activation,
    "ReLU": relu,
    "LeakyReLU": leaky_relu,
    "ELU": elu,
    "PReLU": prelu,
    "Softmax": softmax,
}
