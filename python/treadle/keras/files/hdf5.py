"""This module reads arrays and texts from an HDF5 file that is not trusted, without h5py.

It knows the part of the format that Keras writes, in the form that HDF5 writes unless asked for its
latest one. Objects are found by walking down from the root, one hard link after the other: soft and
external links are refused. Every address, length and product of sizes is compared with the file
before memory is taken, and no structure is visited twice, so that a file cannot lead in circles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle.keras.files import hdf5_headers as headers
from treadle.keras.files.hdf5_attributes import attribute
from treadle.keras.files.hdf5_dataset import Dataset, most_unpacked
from treadle.keras.files.hdf5_image import SIGNATURE, Image
from treadle.keras.files.hdf5_links import is_group, links

if TYPE_CHECKING:
    from treadle.keras.files.hdf5_headers import Messages

MOST_PIECES = 1000  # of a list of texts


def is_hdf5(data: bytes) -> bool:
    """Return whether a file with these bytes is one of HDF5."""
    return data.startswith(SIGNATURE)


class File:
    """This is an HDF5 file in memory.

    Raises ValueError, here and in its methods, for what is malformed or refused.
    """

    def __init__(self, data: bytes, where: str) -> None:
        self.where = where
        self._image = Image(data, where)
        self._objects: dict[int, Messages] = {}
        self._groups: dict[int, dict[str, int | None]] = {}
        self._held = self._unpacked = 0

    def has(self, path: str) -> bool:
        """Return whether there is a group or array at a path, which begins at the root."""
        return self._find(path) is not None

    def names(self, path: str) -> list[str]:
        """Return the names in a group, or none where there is no group."""
        address = self._find(path)
        found = {} if address is None else self._links(address, path)
        self._image.step(len(found))
        return list(found)

    def text(self, path: str, name: str) -> str | None:
        """Return an attribute that is a text, or None where there is none."""
        found = self._attribute(path, name, 0)
        return None if found is None else found[0]

    def texts(self, path: str, name: str) -> list[str] | None:
        """Return an attribute that is a list of texts, in one piece or in several (name0, ...)."""
        found = self._attribute(path, name, 1)
        if found is not None:
            return found
        pieces: list[str] = []
        for index in range(MOST_PIECES):
            found = self._attribute(path, f"{name}{index}", 1)
            if found is None:
                return pieces if index else None
            pieces += found
        raise ValueError(f"{self.where}: {path!r} has more than {MOST_PIECES} pieces of {name}")

    def array(self, path: str) -> Dataset:
        """Return an array that can be read. Raises ValueError where there is none.

        All arrays together may have as many bytes as the file: none is read under many names.
        """
        where = f"{self.where}: {path}"
        address = self._find(path)
        if address is None or is_group(self._messages(address, path)):
            raise ValueError(f"{where} is no array, expected one")
        dtype = self.text(path, "dtype")
        dataset = Dataset(self._image, self._messages(address, path), where, dtype)
        self._held += dataset.held
        self._unpacked += dataset.size
        if self._held > self._image.end or self._unpacked > most_unpacked(self._image.end):
            raise ValueError(f"{where}: the arrays have more bytes than the file")
        return dataset

    def _messages(self, address: int, path: str) -> Messages:
        if address not in self._objects:
            self._objects[address] = headers.messages(self._image, address, path or "the root")
        return self._objects[address]

    def _links(self, address: int, path: str) -> dict[str, int | None]:
        if address not in self._groups:
            found = self._messages(address, path)
            self._groups[address] = links(self._image, found, path or "the root")
        return self._groups[address]

    def _find(self, path: str) -> int | None:
        """Follow hard links from the root; None where a name is not there."""
        address = self._image.root
        for part in filter(None, path.split("/")):
            found = self._links(address, path)
            if part not in found:
                return None
            target = found[part]
            if target is None:
                raise ValueError(
                    f"{self.where}: {path} is a link by name (soft or external), expected the "
                    "object itself"
                )
            address = target
        return address

    def _attribute(self, path: str, name: str, rank: int) -> list[str] | None:
        """Return the texts of an attribute, or None where there is none."""
        address = self._find(path)
        if address is None:
            return None
        where = f"{self.where}: attribute {name!r} of {path or 'the root'}"
        return attribute(self._image, self._messages(address, path), name, rank, where)
