"""This module reads attributes of HDF5 files that are texts: one, or a list.

    version, flags, sizes of name, type and shape, name, type, shape, values

In version 1 the middle parts are filled up to a multiple of 8 bytes. Versions 2 and 3 may share a
type among attributes, which is refused: what Keras writes has its own everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle._storage.json import short
from treadle.keras.files import hdf5_headers as headers
from treadle.keras.files import hdf5_types as types
from treadle.keras.files.hdf5_image import NOWHERE, Cursor

if TYPE_CHECKING:
    from treadle.keras.files.hdf5_headers import Messages
    from treadle.keras.files.hdf5_image import Image


def attribute(
    image: Image, messages: Messages, name: str, rank: int, where: str
) -> list[str] | None:
    """Return the texts of an attribute with ``rank`` axes, or None where there is none."""
    found = None
    image.step(len(messages))
    for kind, data in messages:
        if kind == headers.ATTRIBUTE_INFO:
            _check_info(Cursor(data, where))
        elif kind == headers.ATTRIBUTE:
            cursor = Cursor(data, where)
            named, parts = _parts(cursor)
            if named != name.encode():
                continue
            if found is not None:
                raise ValueError(f"{where} is there twice, expected once")
            found = _texts(image, parts, cursor, rank)
    return found


def _parts(cursor: Cursor) -> tuple[bytes, list[Cursor]]:
    """Return the name of an attribute, its type and its shape; the values follow."""
    version, flags = cursor.number(1), cursor.number(1)
    if version not in (1, 2, 3) or (version > 1 and flags):
        raise ValueError(
            f"{cursor.where}: an attribute has version {version} and flags {flags}, expected 1 to "
            "3 and 0"
        )
    sizes = [cursor.number(2) for _ in range(3)]
    cursor.take(1 if version == 3 else 0)
    parts = []
    for size in sizes:
        parts.append(cursor.take(size))
        cursor.take(-size % 8 if version == 1 else 0)
    name = bytes(parts[0]).partition(b"\0")[0]
    return name, [Cursor(part, cursor.where) for part in parts[1:]]


def _texts(image: Image, parts: list[Cursor], cursor: Cursor, rank: int) -> list[str]:
    where = cursor.where
    shape = types.shape(parts[1])
    if shape == (0,):  # of any type: NumPy has no type for an empty list
        return []
    kind = types.data_type(parts[0])
    if kind.dtype is not None or shape is None or len(shape) != rank:
        raise ValueError(f"{where} is of another type or shape, expected texts of {rank} axes")
    raw = types.texts(image, kind, shape, cursor)
    try:
        return [text.decode("utf-8") for text in raw]
    except UnicodeDecodeError:
        raise ValueError(f"{where} is {short(raw)}, expected UTF-8") from None


def _check_info(cursor: Cursor) -> None:
    """Raise ValueError where attributes lie in a fractal heap."""
    _, flags = cursor.number(1), cursor.number(1)
    cursor.take(2 if flags & 1 else 0)
    if cursor.number(8) != NOWHERE:
        raise ValueError(
            f"{cursor.where}: the attributes lie in a fractal heap, expected the form that Keras "
            "writes: save the file again without libver"
        )
