"""This module reads object headers of HDF5 files: the messages that describe a group or an array.

    version 1   a prefix of 16 bytes, then messages with 8 bytes before each
    version 2   "OHDR", flags, then messages with 4 or 6 bytes before each, then a checksum

A message of type 16 says where further messages lie. Messages that are shared among objects are
refused: what Keras writes has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from treadle.keras.files.hdf5_image import Cursor

if TYPE_CHECKING:
    from treadle.keras.files.hdf5_image import Image

Messages: TypeAlias = "list[tuple[int, memoryview]]"

DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL = 1, 2, 3, 6, 7
LAYOUT, FILTERS, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE, ATTRIBUTE_INFO = 8, 11, 12, 16, 17, 21
MOST_BLOCKS = 1000
MOST_MESSAGES = 100_000
_READ = {
    *(DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL, LAYOUT, FILTERS, ATTRIBUTE, CONTINUATION),
    *(SYMBOL_TABLE, ATTRIBUTE_INFO),
}


def messages(image: Image, address: int, what: str) -> Messages:
    """Return the messages of an object, with their types. Raises ValueError."""
    if bytes(image.take(address, 4, what)) == b"OHDR":
        return _Header(image, what, version=2).read(*_second(image, address, what))
    if image.number(address, 1) != 1:
        raise ValueError(
            f"{image.where}: {what} at {address} has version {image.number(address, 1)} of object "
            "headers, expected 1 or 2"
        )
    size = image.number(address + 8, 4, what)
    return _Header(image, what, version=1).read(image.take(address + 16, size, what), 0)


def _second(image: Image, address: int, what: str) -> tuple[memoryview, int]:
    """Return the first block of a header of version 2 and its flags."""
    version, flags = image.number(address + 4, 1, what), image.number(address + 5, 1, what)
    if version != 2:
        raise ValueError(f"{image.where}: {what} at {address} has version {version}, expected 2")
    at = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    size = image.number(at, width, what)
    return image.take(at + width, size, what), flags


class _Header:
    """This collects the messages of one object."""

    def __init__(self, image: Image, what: str, version: int) -> None:
        self.image, self.version = image, version
        self.what = what
        self.found: Messages = []
        self.blocks: list[memoryview] = []
        self.seen: set[int] = set()

    def read(self, first: memoryview, flags: int) -> Messages:
        self.blocks.append(first)
        for block in self.blocks:  # which grows meanwhile
            self._block(Cursor(block, f"{self.image.where}: {self.what}"), flags)
        return self.found

    def _block(self, cursor: Cursor, flags: int) -> None:
        before = 8 if self.version == 1 else 6 if flags & 4 else 4
        while cursor.left() >= before:
            self.image.step()
            kind = cursor.number(2 if self.version == 1 else 1)
            size, own = cursor.number(2), cursor.number(1)
            cursor.take(before - (5 if self.version == 1 else 4))
            data = cursor.take(size)
            if kind not in _READ:
                continue
            if own & 2:
                raise ValueError(
                    f"{self.image.where}: {self.what} shares message {kind}, expected its own"
                )
            if kind == CONTINUATION:
                self._continue(Cursor(data, cursor.where))
            else:
                self.found.append((kind, data))
            if len(self.found) > MOST_MESSAGES:
                raise ValueError(f"{cursor.where} has more than {MOST_MESSAGES} messages")

    def _continue(self, cursor: Cursor) -> None:
        address, size = cursor.number(8), cursor.number(8)
        if address in self.seen or len(self.seen) > MOST_BLOCKS:
            raise ValueError(f"{cursor.where} continues at {address} twice, or too often")
        self.seen.add(address)
        if self.version == 2:
            self.image.signed(address, b"OCHK", self.what)
            address, size = address + 4, size - 8
        self.blocks.append(self.image.take(address, size, self.what))
