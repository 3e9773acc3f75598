"""This module reads groups of HDF5 files: the names in a group and the addresses behind them.

    symbol table   a B-tree of nodes with up to 8 entries, whose names lie in a local heap
    link messages  in the header of the group itself

Only hard links are followed. Groups of another form (fractal heaps) are refused; what Keras writes
has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle.keras.files.hdf5_headers import LINK, LINK_INFO, SYMBOL_TABLE
from treadle.keras.files.hdf5_image import NOWHERE, Cursor

if TYPE_CHECKING:
    from treadle.keras.files.hdf5_headers import Messages
    from treadle.keras.files.hdf5_image import Image

MOST_NAMES = 100_000
LONGEST_NAME = 4096
_NODE, _ENTRY = 24, 40  # bytes before the children of a node, bytes of an entry


def is_group(messages: Messages) -> bool:
    """Return whether messages are those of a group."""
    return any(kind in (SYMBOL_TABLE, LINK_INFO, LINK) for kind, _ in messages)


def links(image: Image, messages: Messages, what: str) -> dict[str, int | None]:
    """Return the names in a group and the address of each, None for links of other sorts."""
    found: dict[str, int | None] = {}
    for kind, data in messages:
        cursor = Cursor(data, f"{image.where}: {what}")
        if kind == LINK:
            _add(found, *_link(cursor), cursor.where)
        elif kind == LINK_INFO:
            _check_info(cursor)
        elif kind == SYMBOL_TABLE:
            _Table(image, what, cursor.number(8), cursor.number(8)).read(found)
    return found


def _add(found: dict[str, int | None], raw: bytes, address: int | None, where: str) -> None:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{where} has the name {raw[:100]!r}, expected UTF-8") from None
    if name in found:
        raise ValueError(f"{where} has the name {name[:100]!r} twice")
    if len(found) >= MOST_NAMES:
        raise ValueError(f"{where} has more than {MOST_NAMES} names")
    found[name] = address


def _link(cursor: Cursor) -> tuple[bytes, int | None]:
    """Return the name and address of a link message."""
    version, flags = cursor.number(1), cursor.number(1)
    if version != 1:
        raise ValueError(f"{cursor.where} has version {version} of links, expected 1")
    kind = cursor.number(1) if flags & 8 else 0
    cursor.take(8 if flags & 4 else 0)
    cursor.take(1 if flags & 16 else 0)
    name = bytes(cursor.take(cursor.number(1 << (flags & 3))))
    return name, (None if kind else cursor.number(8))


def _check_info(cursor: Cursor) -> None:
    """Raise ValueError where the links of a group lie in a fractal heap."""
    _, flags = cursor.number(1), cursor.number(1)
    cursor.take(8 if flags & 1 else 0)
    if cursor.number(8) != NOWHERE:
        raise ValueError(
            f"{cursor.where} has its names in a fractal heap, expected the form that Keras writes: "
            "save the file again without libver"
        )


class _Table:
    """This reads one symbol table."""

    def __init__(self, image: Image, what: str, tree: int, heap: int) -> None:
        self.image, self.what, self.tree = image, what, tree
        image.signed(heap, b"HEAP", f"the names of {what}")
        size, at = image.number(heap + 8, 8), image.number(heap + 24, 8)
        self.names = image.take(at, size, f"the names of {what}")

    def read(self, found: dict[str, int | None]) -> None:
        """Add what the table has."""
        level = self.image.number(self.tree + 5, 1, self.what)
        nodes = [(self.tree, level)]
        seen = {self.tree}
        for address, level in nodes:  # which grows meanwhile
            for child in self._children(address, level):
                if child in seen:
                    raise ValueError(
                        f"{self.image.where}: {self.what} leads to its node at {child} twice"
                    )
                seen.add(child)
                if level:
                    nodes.append((child, level - 1))
                else:
                    self._entries(child, found)

    def _children(self, address: int, level: int) -> list[int]:
        image, what = self.image, self.what
        image.signed(address, b"TREE", what)
        kind, own, used = (
            image.number(address + at, size) for at, size in ((4, 1), (5, 1), (6, 2))
        )
        if kind or own != level:
            raise ValueError(
                f"{image.where}: {what} has a node of type {kind} and level {own} at {address}, "
                f"expected 0 and {level}"
            )
        image.step(used + 1)
        block = image.take(address + _NODE, 16 * used, what)
        return [int.from_bytes(block[16 * i + 8 : 16 * i + 16], "little") for i in range(used)]

    def _entries(self, address: int, found: dict[str, int | None]) -> None:
        image, what = self.image, self.what
        image.signed(address, b"SNOD", what)
        count = image.number(address + 6, 2, what)
        image.step(count + 1)
        block = image.take(address + 8, _ENTRY * count, what)
        for index in range(count):
            cursor = Cursor(block[_ENTRY * index : _ENTRY * (index + 1)], image.where)
            name, target, cached = cursor.number(8), cursor.number(8), cursor.number(4)
            is_soft = cached == 2 or target == NOWHERE
            _add(found, self._name(name), None if is_soft else target, f"{image.where}: {what}")

    def _name(self, at: int) -> bytes:
        raw = bytes(self.names[at : at + LONGEST_NAME + 1])
        end = raw.find(b"\0")
        if end <= 0:
            raise ValueError(
                f"{self.image.where}: {self.what} has a name at {at} of {len(self.names)} bytes, "
                f"expected one of 1 to {LONGEST_NAME} bytes"
            )
        return raw[:end]
