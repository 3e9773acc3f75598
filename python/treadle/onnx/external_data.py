"""This module reads tensors from files beside a model, where the model says that they are there.

A model that is not trusted must not read other files of its reader. The file is therefore named by
its plain name, must lie in the model's own folder and be a regular file with one name: a link could
lead anywhere. It is opened below the folder, never by a path, without following links, and what has
been opened is what is checked. Windows opens files by paths only: there, what was opened must be
the file that was looked at before. Bytes are read, not mapped, so that a file that shrinks
meanwhile is an error; all tensors of a file together have at most as many bytes as the file.

Advisories that these rules answer: CVE-2022-25882, CVE-2024-27318, CVE-2026-27489, CVE-2026-34445,
CVE-2026-34446, CVE-2026-34447.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import numpy as np

from treadle._storage.json import short

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle._inputs.types import AnyArray

MOST_FILES = 64
_BELOW = {os.open, os.stat} <= os.supports_dir_fd
_FLAGS = os.O_RDONLY
for _flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):  # those that the system has
    _FLAGS |= getattr(os, _flag, 0)
# In Windows, a colon leads to another drive or to another stream of bytes.
_LEADS_ELSEWHERE = "/\\\0" if _BELOW else "/\\\0:"
_CHUNK = 2**26  # bytes read at a time, so that Ctrl-C is answered


class ExternalData:
    """ExternalData opens files beside a model, until `close`; none where ``folder`` is None."""

    def __init__(self, where: str, folder: str | None) -> None:
        self._where = where
        self._folder_name = folder
        self._folder: int | None = None
        self._open: dict[str, int] = {}
        self._left: dict[str, int] = {}
        self._read: dict[tuple[str, int, int], AnyArray] = {}

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        if self._folder is not None:
            os.close(self._folder)
        self._open, self._folder, self._read = {}, None, {}

    def read(self, place: Mapping[str, str], size: int, what: str) -> AnyArray:
        """Return the ``size`` bytes of a tensor. Raises ValueError, and OSError where the file
        cannot be read.

        ``place`` has the entries of ONNX's external_data: location and perhaps offset and length,
        as texts. Others, such as a checksum, are not looked at.
        """
        location = place.get("location", "")
        offset = self._number(place, "offset", what) or 0
        length = self._number(place, "length", what)
        if length is not None and length != size:
            raise ValueError(
                f"{self._where}: {what} has a length of {length} bytes in another file, expected "
                f"{size}, as its shape and dtype say"
            )
        descriptor = self._opened(location, what)
        total = os.fstat(descriptor).st_size
        if offset + size > total:
            raise ValueError(
                f"{self._where}: {what} has the bytes {offset} to {offset + size} of the file "
                f"{location}, expected at most {total}"
            )
        key = (location, offset, size)
        if key not in self._read:
            self._left[location] -= size
            if self._left[location] < 0:
                raise ValueError(
                    f"{self._where}: {what} lies upon other tensors in the file {location}, "
                    "expected tensors that do not overlap"
                )
            self._read[key] = self._bytes(descriptor, offset, size, location)
        return self._read[key]

    def _number(self, place: Mapping[str, str], key: str, what: str) -> int | None:
        text = place.get(key)
        if text is None or text == "":
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise ValueError(
                f"{self._where}: {what} has the {key} {short(text)}, expected a number of bytes"
            )
        return int(text)

    def _opened(self, name: str, what: str) -> int:
        if name in self._open:
            return self._open[name]
        if self._folder_name is None:
            raise ValueError(
                f"{self._where}: {what} is in another file ({short(name)}), expected a model that "
                "was given by its path"
            )
        if name in ("", ".", "..") or any(c in name for c in _LEADS_ELSEWHERE) or len(name) > 255:
            raise ValueError(
                f"{self._where}: {what} is in the file {short(name)}, expected the plain name of a "
                "file in the model's own folder"
            )
        if len(self._open) >= MOST_FILES:
            raise ValueError(f"{self._where} names more than {MOST_FILES} other files")
        place = name if _BELOW else os.path.join(self._folder_name, name)
        if _BELOW and self._folder is None:
            self._folder = os.open(self._folder_name or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            before = os.stat(place, dir_fd=self._folder, follow_symlinks=False)
            self._check(before, name, what)
            descriptor = os.open(place, _FLAGS, dir_fd=self._folder)
        except FileNotFoundError:
            raise ValueError(
                f"{self._where}: {what} is in the file {name}, which is not in the model's folder"
            ) from None
        self._open[name] = descriptor
        # Another file may have taken the name in the meantime: what was opened is what counts.
        after = os.fstat(descriptor)
        self._check(after, name, what)
        if not _BELOW and after.st_ino != before.st_ino:
            raise ValueError(
                f"{self._where}: {what} is in the file {name}, whose place another file took while "
                "it was opened"
            )
        self._left[name] = after.st_size
        return descriptor

    def _check(self, found: os.stat_result, name: str, what: str) -> None:
        """Raise ValueError for a link, a directory, a pipe, a device and a file of two names."""
        if not stat.S_ISREG(found.st_mode):
            kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no regular file"
        elif found.st_nlink != 1:
            kind = f"a file of {found.st_nlink} names (hard links)"
        else:
            return
        raise ValueError(
            f"{self._where}: {what} is in the file {name}, which is {kind}; expected a regular "
            "file with one name. Where you trust the model, copy both files into a folder"
        )

    def _bytes(self, descriptor: int, offset: int, size: int, name: str) -> AnyArray:
        data = np.empty(size, np.uint8)
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            file.seek(offset)
            done = 0
            while done < size:
                count = file.readinto(data[done : done + _CHUNK].data)
                if not count:
                    raise ValueError(
                        f"{self._where}: the file {name} was cut short while it was read"
                    )
                done += count
        return data
