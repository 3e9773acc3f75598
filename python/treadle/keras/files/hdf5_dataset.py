"""This module reads one array of an HDF5 file that is not trusted, as float32.

    compact      the array lies in its description
    contiguous   it lies in one piece of the file
    chunked      it lies in equal pieces, which may be compressed: a B-tree says where

An array is never larger than the bytes that the file has for it, and chunks are not unpacked beyond
what they may have. Storage in other files, virtual arrays, and filters other than gzip and shuffle
are refused.
"""

from __future__ import annotations

import math
import zlib
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from treadle.keras.files import hdf5_headers as headers
from treadle.keras.files import hdf5_types as types
from treadle.keras.files.hdf5_image import NOWHERE, Cursor

if TYPE_CHECKING:
    from treadle.keras.files.hdf5_headers import Messages
    from treadle.keras.files.hdf5_image import Image

MOST_BYTES = 1 << 32  # of an array
LARGEST_EXPANSION = 100  # of all arrays together, beyond the next number
SMALLEST_BOMB = 1 << 26  # bytes
_GZIP, _SHUFFLE = 1, 2
_COMPACT, _CONTIGUOUS, _CHUNKED, _VIRTUAL = range(4)
_Chunk = tuple[int, int, int]  # where it lies, how many bytes it has there, filters left out


def most_unpacked(held: int) -> int:
    """Return how many bytes may become of ``held`` bytes of a file."""
    return max(SMALLEST_BOMB, LARGEST_EXPANSION * held)


