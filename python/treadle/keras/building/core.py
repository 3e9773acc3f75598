"""This module writes Keras' core layers as nodes: Dense, Embedding, Masking and what changes
nothing outside of training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle.keras.building.activations import activated
from treadle.keras.building.builder import Tensor, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle.keras.building.site import Site

# Layers that only training uses.
NOTHING = (
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout"),
    *("GaussianNoise", "GaussianDropout", "ActivityRegularization", "Identity"),
)


def nothing(site: Site) -> Tensor:
    """Return the input, with its mask."""
    return site.x


def dense(site: Site) -> Tensor:
    """Return activation(x kernel + bias) of the last axis; kernel [I, units]."""
    x = site.floats(site.x)
    if x.rank < 2:
        raise site.error(f"is called with a tensor of {text(x.shape)}, expected [B, .., I]")
    kernel = site.weight("kernel")
    weight = site.constant("kernel", np.ascontiguousarray(kernel.T))
    bias = site.constant("bias") if site.option("use_bias") else None
    y = site.linear(x, weight, bias, {})
    return activated(site, y).masked(site.x.mask)


def embedding(site: Site) -> Tensor:
    """Look up rows of embeddings [V, E]. With mask_zero the steps whose id is 0 are masked."""
    ids = site.x
    table = site.constant("embeddings")
    rows = ids if ids.dtype in ("int32", "int64") else site.cast(ids, "int32")
    y = site.emit("Gather", [table, rows], [*ids.shape, table.shape[1]], axis=0)
    if not site.option("mask_zero"):
        return y.masked(None)
    return y.masked(different(site, rows, site.number(0, rows.dtype)))


def different(site: Site, a: Tensor, b: Tensor) -> Tensor:
    """Return where two tensors differ: bool."""
    return site.unary("Not", site.binary("Equal", a, b, "bool"))


def masking(site: Site) -> Tensor:
    """Mask the steps all of whose features are mask_value, and set them to 0."""
    x = site.x
    value = site.option("mask_value")
    kept = different(site, x, site.number(value, x.dtype))
    any_of = site.reduce("ReduceMax", site.cast(kept, "int32"), [-1], keep=True)
    steps = site.cast(any_of, "bool")
    return site.where(steps, x, site.number(0, x.dtype)).masked(site.squeeze(steps, -1))


def rescaling(site: Site) -> Tensor:
    """Return x * scale + offset, which are numbers, or one for each channel."""
    x = site.floats(site.x)
    scale, offset = (np.asarray(site.option(name), np.float32) for name in ("scale", "offset"))
    for op, number in (("Mul", scale), ("Add", offset)):
        if number.any() if op == "Add" else (number != 1).any():
            x = site.binary(op, x, site.builder.constant(number, f"{site.path}/{op}"))
    return x.masked(site.x.mask)


KINDS: dict[str, Callable[[Site], Tensor]] = {
    **dict.fromkeys(NOTHING, nothing),
    "Dense": dense,
    "Embedding": embedding,
    "Masking": masking,
    "Rescaling": rescaling,
}
