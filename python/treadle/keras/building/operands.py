"""This module reads what an operation of Keras is called with: tensors, numbers and options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._storage.json import short
from treadle.keras.building.builder import Tensor

if TYPE_CHECKING:
    from treadle.keras.building.site import Site


def tensor(site: Site, place: int, name: str = "", like: str = "") -> Tensor:
    """Return an argument as a tensor; a number becomes a constant, of the dtype ``like``."""
    given = site.args[place] if place < len(site.args) else site.kwargs.get(name)
    if isinstance(given, Tensor):
        return given.masked(None)
    if isinstance(given, list) and given and all(type(one) is int for one in given):
        given = np.array(given, np.int64)
    if isinstance(given, np.ndarray):
        return site.builder.constant(given, f"{site.path}/constant")
    if isinstance(given, bool | int | float):
        whole = isinstance(given, int) and not isinstance(given, bool)
        kind = like if like and (whole or like == "float32") else "float32"
        return site.number(given, "bool" if isinstance(given, bool) else kind)
    raise site.error(f"is called with {short(given)}, expected a tensor or a number")


def option(site: Site, name: str, otherwise: Any = None) -> Any:
    """Return an option of the operation, which may also be an argument of the call."""
    return site.layer.config.get(name, site.kwargs.get(name, otherwise))


def pair(site: Site, first: int = 0) -> tuple[Tensor, Tensor]:
    """Return two arguments in the dtype that Keras computes both in."""
    given = site.args[first : first + 2]
    known = [one for one in given if isinstance(one, Tensor)]
    like = known[0].dtype if known else "float32"
    a, b = (tensor(site, first + i, f"x{i + 1}", like) for i in range(2))
    order = ("bool", "int32", "int64", "float32")
    if a.dtype == b.dtype or not {a.dtype, b.dtype} <= set(order):
        return a, b
    wide = max(a.dtype, b.dtype, key=order.index)
    return site.cast(a, wide), site.cast(b, wide)


def axes_of(site: Site, rank: int, axis: Any) -> list[int]:
    """Return axes counted from the first; all of them for None."""
    if axis is None:
        return list(range(rank))
    given = axis if isinstance(axis, list | tuple) else [axis]
    return [site.axis(int(a), rank) for a in given]
