"""Names for the types of arrays, for annotations only."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Float: TypeAlias = npt.NDArray[np.float32]
Bool: TypeAlias = npt.NDArray[np.bool_]
Int: TypeAlias = npt.NDArray[np.int64]
Bits: TypeAlias = npt.NDArray[np.uint16]
"""The bits of bfloat16 numbers."""
AnyArray: TypeAlias = npt.NDArray[Any]
DType: TypeAlias = np.dtype[Any]

ArrayLike: TypeAlias = Any
"""Public functions accept any of this as an array; no static type describes all of it."""
