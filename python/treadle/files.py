"""Saving and loading: safetensors, with the configuration as JSON in the metadata."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from treadle import _formats
from treadle.module import LAYERS, Module

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import BufferedIOBase

    from treadle._formats import Stored
    from treadle._tensors import Header

    Path: TypeAlias = str | os.PathLike[str]

FORMAT = "treadle/1"
ABOUT = ("module", "configuration")


def save(module: Module, path: Path) -> None:
    """Write a module to ``path`` as safetensors, all or nothing.

    The file is written beside its place, flushed to the disk and then renamed: whatever happens,
    ``path`` holds either what it held before or the whole module. Any reader of safetensors can
    read the tensors, which have PyTorch's names; the configuration is in the metadata. The matrices
    of a layer in bfloat16 are BF16, those of one in int8 are I8 with their scales in NAME.scale
    [N, ceil(K / 256)], F32: w[n, k] = scale[n, k // 256] * integer[n, k]. All else is F32.

    Raises TypeError when ``module`` is not a treadle module, OSError when the file cannot be written.

    >>> import os, tempfile, treadle
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     treadle.save(treadle.LSTM(8, 16, num_layers=2), path)
    ...     treadle.load(path)
    LSTM(8, 16, num_layers=2)
    """
    if not isinstance(module, Module):
        raise TypeError(
            f"treadle.save: module is of type {type(module).__name__}, expected a treadle module"
        )
    write(path, "treadle.save", module, module._packed.parameters.items())


def write(
    path: Path, function: str, module: Module, parameters: Iterable[tuple[str, Stored]]
) -> None:
    """Write a module's file from its parameters, one after the other; it need not have them."""
    from treadle import _tensors

    layout = {k: v for arrays in module._layout().values() for k, v in arrays.items()}
    about = {"module": module._name, "configuration": module._configuration}
    arrays = (item for p in parameters for item in _formats.arrays(*p).items())
    with replaced(_path(function, path)) as file:
        _tensors.write(file, layout, FORMAT, about, arrays)


def load(path: Path) -> Module:
    """Read a module that `save` wrote.

    The file is not trusted. It can name no more than the classes of this package, no code in it is
    ever run, and its tensors are compared with its configuration, and both with the size of the
    file, before memory is allocated for them.

    Raises ValueError for a file that is damaged or something else, TypeError when ``path`` is not a
    path, OSError when the file cannot be read.
    """
    with opened("treadle.load", path) as (file, header):
        module = described(header)
        module._set(dict(read_parameters(file, header, module)))
    return module


def read_parameters(
    file: BufferedIOBase, header: Header, module: Module
) -> Iterator[tuple[str, Stored]]:
    """The parameters of a module that the header has been compared with. ValueError for scales that
    are none.
    """
    from treadle import _core, _tensors

    for name, arrays in module._layout().items():
        value = _formats.joined([_tensors.read(file, header, part) for part in arrays])
        if isinstance(value, _formats.Int8):
            _core.check_weight(header.where, name, value, "int8")
        yield name, value


@contextmanager
def opened(function: str, path: Path) -> Iterator[tuple[BufferedIOBase, Header]]:
    """A safetensors file open for reading, and its checked header."""
    from treadle import _tensors

    name = _path(function, path)
    check_regular(function, name)
    with open(name, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        yield file, _tensors.read_header(file, size, f"{function}: {name}")


def check_regular(function: str, path: str) -> None:
    """Raise ValueError for a pipe, a device or a directory. Before opening: a pipe would block."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{function}: {path} is not a regular file, expected one")


def described(header: Header) -> Module:
    """The module that a file of ours describes, without parameters yet, when its tensors fit."""
    from treadle import _tensors

    about = _tensors.read_about(header, FORMAT, ABOUT)
    where, name, configuration = header.where, about["module"], about["configuration"]
    cls = LAYERS.get(name) if isinstance(name, str) else None
    if cls is None:
        raise ValueError(f"{where}: module is {name!r:.100}, expected one of {', '.join(LAYERS)}")
    try:
        module = cls._restore(configuration)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    count = module._count()[0]
    # Before the names are listed: num_layers may be absurd. Scales may come on top.
    if not count <= len(header.tensors) <= 2 * count:
        raise ValueError(
            f"{where} has {len(header.tensors)} tensors, expected {count} for {module!r}"
        )
    layout = {k: v for arrays in module._layout().values() for k, v in arrays.items()}
    _tensors.check_tensors(header, layout)
    return module


def _path(function: str, path: Any) -> str:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{function}: path is of type {type(path).__name__}, expected a path")
    return os.fsdecode(path)


@contextmanager
def replaced(path: str) -> Iterator[BinaryIO]:
    """A file to be written, which then takes the place of another in one step."""
    if os.path.exists(path) and not os.path.isfile(path):  # /dev/null, a pipe: to be written to
        with open(path, "wb") as target:
            buffer = BytesIO()
            yield buffer
            target.write(buffer.getbuffer())
        return
    path = os.path.realpath(path)  # of a link, replace what it points to
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".treadle-{os.getpid()}-{os.urandom(6).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with open(descriptor, "wb") as file:
            yield file
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
