"""This module turns the tensors of a file into arrays.

A tensor has its numbers as raw bytes, as a list of numbers, or in another file. In every case the
product of its sizes is compared with the numbers that are there before memory is taken; arrays of
raw bytes are views of the file where its alignment allows. float16 and bfloat16 become float32,
which holds all of them exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from treadle._storage.json import short
from treadle.graph.vocabulary import COMPUTED_DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle._inputs.types import AnyArray
    from treadle.onnx.external_data import ExternalData
    from treadle.onnx.protobuf import Field, Part, Wire

MOST_DIMENSIONS = 8
STRING = 8
# The codes of dtypes of a file, with NumPy's names; bfloat16 is none of NumPy's.
DTYPES = COMPUTED_DTYPES | {10: "float16", 16: "bfloat16"}
# The codes of dtypes that no operator of treadle takes.
OTHER_DTYPES = {
    0: "undefined",
    STRING: "string",
    14: "complex64",
    15: "complex128",
    17: "float8e4m3fn",
    18: "float8e4m3fnuz",
    19: "float8e5m2",
    20: "float8e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4e2m1",
    24: "float8e8m0",
    25: "uint2",
    26: "int2",
}
# The field that has the numbers of a dtype where they are not raw bytes: its number and name.
_FLOAT, _INT32, _INT64 = (4, "float_data"), (5, "int32_data"), (7, "int64_data")
_DOUBLE, _UINT64 = (10, "double_data"), (11, "uint64_data")
_TYPED = {
    "float32": _FLOAT,
    "float64": _DOUBLE,
    "int64": _INT64,
    "uint64": _UINT64,
    "uint32": _UINT64,
}


def dtype_name(code: int) -> str:
    """Name a dtype of a file, whether treadle has it or not."""
    return DTYPES.get(code) or OTHER_DTYPES.get(code) or f"of the unknown code {code}"


@dataclass(slots=True)
class TensorProto:
    """This is a tensor of a file, whose numbers are still where they lie there.

    ``typed`` has the fields of numbers by their number, ``external`` says where in another file
    the numbers are.
    """

    wire: Wire
    name: str
    dims: list[int]
    dtype: int
    raw: Part | None
    typed: Mapping[int, list[Field]]
    external: Mapping[str, str] | None

    def array(self, files: ExternalData) -> AnyArray:
        """Return the tensor's numbers, float16 and bfloat16 as float32. Raises ValueError."""
        what = f"tensor {short(self.name)}"
        if self.dtype not in DTYPES:
            raise ValueError(
                f"{self.wire.where}: {what} has the dtype {dtype_name(self.dtype)}, expected one "
                f"of {', '.join(DTYPES.values())}"
            )
        name = DTYPES[self.dtype]
        size = self._checked_size(what)
        disk = np.dtype("uint16" if name == "bfloat16" else name).newbyteorder("<")
        if self.external is not None:
            flat = files.read(self.external, size * disk.itemsize, what).view(disk)
        elif self.raw is not None:
            flat = self._raw(disk, size, what)
        else:
            flat = self._numbers(name, what)
            if flat.size != size:
                raise ValueError(
                    f"{self.wire.where}: {what} has {flat.size} numbers, expected {size} for the "
                    f"shape {short(self.dims)}"
                )
        if name == "bool":
            flat = flat.view(np.uint8) != 0  # a bool of another byte than 0 and 1 is undefined
        elif name == "bfloat16":
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        elif name == "float16":
            flat = flat.astype(np.float32)
        if not (flat.flags.aligned and flat.dtype.isnative):
            flat = flat.astype(flat.dtype.newbyteorder("="))
        return flat.reshape(self.dims)

    def _checked_size(self, what: str) -> int:
        """Return the product of the sizes, which even without the zeros NumPy can hold."""
        if len(self.dims) > MOST_DIMENSIONS or any(n < 0 for n in self.dims):
            raise ValueError(
                f"{self.wire.where}: {what} has the shape {short(self.dims)}, expected at most "
                f"{MOST_DIMENSIONS} sizes >= 0"
            )
        size = prod(self.dims)
        if size >= 2**48 or (size == 0 and prod(n for n in self.dims if n) >= 2**48):
            raise ValueError(
                f"{self.wire.where}: {what} has the shape {short(self.dims)}, expected less than "
                "2**48 elements"
            )
        return size

    def _raw(self, disk: np.dtype[np.generic], size: int, what: str) -> AnyArray:
        assert self.raw is not None
        found = self.raw.end - self.raw.begin
        if found != size * disk.itemsize:
            raise ValueError(
                f"{self.wire.where}: {what} has {found} bytes, expected {size * disk.itemsize} for "
                f"the shape {short(self.dims)} and the dtype {dtype_name(self.dtype)}"
            )
        return np.frombuffer(self.wire.data, disk, size, self.raw.begin)

    def _numbers(self, name: str, what: str) -> AnyArray:
        number, label = _TYPED.get(name, _INT32)
        fields = self.typed.get(number, [])
        label = f"{what}: {label}"
        if name == "float32" or name == "float64":
            return self.wire.fixed(fields, "<f4" if name == "float32" else "<f8", label)
        numbers = self.wire.integers(fields, label)
        if name == "uint64":
            return numbers
        if name == "uint32":
            least, most = 0, 2**32 - 1
        else:
            numbers = numbers.view(np.int64)
            if name == "int64":
                return numbers
            bits = {"bool": 1, "float16": 16, "bfloat16": 16}.get(name)
            limits = np.iinfo(np.dtype(name)) if bits is None else None
            least = 0 if limits is None else limits.min
            most = 2 ** (bits or 0) - 1 if limits is None else limits.max
        if numbers.size and not least <= numbers.min() <= numbers.max() <= most:
            raise ValueError(
                f"{self.wire.where}: {label} has numbers outside of [{least}, {most}], expected "
                f"numbers of the dtype {name}"
            )
        if name == "float16" or name == "bfloat16":
            bits16 = numbers.astype(np.uint16)
            return bits16.view(np.float16) if name == "float16" else bits16
        return numbers.astype(np.uint8 if name == "bool" else name)
