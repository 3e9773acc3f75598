"""Numbers that are the same with every version of NumPy and on every machine.

NumPy guarantees the raw output of PCG64 and of SeedSequence for a seed, but not the distributions
that its Generator makes of it. These numbers are the upper 24 bits of that output, scaled by a
power of two, so that no rounding is involved.
"""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    """Something to compute: a name, and a function of no arguments that returns arrays.

    The result may nest arrays in tuples, lists and dicts. ``portable`` is False where the result
    passes through arithmetic of NumPy or PyTorch, whose bits differ between versions and machines.
    """

    name: str
    compute: Callable[[], Any]
    portable: bool = True


class Numbers:
    """A source of numbers that follow from a text."""

    def __init__(self, name: str) -> None:
        self._source = np.random.PCG64(zlib.crc32(name.encode()))

    def _raw(self, shape: tuple[int, ...]) -> Any:
        return self._source.random_raw(int(np.prod(shape, dtype=np.int64))).reshape(shape)

    def floats(self, *shape: int, reach: float = 1.0) -> Any:
        """float32 between -reach and reach."""
        whole = (self._raw(shape) >> np.uint64(40)).astype(np.int64) - 2**23
        return whole.astype(np.float32) * np.float32(2.0**-23) * np.float32(reach)

    def weights(self, *shape: int) -> Any:
        """float32 for a matrix [.., K], of a size at which gates saturate now and then."""
        return self.floats(*shape, reach=1.5 / shape[-1] ** 0.5)

    def integers(self, low: int, high: int, *shape: int) -> Any:
        """int64 in low..high - 1."""
        return low + (self._raw(shape) >> np.uint64(40)).astype(np.int64) % (high - low)

    def flags(self, *shape: int, share: float = 0.5) -> Any:
        """bool, of which about ``share`` are True."""
        return self._raw(shape) >> np.uint64(40) < np.uint64(share * 2**24)

    def lengths(self, most: int, batch: int) -> Any:
        """int64 [B] in 0..most, the most among them."""
        result = self.integers(0, most + 1, batch)
        result[batch // 2] = most
        return result

    def state_dict(self, module: Any) -> dict[str, Any]:
        """Parameters for a module, in the shapes of those that it has."""
        return {
            name: self.parameter(name, value.shape) for name, value in module.state_dict().items()
        }

    def parameter(self, name: str, shape: tuple[int, ...]) -> Any:
        """A matrix, a bias between -1/2 and 1/2, or the weight of a norm around 1."""
        if len(shape) > 1:
            return self.weights(*shape)
        values = self.floats(*shape, reach=0.5)
        return values + np.float32(1) if name.endswith("weight") else values
