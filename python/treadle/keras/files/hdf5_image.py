"""This module reads bytes of an HDF5 file in memory, none of them outside the file.

    superblock   the size of addresses, where the file ends and where its root group lies
    address      8 bytes, from the beginning of the file; all ones mean that there is none

Numbers are little-endian. The format is specified at
https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html.
"""

from __future__ import annotations

SIGNATURE = b"\x89HDF\r\n\x1a\n"
NOWHERE = 2**64 - 1
MOST_STEPS = 2_000_000  # nodes and entries that are read in one file
# Where a superblock has what, by its version: the size of addresses, that of lengths, the base of
# addresses, the end of the file, the root group.
_PLACES = {
    0: (13, 14, 24, 40, 64),
    1: (13, 14, 28, 44, 68),
    2: (9, 10, 12, 28, 36),
    3: (9, 10, 12, 28, 36),
}


class Image:
    """This is a file in memory. All methods raise ValueError for what lies outside of it."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data, self.where = memoryview(data), where
        self.end = len(data)
        self._steps = 0
        if not data.startswith(SIGNATURE) or len(data) < 96:
            raise ValueError(f"{where} has {len(data)} bytes and is no HDF5 file, expected one")
        version = data[8]
        if version not in _PLACES:
            raise ValueError(f"{where} has version {version} of HDF5's superblock, expected 0 to 3")
        address, length, base, end, root = _PLACES[version]
        if (data[address], data[length]) != (8, 8):
            raise ValueError(
                f"{where} has addresses and lengths of {data[address]} and {data[length]} bytes, "
                "expected 8"
            )
        begin, self.end = self.number(base, 8), self.number(end, 8)
        if begin or not 96 <= self.end <= len(data):
            raise ValueError(
                f"{where} has {len(data)} bytes, expected {self.end} from {begin}: it is truncated "
                "or damaged"
            )
        self.root = self.number(root, 8)

    def take(self, at: int, size: int, what: str) -> memoryview:
        """Return ``size`` bytes at an address."""
        if at < 0 or size < 0 or at + size > self.end:
            raise ValueError(
                f"{self.where}: {what} has {size} bytes at {at}, expected them within the file's "
                f"{self.end}"
            )
        return self.data[at : at + size]

    def number(self, at: int, size: int, what: str = "a number") -> int:
        """Return an unsigned integer."""
        return int.from_bytes(self.take(at, size, what), "little")

    def signed(self, at: int, signature: bytes, what: str) -> None:
        """Raise ValueError where a structure does not begin with its signature."""
        found = bytes(self.take(at, len(signature), what))
        if found != signature:
            raise ValueError(
                f"{self.where}: {what} at {at} begins with {found!r}, expected {signature!r}"
            )

    def step(self, count: int = 1) -> None:
        """Count what is read. Raises ValueError where a file leads in circles or is too large."""
        self._steps += count
        if self._steps > MOST_STEPS:
            raise ValueError(f"{self.where} leads to more than {MOST_STEPS} nodes and entries")


class Cursor:
    """This reads numbers one after the other from a piece of a file, and nothing behind it."""

    def __init__(self, data: memoryview, where: str) -> None:
        self.data, self.where, self.at = data, where, 0

    def number(self, size: int) -> int:
        """Return the next unsigned integer."""
        return int.from_bytes(self.take(size), "little")

    def take(self, size: int) -> memoryview:
        """Return the next bytes."""
        if not 0 <= size <= len(self.data) - self.at:
            raise ValueError(
                f"{self.where} needs {size} bytes at {self.at}, but has {len(self.data)}"
            )
        self.at += size
        return self.data[self.at - size : self.at]

    def left(self) -> int:
        """Return how many bytes follow."""
        return len(self.data) - self.at
