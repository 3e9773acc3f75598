"""This module reads what HDF5 files say of the numbers and texts in them: shapes and types.

Types are plain integers, IEEE floats, texts of a fixed or of any length, and the two opaque bytes
in which Keras stores bfloat16. All others (references to other objects among them) are refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from treadle.keras.files.hdf5_image import Cursor, Image

MOST_AXES = 8
MOST_TEXT = 1 << 24  # bytes of the texts in an attribute
MOST_TEXTS = 100_000
_NAMES = {  # of classes of types
    2: "a time",
    4: "a bit field",
    6: "a compound",
    7: "a reference to another object",
    8: "an enumeration",
    9: "a list of any length",
    10: "an array",
    11: "a complex number",
}
# Floats of IEEE 754 by their size: the exponent's place and size, the mantissa's size, the bias.
_FLOATS = {2: (10, 5, 10, 15), 4: (23, 8, 23, 127), 8: (52, 11, 52, 1023)}
_ANY_LENGTH = 16  # bytes that stand for a text of any length: its length, where it lies, which


@dataclass(frozen=True, slots=True)
class Type:
    """This is a type: ``dtype`` for numbers, else ``size`` bytes of text; 0 for any length."""

    dtype: np.dtype[Any] | None
    size: int = 0


def shape(cursor: Cursor) -> tuple[int, ...] | None:
    """Read a dataspace: a shape, or None for no values at all."""
    version, rank, flags = (cursor.number(1) for _ in range(3))
    if version == 1:
        cursor.take(5)
        empty = False
    elif version == 2:
        empty = cursor.number(1) == 2
    else:
        raise ValueError(f"{cursor.where} has version {version} of shapes, expected 1 or 2")
    if rank > MOST_AXES or flags & 2:
        raise ValueError(f"{cursor.where} has {rank} axes, expected at most {MOST_AXES} in order")
    found = tuple(cursor.number(8) for _ in range(rank))
    return None if empty else found


def data_type(cursor: Cursor) -> Type:
    """Read a type. Raises ValueError for one that is not among those above."""
    first, bits, size = cursor.number(1), cursor.number(3), cursor.number(4)
    kind = first & 15
    order = ">" if bits & 1 else "<"
    if kind == 0:
        if size in (1, 2, 4, 8) and (cursor.number(2), cursor.number(2)) == (0, 8 * size):
            return Type(np.dtype(f"{order}{'i' if bits & 8 else 'u'}{size}"))
    elif kind == 1:
        offset, precision = cursor.number(2), cursor.number(2)
        exponent, wide, mantissa, long = (cursor.number(1) for _ in range(4))
        found = (exponent, wide, long, cursor.number(4))
        plain = (offset, precision, mantissa, bits >> 8 & 255) == (0, 8 * size, 0, 8 * size - 1)
        if plain and not bits & 0x40 and bits & 0x30 == 0x20 and _FLOATS.get(size) == found:
            return Type(np.dtype(f"{order}f{size}"))
    elif kind == 3 and 0 < size <= MOST_TEXT:
        return Type(None, size)
    elif kind == 5 and size == 2:
        return Type(np.dtype("V2"))
    elif kind == 9 and bits & 15 == 1 and size == _ANY_LENGTH:
        return Type(None)
    what = _NAMES.get(kind, f"a type of class {kind}")
    raise ValueError(
        f"{cursor.where} is {what} of {size} bytes, expected float16, float32, float64, bfloat16, "
        "integers or texts"
    )


def texts(image: Image, kind: Type, sizes: tuple[int, ...], cursor: Cursor) -> list[bytes]:
    """Read the texts of an attribute, all of which may have `MOST_TEXT` bytes."""
    count = math.prod(sizes)
    width = kind.size or _ANY_LENGTH
    if count > MOST_TEXTS or count * width > cursor.left():
        raise ValueError(f"{cursor.where} has {count} texts in {cursor.left()} bytes")
    image.step(count)
    if kind.size:
        return [bytes(cursor.take(width)).rstrip(b"\0") for _ in range(count)]
    heaps: dict[int, dict[int, memoryview]] = {}
    found, total = [], 0
    for _ in range(count):
        length, address, index = cursor.number(4), cursor.number(8), cursor.number(4)
        if length and address not in heaps:
            heaps[address] = _heap(image, address, cursor.where)
        value = heaps[address].get(index, memoryview(b"")) if length else memoryview(b"")
        total += length
        if length > len(value):
            raise ValueError(
                f"{cursor.where} has a text of {length} bytes in {len(value)} of the heap"
            )
        if total > MOST_TEXT:
            raise ValueError(f"{cursor.where} has more than {MOST_TEXT} bytes of texts")
        image.step(length >> 6)
        found.append(bytes(value[:length]))
    return found


def _heap(image: Image, address: int, where: str) -> dict[int, memoryview]:
    """Return the objects of a collection of the global heap by their number."""
    image.signed(address, b"GCOL", where)
    size = image.number(address + 8, 8, where)
    block = image.take(address, size, where)
    found: dict[int, memoryview] = {}
    at = 16
    while at + 16 <= len(block):
        image.step()
        index = int.from_bytes(block[at : at + 2], "little")
        length = int.from_bytes(block[at + 8 : at + 16], "little")
        if not index:
            break
        if at + 16 + length > len(block) or index in found:
            raise ValueError(f"{where}: object {index} of the heap at {address} is malformed")
        found[index] = block[at + 16 : at + 16 + length]
        at += 16 + (length + 7 & ~7)
    return found
