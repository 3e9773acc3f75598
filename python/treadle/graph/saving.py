"""Layers and whole models are saved and loaded by the same two functions.

What whole models need is imported when there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from treadle._public import published
from treadle._storage.files import opened
from treadle.layers import files as layer_files
from treadle.layers.module import Module

if TYPE_CHECKING:
    from treadle._storage.files import Path
    from treadle.graph.model import Model


@published("treadle")
def save(module: Module | Model, path: Path) -> None:
    """Write a layer or a whole model to ``path`` as safetensors, all or nothing.

    The file is written beside its place, flushed to the disk and then renamed: whatever happens,
    ``path`` holds either what it held before or the whole module. Any reader of safetensors can
    read the tensors; those of a layer have PyTorch's names. The configuration, or the graph of a
    model, is in the metadata. The matrices of a layer in bfloat16 are BF16, those of one in int8
    are I8 with their scales in NAME.scale [N, ceil(K / 256)], F32: w[n, k] = scale[n, k // 256] *
    integer[n, k].

    Raises
    ------
    TypeError
        When ``module`` is neither a treadle module nor a `treadle.Model`.
    OSError
        When the file cannot be written. On Windows no file is replaced while a program has it open:
        after a second of tries this is a PermissionError, and the file is as it was.

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
        from treadle.graph.model import Model

        if isinstance(module, Model):
            module.save(path)
            return
    layer_files.save(module, path)


@published("treadle")
def load(path: Path) -> Any:
    """Read a layer or a whole model that `save` wrote.

    The file is not trusted. It can name no more than the classes and the operators of this package,
    no code in it is ever run, and its tensors are compared with its description, and both with the
    size of the file, before memory is allocated for them.

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
        if not layer_files.holds_graph(header):
            return layer_files.read(file, header)
        from treadle.graph import files
        from treadle.graph.model import Model

        graph, about = files.read(file, header)
    try:
        return Model(graph, optimised=True, **about._asdict())
    except (TypeError, ValueError) as error:
        raise ValueError(f"{header.where}: {error}") from error
