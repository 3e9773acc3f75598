"""This module gives vectors the form that a call asks for: quantized, or tensors of PyTorch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.checks import flag, shown

if TYPE_CHECKING:
    from treadle._inputs.types import AnyArray, Float

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")


def check_precision(function: str, precision: object) -> str:
    """Check the name of a precision; None means float32, as in sentence-transformers."""
    if precision is None:
        return "float32"
    if isinstance(precision, str) and precision in PRECISIONS:
        return precision
    raise ValueError(
        f"{function}: precision is {shown(precision)}, expected one of {', '.join(PRECISIONS)}"
    )


def quantize(function: str, vectors: Float, precision: str) -> AnyArray:
    """Quantize vectors [n, D] by sentence-transformers' formulas.

    With a and b the least and largest number of a column among the n vectors, uint8 has
    floor((x - a) / ((b - a) / 255)), int8 the same minus 128. ubinary has the bits x > 0, eight to
    a byte, the first one in the highest bit; binary has the same bytes minus 128.

    Raises ValueError for int8 and uint8 of one vector, whose columns have no range.
    """
    if precision == "float32":
        return vectors
    if precision in ("binary", "ubinary"):
        packed = np.packbits(vectors > 0, axis=-1)
        return packed if precision == "ubinary" else (packed.astype(np.int16) - 128).astype(np.int8)
    if len(vectors) == 1:
        raise ValueError(
            f"{function}: precision is {precision!r} for one vector, whose columns have no range: "
            "expected several, or precision='float32', or 'binary'"
        )
    if not len(vectors):
        return vectors.astype(precision)
    least, most = vectors.min(axis=0), vectors.max(axis=0)
    steps = (most - least) / np.float32(255)
    steps[steps == 0] = 1
    levels = np.clip(np.floor((vectors - least) / steps), 0, 255)
    quantized: AnyArray = (levels - 128 if precision == "int8" else levels).astype(precision)
    return quantized


class Form:
    """The kind of a call's result: an array, a tensor, or a list of tensors."""

    def __init__(self, function: str, convert_to_numpy: object, convert_to_tensor: object) -> None:
        """Check the two arguments; the second one wins. Raises ImportError without PyTorch."""
        numpy = flag(function, "convert_to_numpy", convert_to_numpy)
        self._tensor = flag(function, "convert_to_tensor", convert_to_tensor)
        self._list = not numpy and not self._tensor
        self._torch: Any = None
        if self._tensor or self._list:
            self._torch = _import_torch(function, self._tensor)

    def of(self, result: AnyArray, *, single: bool) -> Any:
        """Convert an array of rows; of a single input its row is the result."""
        if single:
            row = result[0]
            return row if self._torch is None else self._tensor_of(row)
        if self._torch is None:
            return result
        tensor = self._tensor_of(result)
        return list(tensor) if self._list else tensor

    def of_each(self, items: list[Any], *, single: bool) -> Any:
        """Convert a list of arrays, or of dicts of arrays; of a single input the item is it."""
        if self._torch is not None:
            items = [
                {name: self._tensor_of(value) for name, value in item.items()}
                if isinstance(item, dict)
                else self._tensor_of(item)
                for item in items
            ]
        return items[0] if single else items

    def _tensor_of(self, array: AnyArray) -> Any:
        """Share the memory of an array; a number becomes a tensor without axes."""
        return self._torch.as_tensor(array)


def _import_torch(function: str, tensor: bool) -> Any:
    try:
        return import_module("torch")
    except ImportError as error:
        name, value = ("convert_to_tensor", True) if tensor else ("convert_to_numpy", False)
        raise ImportError(
            f"{function}: {name} is {value} and PyTorch cannot be imported ({error}); "
            "pip install torch, or leave it out for NumPy arrays"
        ) from error
