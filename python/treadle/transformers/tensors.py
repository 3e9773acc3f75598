"""This module turns lists of tokens into arrays of NumPy or tensors of PyTorch."""

from __future__ import annotations

from enum import Enum
from importlib import import_module
from typing import Any

import numpy as np

from treadle._inputs.checks import shown

_TYPES = ("np", "pt")


def check_type(function: str, value: object) -> str | None:
    """Check return_tensors, which may be an entry of Transformers' TensorType."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or (isinstance(value, str) and value in _TYPES):
        return value
    raise ValueError(
        f'{function}: return_tensors is {shown(value)}, expected "np", "pt" or None for lists'
    )


def convert(function: str, tensor_type: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return every field as an int64 array, or as a tensor if ``tensor_type`` is "pt".

    Raises ImportError without PyTorch, and ValueError for rows of different lengths.
    """
    check_type(function, tensor_type)
    make = _to_tensor if tensor_type == "pt" else np.asarray
    if tensor_type == "pt":
        _torch(function)
    return {name: make(_array(function, name, value)) for name, value in fields.items()}


def is_tensor(value: object) -> bool:
    """Tell whether a value is an array or a tensor."""
    return isinstance(value, np.ndarray) or (hasattr(value, "tolist") and hasattr(value, "numpy"))


def _array(function: str, name: str, value: Any) -> Any:
    if is_tensor(value):
        return value
    lengths = {len(row) for row in value if isinstance(row, list)}
    if len(lengths) > 1:
        raise ValueError(
            f"{function}: {name} has rows of {min(lengths)} to {max(lengths)} numbers, which form "
            "no array: expected padding=True, and perhaps truncation=True, or return_tensors=None"
        )
    try:
        array = np.array(value)
    except ValueError:
        array = np.array(None)
    if array.size == 0:
        rows = name not in ("length", "overflow_to_sample_mapping")
        shape = (len(value), *([0] if rows else []), *([2] if name == "offset_mapping" else []))
        return np.zeros(shape, np.int64)
    if array.dtype.kind not in "iufb":
        raise ValueError(f"{function}: {name} is {shown(value)}, which forms no array of numbers")
    return array


def _to_tensor(value: Any) -> Any:
    return import_module("torch").as_tensor(value)


def _torch(function: str) -> None:
    try:
        import_module("torch")
    except ImportError as error:
        raise ImportError(
            f'{function}: return_tensors is "pt" and PyTorch cannot be imported ({error}); '
            'pip install torch, or return_tensors="np"'
        ) from error