class Dataset:
    """This is an array in a file, whose description was checked: its ``shape``, and `read`.

    ``dtype`` is what Keras notes beside an array: "bfloat16", or None. ``size`` is how many bytes
    it has, ``held`` how many the file has for it. Raises ValueError, here and in `read`, for what
    is malformed or refused.
    """

    def __init__(self, image: Image, messages: Messages, where: str, dtype: str | None) -> None:
        self._image, self.where = image, where
        self._filters: list[int] = []
        self._layout = -1
        found, shape = None, None
        for kind, data in messages:
            cursor = Cursor(data, where)
            if kind == headers.DATASPACE:
                shape = types.shape(cursor)
            elif kind == headers.DATATYPE:
                found = types.data_type(cursor)
            elif kind == headers.LAYOUT:
                self._read_layout(cursor)
            elif kind == headers.FILTERS:
                self._read_filters(cursor)
            elif kind == headers.EXTERNAL:
                raise ValueError(f"{where} lies in another file, expected it in this one")
        if found is None or found.dtype is None or shape is None or self._layout < 0:
            raise ValueError(f"{where} is no array of numbers, expected one")
        if found.dtype.kind == "V" and dtype != "bfloat16":
            raise ValueError(
                f"{where} has numbers of {found.dtype.itemsize} bytes and no type, expected floats "
                "or integers: the .h5 format has no bfloat16, the .keras format has"
            )
        self.shape, self._dtype = shape, found.dtype
        self.size = math.prod(shape) * found.dtype.itemsize
        if self.size > MOST_BYTES:
            raise ValueError(
                f"{where} has shape {shape} and {self.size} bytes, expected at most {MOST_BYTES}"
            )
        self._chunks = self._find_chunks() if self._layout == _CHUNKED and self.size else {}
        self.held = sum(size for _, size, _ in self._chunks.values()) or self.size

    def _read_layout(self, cursor: Cursor) -> None:
        version, layout = cursor.number(1), cursor.number(1)
        if version not in (3, 4) or (version == 4 and layout == _CHUNKED):
            raise ValueError(
                f"{self.where} has version {version} of layouts, expected the form that Keras "
                "writes: save the file again without libver"
            )
        if layout == _VIRTUAL:
            raise ValueError(f"{self.where} is a virtual array, expected one of its own")
        self._layout = layout
        if layout == _COMPACT:
            self._piece = cursor.take(cursor.number(2))
        elif layout == _CONTIGUOUS:
            self._at, self._held = cursor.number(8), cursor.number(8)
        elif layout == _CHUNKED:
            axes = cursor.number(1)
            self._at = cursor.number(8)
            self._chunk = tuple(cursor.number(4) for _ in range(min(axes, types.MOST_AXES + 1)))
        else:
            raise ValueError(f"{self.where} has layout {layout}, expected 0 to 2")

    def _read_filters(self, cursor: Cursor) -> None:
        version, count = cursor.number(1), cursor.number(1)
        cursor.take(6 if version == 1 else 0)
        for _ in range(count):
            code = cursor.number(2)
            if code not in (_GZIP, _SHUFFLE) or code in self._filters:
                raise ValueError(
                    f"{self.where} has filter {code}, expected gzip and shuffle, each once"
                )
            name = cursor.number(2) if version == 1 else 0
            cursor.take(2)
            values = cursor.number(2)
            cursor.take(name + 4 * values + (4 * (values % 2) if version == 1 else 0))
            self._filters.append(code)
        if self._filters == [_GZIP, _SHUFFLE]:
            raise ValueError(f"{self.where} is shuffled after gzip, expected before")

    def read(self) -> np.ndarray:
        """Return the array in float32. Raises ValueError for numbers that float32 does not have."""
        if not self.size:
            return np.zeros(self.shape, np.float32)
        if self._layout == _CHUNKED:
            found = self._gathered()
        else:
            found = np.frombuffer(self._plain(), self._dtype).reshape(self.shape)
        if self._dtype.kind == "V":
            return (found.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore"):
            result = found.astype(np.float32)
        if not np.array_equal(np.isfinite(found), np.isfinite(result)):
            raise ValueError(f"{self.where} has numbers beyond float32")
        return result

    def _plain(self) -> memoryview:
        """Return the bytes of an array that lies in one piece."""
        held = len(self._piece) if self._layout == _COMPACT else self._held
        if self._filters or held < self.size:
            raise ValueError(f"{self.where} has {held} bytes, expected {self.size} unfiltered")
        if self._layout == _COMPACT:
            return self._piece[: self.size]
        return self._image.take(self._at, self.size, self.where)

    def _find_chunks(self) -> dict[tuple[int, ...], _Chunk]:
        """Return where the chunks of an array lie, by their first element."""
        chunk, rank = self._chunk[:-1], len(self.shape)
        size = math.prod(self._chunk)
        if len(chunk) != rank or self._chunk[-1] != self._dtype.itemsize or not size:
            raise ValueError(f"{self.where} has the shape {self.shape} in chunks of {self._chunk}")
        nodes = [(self._at, self._image.number(self._at + 5, 1, self.where))]
        found: dict[tuple[int, ...], _Chunk] = {}
        seen = {self._at}
        for address, level in nodes:  # which grows meanwhile
            for key, child, stored, left_out in self._children(address, level, rank):
                if child in seen or (not level and key in found):
                    raise ValueError(f"{self.where} leads to its chunk at {child} twice")
                seen.add(child)
                if level:
                    nodes.append((child, level - 1))
                else:
                    found[key] = (child, stored, left_out)
        held = sum(stored for _, stored, _ in found.values())
        most = most_unpacked(min(held, self._image.end))
        grid = math.prod(-(-end // step) for end, step in zip(self.shape, chunk, strict=True))
        if grid != len(found) or max(size, self.size) > most:
            raise ValueError(
                f"{self.where} has {len(found)} chunks of {self._chunk} and {held} bytes for the "
                f"shape {self.shape}, expected {grid} and at most {most} bytes unpacked"
            )
        return found

    def _children(
        self, address: int, level: int, rank: int
    ) -> list[tuple[tuple[int, ...], int, int, int]]:
        """Return the first element, address, size and filters left out of a node's children."""
        image, where = self._image, self.where
        image.signed(address, b"TREE", where)
        kind, own, used = (
            image.number(address + at, size) for at, size in ((4, 1), (5, 1), (6, 2))
        )
        if kind != 1 or own != level or self._at == NOWHERE:
            raise ValueError(
                f"{where} has a node of type {kind} and level {own} at {address}, expected 1 and "
                f"{level}"
            )
        image.step(used + 1)
        width = 8 + 8 * (rank + 1) + 8
        cursor = Cursor(image.take(address + 24, used * width, where), where)
        found = []
        for _ in range(used):
            stored, left_out = cursor.number(4), cursor.number(4)
            key = tuple(cursor.number(8) for _ in range(rank + 1))[:-1]
            found.append((key, cursor.number(8), stored, left_out))
        return found

    def _gathered(self) -> np.ndarray:
        chunk = self._chunk[:-1]
        result = np.empty(self.shape, self._dtype)
        for origin in product(
            *(range(0, end, step) for end, step in zip(self.shape, chunk, strict=True))
        ):
            if origin not in self._chunks:
                raise ValueError(f"{self.where} lacks the chunk at {origin}")
            ends = tuple(
                slice(first, min(first + step, end))
                for first, step, end in zip(origin, chunk, self.shape, strict=True)
            )
            inner = tuple(slice(0, end.stop - end.start) for end in ends)
            result[ends] = self._unpacked(origin, math.prod(self._chunk)).reshape(chunk)[inner]
        return result

    def _unpacked(self, origin: tuple[int, ...], size: int) -> np.ndarray:
        """Return the numbers of a chunk: its filters in the other order."""
        address, stored, left_out = self._chunks[origin]
        raw: bytes | memoryview = self._image.take(address, stored, self.where)
        for index, code in reversed(list(enumerate(self._filters))):
            if left_out >> index & 1:
                continue
            if code == _GZIP:
                try:
                    raw = zlib.decompressobj().decompress(raw, size + 1)
                except zlib.error as error:
                    raise ValueError(
                        f"{self.where}: the chunk at {origin} cannot be unpacked: {error}"
                    ) from None
            elif len(raw) % self._dtype.itemsize == 0:
                raw = np.frombuffer(raw, np.uint8).reshape(self._dtype.itemsize, -1).T.tobytes()
        if len(raw) != size:
            raise ValueError(
                f"{self.where}: the chunk at {origin} has {len(raw)} bytes, expected {size}"
            )
        return np.frombuffer(raw, self._dtype)
