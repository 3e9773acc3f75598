"""Layers are saved as safetensors, with their configuration as JSON in the metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle._storage import formats
from treadle._storage.files import checked_path, opened, replaced
from treadle.layers import build
from treadle.layers.module import LAYERS, Module

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import BufferedIOBase

    from treadle._storage.files import Path
    from treadle._storage.formats import Stored
    from treadle._storage.safetensors import Header


FORMAT = "treadle/1"
ABOUT = ("module", "configuration")


def save(module: Module, path: Path) -> None:
    """Write a module to ``path`` as safetensors, all or nothing.

    The file is written beside its place, flushed to the disk and then renamed: whatever happens,
    ``path`` holds either what it held before or the whole module. Any reader of safetensors can
    read the tensors, which have PyTorch's names; the configuration is in the metadata. The matrices
    of a layer in bfloat16 are BF16, those of one in int8 are I8 with their scales in NAME.scale
    [N, ceil(K / 256)], F32: w[n, k] = scale[n, k // 256] * integer[n, k]. All else is F32.

    Raises
    ------
    TypeError
        When ``module`` is not a treadle module.
    OSError
        When the file cannot be written.

    Examples
    --------
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
    write(path, "treadle.save", module, build.parameters(module).items())


def write(
    path: Path, function: str, module: Module, parameters: Iterable[tuple[str, Stored]]
) -> None:
    """Write a module's file from an iterator of its parameters, which it need not hold itself."""
    from treadle._storage import safetensors

    layout = {k: v for arrays in build.layout(module).values() for k, v in arrays.items()}
    about = {"module": module._name, "configuration": build.configuration(module)}
    arrays = (item for p in parameters for item in formats.arrays(*p).items())
    with replaced(checked_path(function, path)) as file:
        safetensors.write(file, layout, FORMAT, about, arrays)


def load(path: Path) -> Module:
    """Read a module that `save` wrote.

    The file is not trusted. It can name no more than the classes of this package, no code in it is
    ever run, and its tensors are compared with its configuration, and both with the size of the
    file, before memory is allocated for them.

    Raises
    ------
    ValueError
        For a file that is damaged or something else.
    TypeError
        When ``path`` is not a path.
    OSError
        When the file cannot be read.
    """
    with opened("treadle.load", path) as (file, header):
        module = described(header)
        build.fill(module, dict(read_parameters(file, header, module)))
    return module


def read_parameters(
    file: BufferedIOBase, header: Header, module: Module
) -> Iterator[tuple[str, Stored]]:
    """Yield the parameters of a module that the header has been compared with. Raises ValueError
    for wrong scales.
    """
    from treadle import _core
    from treadle._storage import safetensors

    for name, arrays in build.layout(module).items():
        value = formats.joined([safetensors.read(file, header, part) for part in arrays])
        if isinstance(value, formats.Int8):
            product = value if len(value.shape) == 2 else formats.matrix(value)
            _core.check_weight(header.where, name, product, "int8")
        yield name, value


def described(header: Header) -> Module:
    """Return the module that a file describes, still without parameters, if its tensors fit."""
    from treadle._storage import safetensors

    if "treadle" not in header.metadata:
        raise ValueError(f"{header.where} {_plain(header)}")
    about = safetensors.read_about(header, FORMAT, ABOUT)
    where, name = header.where, about["module"]
    cls = LAYERS.get(name) if isinstance(name, str) else None
    if cls is None:
        raise ValueError(f"{where}: module is {name!r:.100}, expected one of {', '.join(LAYERS)}")
    try:
        module = build.blueprint(cls, about["configuration"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    count = build.count(module).arrays
    # The count is compared before the names are listed, since num_layers may be absurd. Every array
    # may have another one for its scales.
    if not count <= len(header.tensors) <= 2 * count:
        raise ValueError(
            f"{where} has {len(header.tensors)} tensors, expected {count} for {module!r}"
        )
    layout = {k: v for arrays in build.layout(module).values() for k, v in arrays.items()}
    safetensors.check_tensors(header, layout)
    return module


def _plain(header: Header) -> str:
    """Say what a file of tensors is that no configuration comes with, and what reads it."""
    names = header.tensors
    if any(name.endswith(("weight_hh_l0", "weight_hh")) for name in names):
        return (
            "is a plain state dict, which says nothing of the layer it belongs to: "
            "`treadle convert SOURCE TARGET` makes a model of its recurrent layer"
        )
    if any("embeddings." in name or ".layer." in name for name in names):
        return (
            "has the tensors of a transformer and no configuration of treadle: give its directory "
            "to treadle.transformers.AutoModel.from_pretrained"
        )
    return (
        "is a plain state dict, which says nothing of the layer it belongs to: make that layer and "
        "give load_state_dict what safetensors.numpy.load_file reads"
    )
