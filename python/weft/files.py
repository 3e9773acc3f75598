"""Saving and loading: safetensors, with the configuration as JSON in the metadata."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from weft.module import LAYERS, Module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedIOBase

    from weft._tensors import Header

    Path: TypeAlias = str | os.PathLike[str]

_FORMAT = "weft/1"


def save(module: Module, path: Path) -> None:
    """Write a module to ``path`` as safetensors, all or nothing.

    The file is written beside its place, flushed to the disk and then renamed: whatever happens,
    ``path`` holds either what it held before or the whole module. Any reader of safetensors can
    read the tensors, which have PyTorch's names; the configuration is in the metadata.

    Raises TypeError when ``module`` is not a weft module, OSError when the file cannot be written.

    >>> import os, tempfile, weft
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     weft.save(weft.LSTM(8, 16, num_layers=2), path)
    ...     weft.load(path)
    LSTM(8, 16, num_layers=2)
    """
    if not isinstance(module, Module):
        raise TypeError(
            f"weft.save: module is of type {type(module).__name__}, expected a weft module"
        )
    from weft import _tensors

    target = _path("weft.save", path)
    data = _tensors.serialize(
        module._packed.parameters,
        _FORMAT,
        {"module": module._name, "configuration": module._configuration},
    )
    replace_file(target, data)


def load(path: Path) -> Module:
    """Read a module that `save` wrote.

    The file is not trusted. It can name no more than the classes of this package, no code in it is
    ever run, and its tensors are compared with its configuration, and both with the size of the
    file, before memory is allocated for them.

    Raises ValueError for a file that is damaged or something else, TypeError when ``path`` is not a
    path, OSError when the file cannot be read.
    """
    from weft import _tensors

    with opened("weft.load", path) as (file, header):
        about = _tensors.read_about(header, _FORMAT, ("module", "configuration"))
        module = _expected(header, about["module"], about["configuration"])
        module._set(_tensors.read_tensors(file, header, module._shapes()))
    return module


@contextmanager
def opened(function: str, path: Path) -> Iterator[tuple[BufferedIOBase, Header]]:
    """A safetensors file open for reading, and its checked header."""
    from weft import _tensors

    name = _path(function, path)
    check_regular(function, name)
    with open(name, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        yield file, _tensors.read_header(file, size, f"{function}: {name}")


def check_regular(function: str, path: str) -> None:
    """Raise ValueError for a pipe, a device or a directory. Before opening: a pipe would block."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{function}: {path} is not a regular file, expected one")


def _expected(header: Header, name: object, configuration: Any) -> Module:
    """The module that a configuration describes, without parameters yet, when the header fits."""
    from weft import _tensors

    where = header.where
    cls = LAYERS.get(name) if isinstance(name, str) else None
    if cls is None:
        raise ValueError(f"{where}: module is {name!r:.100}, expected one of {', '.join(LAYERS)}")
    try:
        module = cls._restore(configuration)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    arrays = module._count()[0]
    if arrays != len(header.tensors):  # before the names are listed: num_layers may be absurd
        raise ValueError(
            f"{where} has {len(header.tensors)} tensors, expected {arrays} for {module!r}"
        )
    _tensors.check_shapes(header, module._shapes())
    return module


def _path(function: str, path: Any) -> str:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{function}: path is of type {type(path).__name__}, expected a path")
    return os.fsdecode(path)


def replace_file(path: str, data: bytes | memoryview) -> None:
    """Put a file in the place of another in one step."""
    if os.path.exists(path) and not os.path.isfile(path):  # /dev/null, a pipe: to be written to
        with open(path, "wb") as file:
            file.write(data)
        return
    path = os.path.realpath(path)  # of a link, replace what it points to
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".weft-{os.getpid()}-{os.urandom(6).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
            if os.path.exists(path):
                os.fchmod(descriptor, stat.S_IMODE(os.stat(path).st_mode))
        os.replace(temporary, path)
    except BaseException:  # an interrupt, too, must not leave the temporary file
        os.unlink(temporary)
        raise
    # The new name is on the disk when the folder is.
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
