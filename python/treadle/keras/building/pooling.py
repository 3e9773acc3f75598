"""This module writes Keras' pooling layers as nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from treadle.keras.building.builder import Tensor
from treadle.keras.building.conv import as_before, channels_first, numbers, padded, window_sizes

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle.keras.building.site import Site


def pool(site: Site) -> Tensor:
    """Return the largest of each window, or the average of what is there of it."""
    x = channels_first(site)
    spatial = x.rank - 2
    sizes = numbers(site, "pool_size", spatial)
    strides = sizes if site.option("strides") is None else numbers(site, "strides", spatial)
    largest = site.layer.kind.startswith("Max")
    same = site.option("padding") == "same"
    free = any(isinstance(x.shape[2 + i], str) and strides[i] != 1 for i in range(spatial))
    if same and free and not largest:
        raise site.error(
            'averages with padding="same" and strides over an axis of any size, which treadle has '
            "not; give the model's input a fixed size"
        )
    x, pads = padded(site, x, site.option("padding"), sizes, strides)
    made = window_sizes(site, x, sizes, strides, pads)
    op = "MaxPool" if largest else "AveragePool"
    attributes: dict[str, Any] = {"kernel_shape": sizes, "strides": strides, "pads": pads}
    if not largest:
        attributes["count_include_pad"] = 0
    y = site.emit(op, [x], [*x.shape[:2], *made], "float32", **attributes)
    return as_before(site, y)


def global_pool(site: Site) -> Tensor:
    """Return the largest or the average over all axes but the batch's and the channels'.

    An average over time is over the steps that a mask keeps.
    """
    x, keep = site.floats(site.x), bool(site.option("keepdims"))
    last = site.option("data_format") != "channels_first"
    axes = list(range(1, x.rank - 1) if last else range(2, x.rank))
    if "Max" in site.layer.kind:
        return site.reduce("ReduceMax", x, axes, keep=keep)
    mask = site.kwargs.get("mask", site.x.mask)
    if mask is None or x.rank != 3:
        return site.reduce("ReduceMean", x, axes, keep=keep)
    steps = site.unsqueeze(site.cast(mask, "bool"), 2 if last else 1)
    kept = site.where(steps, x, site.number(0))
    count = site.reduce("ReduceSum", site.cast(steps, "float32"), axes, keep=keep)
    return site.binary("Div", site.reduce("ReduceSum", kept, axes, keep=keep), count)


KINDS: dict[str, Callable[[Site], Tensor]] = {
    f"{name}{axes}D": function
    for axes in (1, 2)
    for name, function in (
        ("MaxPooling", pool),
        ("AveragePooling", pool),
        ("GlobalMaxPooling", global_pool),
        ("GlobalAveragePooling", global_pool),
    )
}
