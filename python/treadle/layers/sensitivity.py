"""Which parts of a net lose most in a dtype of low precision, measured on a sample of data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from treadle._inputs import checks

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float
    from treadle.layers.module import Module


class Loss(NamedTuple):
    """How far an output is from that of the net in float32."""

    cosine: float
    """The least cosine between a vector of the output and that of float32; 1 is the same."""
    error: float
    """The largest difference of two numbers, in parts of the largest number of float32's output."""


class Sensitivity(NamedTuple):
    """The result of `measured`: what each part loses, and a choice of dtypes."""

    alone: dict[str, Loss]
    """Part -> the loss if it alone has the dtype."""
    together: Loss
    """The loss if all parts have the dtype."""
    dtype: Any
    """The choice that is recommended, for ``module.to``: the dtype, or a dict with the parts that
    are to keep more bits."""
    recommended: Loss
    """The loss with this choice."""

    def __str__(self) -> str:
        rows = [*self.alone.items(), ("all of them", self.together)]
        rows.append(("recommended", self.recommended))
        width = max(len(name) for name, _ in rows)
        lines = [f"{'':<{width}}  least cosine  largest error"]
        lines += [f"{n:<{width}}  {loss.cosine:12.6f}  {loss.error:13.2g}" for n, loss in rows]
        return "\n".join([*lines, f"dtype={self.dtype!r}"])


def measured(
    module: Module, parts: list[str], x: ArrayLike, dtype: Any, least: float, call: dict[str, Any]
) -> Sensitivity:
    """Compare outputs for x with each part alone in ``dtype``, with all of them, and with a choice.

    The choice begins with all parts in the dtype. While the least cosine is below ``least``, the
    part that loses most alone gets bfloat16, or float32 where that is not enough.
    """
    function = f"{module._function}.sensitivity"
    low = checks.dtype(function, "dtype", dtype)
    least = checks.number(function, "least", least, least=-1, most=1)
    whole = module.to("float32")
    exact = _output(whole, x, call)

    def loss(choice: Any) -> Loss:
        return _compared(_output(whole.to(choice), x, call), exact)

    alone = {part: loss({part: low}) for part in parts}
    together = found = loss(low)
    choice: dict[str, str] = {}
    for part in sorted(parts, key=lambda name: alone[name].cosine):
        if found.cosine >= least:
            break
        # Half the bits of float32 are enough for most parts that eight are not enough for.
        half = low == "int8" and loss({part: "bfloat16"}).cosine >= least
        choice[part] = "bfloat16" if half else "float32"
        found = loss({"default": low, **choice})
    return Sensitivity(alone, together, {"default": low, **choice} if choice else low, found)


def _output(module: Any, x: ArrayLike, call: dict[str, Any]) -> Float:
    result = module(x, **call)
    y: Float = result[0] if isinstance(result, tuple) else result
    return y


def _compared(y: Float, exact: Float) -> Loss:
    """Compare vectors along the last axis; those of zeros, which are padding, are left out."""
    size = exact.shape[-1] if exact.ndim else 1
    a, b = (part.reshape(-1, size).astype(np.float64) for part in (y, exact))
    there = np.abs(b).max(axis=1, initial=0) > 0
    a, b = a[there], b[there]
    if not b.size:
        return Loss(1.0, 0.0)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = (a * b).sum(axis=1) / lengths
    cosines[~np.isfinite(cosines)] = -1  # zeros or NaN where float32 has numbers
    error = np.abs(a - b).max() / np.abs(b).max()
    return Loss(float(cosines.min()), float(error))
