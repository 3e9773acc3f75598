"""treadle embed and treadle search: vectors of a file's lines, and the lines nearest to a question."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import numpy as np

from treadle._checks import integer
from treadle.files import replaced
from treadle.transformers.sentence import SentenceTransformer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from treadle._arrays import Float


def embed(directory: str, source: str, target: str, *, batch_size: int, normalize: bool) -> Float:
    """Write the vectors of the lines of ``source`` to ``target``, a .npy file [lines, D]."""
    folder = os.path.dirname(os.path.realpath(target))
    if not os.path.isdir(folder):  # now, and not when the work is done
        raise FileNotFoundError(f"treadle embed: there is no directory {folder} for --output")
    if os.path.isdir(target):
        raise IsADirectoryError(
            f"treadle embed: --output is the directory {target}, expected a file"
        )
    if os.path.isfile(source) and os.path.isfile(target) and os.path.samefile(source, target):
        raise ValueError("treadle embed: --output is the input, expected another file")
    model = SentenceTransformer(directory)
    lines = _lines("treadle embed", source)
    vectors = model.encode_document(lines, batch_size=batch_size, normalize_embeddings=normalize)
    with replaced(target) as file:
        np.save(file, vectors)
    return vectors


def search(
    directory: str, query: str, source: str, *, top: int, batch_size: int
) -> list[tuple[float, int, str]]:
    """The ``top`` lines nearest to a question: (similarity, number of the line from 1, line)."""
    integer("treadle search", "--top", top)
    model = SentenceTransformer(directory)
    lines = enumerate(_lines("treadle search", source), 1)
    found = [(number, line) for number, line in lines if line.strip()]
    vectors = model.encode_document((line for _, line in found), batch_size=batch_size)
    scores = model.similarity(model.encode_query(query), vectors)[0]
    order = np.argsort(-scores, kind="stable")[:top]
    return [(float(scores[i]), *found[i]) for i in order]


def _lines(function: str, source: str) -> Iterator[str]:
    """The lines of a file in UTF-8, or of standard input for "-"."""
    if source == "-":
        if sys.stdin is None:  # closed by the shell's <&-
            raise ValueError(f"{function}: there is no standard input, expected one for -")
        yield from _decoded(function, source, sys.stdin.buffer)
    else:
        with open(source, "rb") as file:
            yield from _decoded(function, source, file)


def _decoded(function: str, source: str, file: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{function}: {source}, line {number} is no UTF-8: {error}") from None
