"""This module writes Keras' norms as nodes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from treadle.keras.building.builder import Size, Tensor, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle._inputs.types import AnyArray
    from treadle.keras.building.site import Site


_MOST_ONES = 2**16  # in the place of weights that a layer has not


def batch_normalization(site: Site) -> Tensor:
    """Return (x - moving_mean) / sqrt(moving_variance + epsilon) gamma + beta, along one axis."""
    x, mask = site.floats(site.x), site.x.mask
    axis = site.axis(site.option("axis"), x.rank)
    channels = site.weight("moving_mean").shape[0]
    if axis == 0 or x.shape[axis] != channels:
        raise site.error(f"has {channels} channels, and is called with {text(x.shape)}")
    scale = _or(site, "gamma", np.ones(channels, np.float32))
    shift = _or(site, "beta", np.zeros(channels, np.float32))
    mean, variance = (site.constant(f"moving_{name}") for name in ("mean", "variance"))
    order = [0, axis, *(a for a in range(1, x.rank) if a != axis)]
    back = [order.index(a) for a in range(x.rank)]
    turned = site.transpose(x, order)
    y = site.emit(
        "BatchNormalization",
        [turned, scale, shift, mean, variance],
        turned.shape,
        epsilon=float(site.option("epsilon")),
    )
    return site.transpose(y, back).masked(mask)


def _or(site: Site, name: str, otherwise: AnyArray) -> Tensor:
    """Return a weight, or what stands for one that the layer has not."""
    if name in site.layer.weights:
        return site.constant(name)
    return site.builder.constant(otherwise, f"{site.path}/{name}")


def layer_normalization(site: Site) -> Tensor:
    """Return (x - mean) / sqrt(variance + epsilon) gamma + beta; the moments are over some axes."""
    x, mask = site.floats(site.x), site.x.mask
    if site.layer.config.get("rms_scaling"):
        raise site.error("has rms_scaling, which treadle has not")
    axes = sorted(site.axis(a, x.rank) for a in site.option("axis"))
    if 0 in axes:
        raise site.error("normalizes over the batch")
    sizes = [x.shape[a] for a in axes]
    for name in ("gamma", "beta"):
        if name in site.layer.weights and list(site.weight(name).shape) != sizes:
            raise site.error(f"has {site.weight(name).shape} weights, and x is {text(x.shape)}")
    epsilon = float(site.option("epsilon"))
    fixed = [size for size in sizes if isinstance(size, int)]
    few = len(fixed) == len(sizes) and math.prod(fixed) <= _MOST_ONES
    if axes == list(range(axes[0], x.rank)) and (few or "gamma" in site.layer.weights):
        parts = [x, site.constant("gamma") if "gamma" in site.layer.weights else _ones(site, fixed)]
        if "beta" in site.layer.weights:
            parts.append(site.constant("beta"))
        made = site.emit("LayerNormalization", parts, x.shape, axis=axes[0], epsilon=epsilon)
        return made.masked(mask)
    mean = site.reduce("ReduceMean", x, axes, keep=True)
    rest = site.binary("Sub", x, mean)
    variance = site.reduce("ReduceMean", site.binary("Mul", rest, rest), axes, keep=True)
    y = _over_root(site, rest, variance, epsilon)
    return _scaled(site, y, axes).masked(mask)


def _ones(site: Site, sizes: list[int]) -> Tensor:
    return site.builder.constant(np.ones(sizes, np.float32), f"{site.path}/gamma")


def _over_root(site: Site, x: Tensor, square: Tensor, epsilon: float) -> Tensor:
    """Return x / sqrt(square + epsilon)."""
    root = site.unary("Sqrt", site.binary("Add", square, site.number(epsilon)))
    return site.binary("Div", x, root)


def _scaled(site: Site, y: Tensor, axes: list[int]) -> Tensor:
    """Return y gamma + beta, where the weights lie along axes."""
    shape = [y.shape[a] if a in axes else 1 for a in range(y.rank)]
    sizes = [int(size) for size in shape]
    for op, name in (("Mul", "gamma"), ("Add", "beta")):
        if name in site.layer.weights:
            wide = site.constant(name, site.weight(name).reshape(sizes), f"{name}.wide")
            y = site.binary(op, y, wide)
    return y


def group_normalization(site: Site) -> Tensor:
    """Normalize groups of channels, over all axes but the batch's."""
    x, mask = site.floats(site.x), site.x.mask
    axis = site.axis(site.option("axis"), x.rank)
    channels, groups = x.shape[axis], site.option("groups")
    if axis == 0 or not isinstance(channels, int):
        raise site.error(f"is called with {text(x.shape)}, expected a fixed number of channels")
    groups = channels if groups == -1 else groups
    if groups < 1 or channels % groups:
        raise site.error(f"has {groups} groups, and {channels} channels")
    apart = site.reshape(x, [*x.shape[:axis], groups, channels // groups, *x.shape[axis + 1 :]])
    axes = [a for a in range(1, apart.rank) if a != axis]
    mean = site.reduce("ReduceMean", apart, axes, keep=True)
    rest = site.binary("Sub", apart, mean)
    variance = site.reduce("ReduceMean", site.binary("Mul", rest, rest), axes, keep=True)
    y = _over_root(site, rest, variance, float(site.option("epsilon")))
    return _scaled(site, site.reshape(y, x.shape), [axis]).masked(mask)


def unit_normalization(site: Site) -> Tensor:
    """Return x over its length along axes."""
    x = site.floats(site.x)
    axes = [site.axis(a, x.rank) for a in site.option("axis")]
    return normalized(site, x, axes).masked(site.x.mask)


def normalized(site: Site, x: Tensor, axes: list[int], least: float = 1e-12) -> Tensor:
    """Return x over its length along axes, or over ``least`` where that is more."""
    square = site.reduce("ReduceSum", site.binary("Mul", x, x), axes, keep=True)
    length = site.unary("Sqrt", square)
    return site.binary("Div", x, site.emit("Max", [length, site.number(least)], length.shape))


def normalization(site: Site) -> Tensor:
    """Return (x - mean) / sqrt(variance) of moments measured before, or the way back of that."""
    x = site.floats(site.x)
    axes = [site.axis(a, x.rank) for a in site.option("axis") or ()]
    shape = [x.shape[a] if a in axes else 1 for a in range(x.rank)]
    mean, variance = (_measured(site, name, shape) for name in ("mean", "variance"))
    with np.errstate(invalid="ignore"):  # a variance below 0 has no root
        root = np.maximum(np.sqrt(variance), np.float32(1e-7))
    first, second = ("Mul", "Add") if site.option("invert") else ("Sub", "Div")
    numbers = (root, mean) if site.option("invert") else (mean, root)
    for op, array in zip((first, second), numbers, strict=True):
        x = site.binary(op, x, site.builder.constant(array, f"{site.path}/{op}"))
    return x.masked(site.x.mask)


def _measured(site: Site, name: str, shape: list[Size]) -> AnyArray:
    """Return a mean or a variance, given as an option or measured, in a shape that broadcasts."""
    given = site.option(name)
    array = np.asarray(site.weight(name) if given is None else given, np.float32)
    sizes = [size if isinstance(size, int) else 0 for size in shape]
    if given is not None and array.size == 1:
        return array.reshape(-1)
    if array.size != np.prod(sizes):
        raise site.error(f"has a {name} of {array.size} numbers, and x has {shape}")
    return array.reshape(sizes)


KINDS: dict[str, Callable[[Site], Tensor]] = {
    "BatchNormalization": batch_normalization,
    "LayerNormalization": layer_normalization,
    "GroupNormalization": group_normalization,
    "UnitNormalization": unit_normalization,
    "Normalization": normalization,
}
