"""This module writes TimeDistributed as nodes: a layer that is applied to each step.

Layers that work on the last axis alone are applied as they are. For others the batch and the steps
become one axis, which they are taken apart from behind the layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle.keras.building.builder import Tensor, text
from treadle.keras.building.core import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from treadle.keras.building.site import Site
    from treadle.keras.files.description import Layer

    Apply = Callable[[Site], list[Tensor]]

# Layers that work on each number, or on the last axis, whatever lies before it.
_LAST_AXIS = (
    *NOTHING,
    *("Dense", "Embedding", "Activation", "ReLU", "LeakyReLU", "ELU"),
)
_NORMS = ("BatchNormalization", "LayerNormalization", "UnitNormalization", "Softmax")


def time_distributed(site: Site, apply: Apply) -> Tensor:
    """Apply the inner layer to each of x [B, T, ..]; ``apply`` writes a layer's nodes."""
    x, layer = site.x, site.layer.parts["layer"]
    if x.rank < 3 and layer.kind != "Embedding":
        raise site.error(f"is called with {text(x.shape)}, expected [B, T, ..]")
    if _on_last_axis(layer, x.rank - 1):
        (y,) = _one(site, apply(site.inner(layer, [x.masked(None)])))
        return y.masked(x.mask)
    rows = site.builder.symbol("rows")
    steps, rest = x.shape[:2], x.shape[2:]
    joined = site.reshape(x, [rows, *rest])
    (y,) = _one(site, apply(site.inner(layer, [joined.masked(None)])))
    shape = [*steps, *y.shape[1:]]
    free = [size for size in y.shape[1:] if isinstance(size, str)]
    if isinstance(steps[1], int) and not free:
        target = site.integers([-1, *shape[1:]], "shape")  # type: ignore[list-item]
    else:
        parts = [site.sizes_of(x, [0, 1])]
        if y.rank > 1:
            parts.append(site.sizes_of(y, range(1, y.rank)))
        target = site.concat(parts, 0)
    return site.emit("Reshape", [y, target], shape, y.dtype).masked(x.mask)


def _on_last_axis(layer: Layer, rank: int) -> bool:
    """Return whether a layer called with tensors of this rank sees their last axis alone."""
    if layer.kind in _LAST_AXIS:
        return layer.config.get("activation", "") is not None
    axis = layer.config.get("axis")
    return layer.kind in _NORMS and axis in (-1, rank - 1, (-1,), (rank - 1,))


def _one(site: Site, outputs: Sequence[Tensor]) -> Sequence[Tensor]:
    if len(outputs) != 1:
        raise site.error(f"has a layer of {len(outputs)} outputs, expected 1")
    return outputs
