"""This module says how far off an answer may be, from the errors that every implementation has.

A reference runs its formulas twice, in float64 (`Exact`) and in float32 with these errors put in:

- `Plain`, float32. An activation is off by up to `ACTIVATION_ULPS` units in the last place of 1
  (tanh and sigmoid are approximated; good approximations are within that). A sum of K terms added
  one after another is off by about eps/2 sqrt(K/2) of its size: each of the K partial sums is
  rounded, and they grow like sqrt(k). (NumPy's own product keeps many partial sums and is more
  exact than the obvious loop.)
- `BFloat16`. Also, every number that is kept between two operations is rounded to bfloat16:
  weights, inputs, sums, gates, states, outputs. So PyTorch does it; only the sum within a product
  is float32.
- `Int8`. Also, both factors of a product with weights are rounded to integers with one scale for
  the whole matrix, weights to -127 ... 127, activations to 0 ... 127 as they come (a CPU without
  VNNI has no room for the eighth bit). This is the coarsest of the ways in use (PyTorch's); scales
  for a row or a channel are better, and how much is what `treadle bench --accuracy` is for.

A backend may be twice as far from float64 as the second run is, plus 4 eps of the dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .dtypes import Array

EPS = float(np.finfo(np.float32).eps)
ACTIVATION_ULPS = 4


class Exact:
    """This class computes without rounding errors of a format."""

    dtype: Any = np.float64

    def activation(self, a: Array) -> Array:
        """Return the value of an activation function."""
        return a

    def kept(self, a: Array) -> Array:
        """Return a number as it is stored between two operations."""
        return a

    def inputs(self, x: Array) -> Array:
        """Return the inputs as a product with weights takes them."""
        return self.kept(x)

    def weights(self, w: Array) -> Array:
        """Return the weights as a product takes them."""
        return self.kept(w)

    def total(self, a: Array, terms: int, begun: Array | None = None) -> Array:
        """Return a sum of that many terms that began at `begun`."""
        return a


class Plain(Exact):
    """This class adds the errors of float32's sums and activations."""

    dtype: Any = np.float32
    eps = EPS

    def __init__(self) -> None:
        self._rng = np.random.default_rng(3)

    def activation(self, a: Array) -> Array:
        """Return a value that is off by up to `ACTIVATION_ULPS` of 1."""
        return self.kept(self._off(a, ACTIVATION_ULPS * EPS))

    def total(self, a: Array, terms: int, begun: Array | None = None) -> Array:
        """Return a sum that is off by the rounding of its partial sums."""
        whole = a if begun is None else a + begun
        size = float(np.sqrt(np.mean(whole * whole)))
        return self.kept(self._off(a, EPS / 2 * (terms / 2) ** 0.5 * size))

    def _off(self, a: Array, size: float) -> Array:
        noise = self._rng.random(a.shape, dtype=np.float32) * 2 - 1
        return a + noise * np.float32(size)


class BFloat16(Plain):
    """This class keeps eight bits of every number."""

    eps = 2.0**-7

    def kept(self, a: Array) -> Array:
        """Return the number rounded to the nearest, to even in the middle."""
        bits = np.ascontiguousarray(a, np.float32).view(np.uint32)
        rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
        return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


class Int8(Plain):
    """This class rounds the factors of products to integers."""

    eps = 2.0**-7

    def inputs(self, x: Array) -> Array:
        """Round x to 128 levels between its least and its largest number, or 0."""
        least, most = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
        scale = (most - least) / 127 or 1.0
        return (np.rint(x / scale) * scale).astype(np.float32)

    def weights(self, w: Array) -> Array:
        """Round w to multiples of 1/127 of its largest magnitude."""
        scale = float(np.abs(w).max()) / 127 or 1.0
        return (np.rint(w / scale) * scale).astype(np.float32)


_ERRORS = {"float32": Plain, "bfloat16": BFloat16, "int8": Int8}


def errors_of(dtype: str) -> Plain:
    """Return the errors of a dtype."""
    return _ERRORS[dtype]()


def tolerance(error: float, scale: float, errors: Plain) -> float:
    """Return the error allowed: `error` is that of the second run, `scale` the largest answer."""
    return 2 * error + 4 * errors.eps * max(1.0, scale)
