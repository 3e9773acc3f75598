"""This module opens regular files only, and replaces a file as a whole or not at all."""

from __future__ import annotations

import os
import stat
import time
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedIOBase

    from treadle._storage.safetensors import Header

    Path: TypeAlias = str | os.PathLike[str]

_WINDOWS = os.name == "nt"
# Windows would otherwise write two characters for the end of a line.
_BINARY = getattr(os, "O_BINARY", 0)
# Windows does not replace a file that a program has open. Most are done soon, a scanner for viruses
# too, so the file is tried again after so many seconds.
_PAUSES = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)


@contextmanager
def opened(function: str, path: Path) -> Iterator[tuple[BufferedIOBase, Header]]:
    """Open a safetensors file for reading and check its header; a context of both."""
    from treadle._storage.safetensors import read_header

    name = checked_path(function, path)
    check_regular(function, name)
    with open(name, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        yield file, read_header(file, size, f"{function}: {name}")


def check_regular(function: str, path: str) -> None:
    """Raise ValueError for a pipe, a device or a directory. Before opening: a pipe would block."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{function}: {path} is not a regular file, expected one")


def checked_path(function: str, path: Any) -> str:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{function}: path is of type {type(path).__name__}, expected a path")
    return os.fsdecode(path)


@contextmanager
def replaced(path: str) -> Iterator[BinaryIO]:
    """Open a new file, which takes the place of another in one step when it is complete."""
    if os.path.exists(path) and not os.path.isfile(path):  # write into /dev/null or a pipe
        with open(path, "wb") as target:
            buffer = BytesIO()
            yield buffer
            target.write(buffer.getbuffer())
        return
    path = os.path.realpath(path)  # a link stays, and its target is replaced
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".treadle-{os.getpid()}-{os.urandom(6).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
            if os.path.exists(path) and not _WINDOWS:  # where a folder says who may read its files
                os.fchmod(descriptor, stat.S_IMODE(os.stat(path).st_mode))
        _rename(temporary, path)
    except BaseException:  # an interrupt, too, must not leave the temporary file
        os.unlink(temporary)
        raise
    if _WINDOWS:  # It opens no folders, and its file systems keep a journal of names.
        return
    # The folder holds the new name, so it has to be written to the disk, too.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(source: str, target: str) -> None:
    """Let a file take the place of another. Raises PermissionError if Windows never allows it."""
    pauses = iter(_PAUSES if _WINDOWS else ())
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError as error:
            if not _WINDOWS:
                raise
            pause = next(pauses, None)
            if pause is None:
                raise PermissionError(
                    error.errno,
                    "Windows does not let this file be replaced, since a program has it open or it "
                    "may only be read; it is as it was. Close what reads it (a reader of "
                    "safetensors keeps its file open), or save under another name",
                    target,
                ) from error
        time.sleep(pause)
