"""This module writes Keras' layers that merge several tensors as nodes.

Keras merges the masks, too: of sums, products and their like by a logical or, if all inputs have
one; a product and a maximum leave out what a mask hides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle.keras.building.builder import Tensor, text
from treadle.keras.building.norm import normalized

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from treadle.keras.building.site import Site


def _inputs(site: Site) -> list[Tensor]:
    """Return the inputs with as many axes as the one that has most: new ones are second."""
    xs = site.xs
    if not xs:
        raise site.error("is called with no tensor")
    rank = max(x.rank for x in xs)
    wide = []
    for x in xs:
        added = range(1, 1 + rank - x.rank)
        y = site.unsqueeze(site.floats(x), *added) if added else site.floats(x)
        wide.append(y.masked(x.mask))
    return wide


def either(site: Site, masks: Sequence[Tensor | None]) -> Tensor | None:
    """Return the logical or of masks, or None where one is missing.

    Keras 2 has the logical and of those that are there.
    """
    found = [mask for mask in masks if mask is not None]
    old = site.builder.version == 2
    if not found or (len(found) < len(masks) and not old):
        return None
    first, *rest = found
    for mask in rest:
        first = first if mask is first else site.binary("And" if old else "Or", first, mask, "bool")
    return first


def _mask(site: Site) -> Tensor | None:
    return either(site, [x.mask for x in site.xs])


def _folded(op: str) -> Callable[[Site], Tensor]:
    """Return the meaning of a layer that applies an operator to one input after the other."""

    def function(site: Site) -> Tensor:
        first, *rest = _inputs(site)
        if op == "Sub" and len(rest) != 1:
            raise site.error(f"is called with {1 + len(rest)} tensors, expected 2")
        for x in rest:
            first = site.binary(op, first, x)
        return first.masked(_mask(site))

    return function


def average(site: Site) -> Tensor:
    total = _folded("Add")(site)
    return site.scaled(total, 1 / len(site.xs)).masked(total.mask)


def multiply(site: Site) -> Tensor:
    """Return the product of the inputs, each of which is 1 where its mask is false.

    It is 0 where none of them is kept. Keras 2 looks at no mask.
    """
    made: Tensor | None = None
    for x in _inputs(site):
        if x.mask is not None and site.builder.version > 2:
            x = site.where(site.unsqueeze(x.mask, -1), x, site.number(1))
        made = x if made is None else site.binary("Mul", made, x)
    assert made is not None
    mask = _mask(site)
    if mask is not None and site.builder.version > 2:
        made = site.where(site.unsqueeze(mask, -1), made, site.number(0))
    return made.masked(mask)


def _extreme(op: str) -> Callable[[Site], Tensor]:
    """Return the meaning of Maximum and Minimum, which leave out what a mask hides."""

    def function(site: Site) -> Tensor:
        first, *rest = _inputs(site)
        made, mask = first, first.mask
        for x in rest:
            other = x
            if x.mask is not None and site.builder.version > 2:
                other = site.where(site.unsqueeze(x.mask, -1), x, made)
            if mask is not None and site.builder.version > 2:
                made = site.where(site.unsqueeze(mask, -1), made, other)
            mask = either(site, [mask, x.mask])
            made = site.emit(op, [made, other], site.broadcast(made.shape, other.shape))
        return made.masked(_mask(site))

    return function


def concatenate(site: Site) -> Tensor:
    """Put tensors one behind the other; a step is kept if a mask keeps it in any of them."""
    xs = site.xs
    same = {x.dtype for x in xs} == {xs[0].dtype} if xs else False
    parts = xs if same else [site.floats(x) for x in xs]
    if not parts:
        raise site.error("is called with no tensor")
    axis = site.axis(site.option("axis"), parts[0].rank)
    made = site.concat(parts, axis)
    masks = [x.mask for x in xs]
    if all(mask is None for mask in masks):
        return made.masked(None)
    if made.rank != 3:  # Keras' masks are of steps
        return made.masked(None)
    whole = [_kept(site, x) if x.mask is None else x.mask for x in xs]
    return made.masked(site.concat(whole, axis) if axis == 1 else either(site, whole))


def _kept(site: Site, x: Tensor) -> Tensor:
    """Return a mask that keeps all steps of a tensor."""
    first = site.pick(x, -1, 0)
    return site.binary("Equal", site.cast(first, "bool"), site.cast(first, "bool"), "bool")


def dot(site: Site) -> Tensor:
    """Return the products of two tensors, summed over an axis of each. With ``normalize`` they are
    those of their directions.
    """
    xs = [site.floats(x) for x in site.xs]
    if len(xs) != 2 or min(x.rank for x in xs) < 2:
        raise site.error("is called with other tensors than two of at least two axes")
    axes = [site.axis(a, x.rank) for a, x in zip(site.option("axes"), xs, strict=True)]
    if 0 in axes:
        raise site.error("sums over the batch")
    if site.option("normalize"):
        xs = [normalized(site, x, [a], 1e-7) for x, a in zip(xs, axes, strict=True)]
    a, b = xs
    # a becomes [B, rest, K] and b [B, K, rest].
    outer = [a.shape[i] for i in range(1, a.rank) if i != axes[0]]
    inner = [b.shape[i] for i in range(1, b.rank) if i != axes[1]]
    a = site.transpose(a, [*(i for i in range(a.rank) if i != axes[0]), axes[0]])
    b = site.transpose(b, [0, axes[1], *(i for i in range(1, b.rank) if i != axes[1])])
    rows = _joined_sizes(site, a, outer)
    columns = _joined_sizes(site, b, inner)
    left = a if a.rank == 3 else site.reshape(a, [a.shape[0], rows, a.shape[-1]])
    right = b if b.rank == 3 else site.reshape(b, [b.shape[0], b.shape[1], columns])
    made = site.matmul(left, right)
    shape = [made.shape[0], *outer, *inner]
    return site.reshape(made, shape if len(shape) > 1 else [*shape, 1]).masked(None)


def _joined_sizes(site: Site, x: Tensor, sizes: Sequence[int | str]) -> int | str:
    """Return the product of sizes, one of which a call may choose only where it is alone."""
    product = 1
    for size in sizes:
        if len(sizes) == 1:
            return size
        if not isinstance(size, int):
            raise site.error(f"is called with {text(x.shape)}, expected fixed sizes")
        product *= size
    return product


KINDS: dict[str, Callable[[Site], Tensor]] = {
    "Add": _folded("Add"),
    "Subtract": _folded("Sub"),
    "Multiply": multiply,
    "Average": average,
    "Maximum": _extreme("Max"),
    "Minimum": _extreme("Min"),
    "Concatenate": concatenate,
    "Dot": dot,
}
