"""This module opens model files of ONNX."""

from __future__ import annotations

import os
import warnings
from contextlib import closing
from typing import TYPE_CHECKING

from treadle._storage import kinds
from treadle._storage.files import check_regular, checked_path
from treadle.graph.model import Model
from treadle.graph.program import OPERATORS
from treadle.graph.vocabulary import FUSED_ONLY
from treadle.onnx.external_data import ExternalData
from treadle.onnx.importer import Importer
from treadle.onnx.protobuf import Wire
from treadle.onnx.reader import read_model

if TYPE_CHECKING:
    from treadle._storage.files import Path
    from treadle.graph.ir import Graph

_FUNCTION = "treadle.onnx.load"


def load(path: Path) -> Model:
    """Read a model file of ONNX and make it ready to run.

    Opsets 7 to 28 are read, in every form that a file can have: constants in the file or in files
    beside it, functions, branches and loops. No other package is needed. float16 and bfloat16 are
    computed in float32.

    The file is not trusted: what is malformed, too deep or of a kind that treadle has not raises
    ValueError before memory is taken for it, and nothing outside the model's own folder is read.
    Constants in another file must be in a regular file in the same folder, which is no link.

    Raises
    ------
    ValueError
        For a file that is damaged or something else, and for a model that needs what treadle has
        not: the message names all operators that are missing.
    TypeError
        When ``path`` is not a path.
    OSError
        When a file cannot be read.

    Warns
    -----
    UserWarning
        Where the program that wrote the file is known to have written something else than meant:
        GRUs by PyTorch (https://github.com/pytorch/pytorch/issues/189225).

    Examples
    --------
    >>> import treadle.onnx
    >>> treadle.onnx.load("silero_vad.onnx")  # doctest: +SKIP
    treadle.Model(input, state, sr) -> output, stateN
    """
    name = checked_path(_FUNCTION, path)
    check_regular(_FUNCTION, name)
    where = f"{_FUNCTION}: {name}"
    with open(name, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(size)
    if len(data) < size:
        raise ValueError(f"{where} ends after {len(data)} bytes, expected {size}")
    graph, messages = read_graph(data, where, os.path.dirname(name))
    for message in messages:
        warnings.warn(message, UserWarning, stacklevel=2)
    return Model(graph)


def _supported(op: str) -> bool:
    """Say whether the engine has an operator, or what the layout or a fusion makes of it."""
    return op in OPERATORS or f"treadle.{op}" in OPERATORS or op in FUSED_ONLY


def read_graph(data: bytes, where: str, folder: str | None) -> tuple[Graph, list[str]]:
    """Return the graph of a model file's bytes, and what its user should be warned of.

    ``folder`` is where files beside it are, or None where there are none. Raises ValueError.
    """
    try:
        model = read_model(Wire(data, where))
    except ValueError as error:
        kind = kinds.kind(data[: kinds.START])
        if kind is None:
            raise
        if kinds.is_onnx(data[: kinds.START]):
            found = str(error).removeprefix(where).removeprefix(":").strip()
            raise ValueError(f"{where} looks like an ONNX model, but {found}") from error
        raise ValueError(f"{where}, expected a model of ONNX, is {kind}") from error
    with closing(ExternalData(where, folder)) as files:
        importer = Importer(model, where, files, _supported)
        return importer.graph(), importer.warnings[:1]
