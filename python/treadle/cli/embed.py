"""`treadle embed`: writes the vectors of a file's lines."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from treadle._storage.files import replaced
from treadle.cli.lines import add_input, lines

if TYPE_CHECKING:
    import argparse

    from treadle._inputs.types import Float

HELP = "the vectors of a file's lines"


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("model", help="directory of a sentence-transformers model")
    add_input(parser)
    parser.add_argument("--output", required=True, help="the .npy file to write, [lines, D]")
    parser.add_argument("--normalize", action="store_true", help="scale every vector to length 1")


def run(options: argparse.Namespace) -> int:
    """Embed the lines and print how many vectors there are."""
    rows, size = embed(
        options.model,
        options.input,
        options.output,
        batch_size=options.batch_size,
        normalize=options.normalize,
    ).shape
    print(f"{options.output}: {rows:,} vectors of {size} numbers")
    return 0


def embed(directory: str, source: str, target: str, *, batch_size: int, normalize: bool) -> Float:
    """Write the vectors of the lines of ``source`` to ``target``, a .npy file [lines, D]."""
    folder = os.path.dirname(os.path.realpath(target))
    if not os.path.isdir(folder):  # fail now, and not when the work is done
        raise FileNotFoundError(f"treadle embed: there is no directory {folder} for --output")
    if os.path.isdir(target):
        raise IsADirectoryError(
            f"treadle embed: --output is the directory {target}, expected a file"
        )
    if os.path.isfile(source) and os.path.isfile(target) and os.path.samefile(source, target):
        raise ValueError("treadle embed: --output is the input, expected another file")
    from treadle.transformers.sentence import SentenceTransformer

    model = SentenceTransformer(directory)
    texts = lines("treadle embed", source)
    vectors: Float = model.encode_document(
        texts, batch_size=batch_size, normalize_embeddings=normalize
    )
    with replaced(target) as file:
        np.save(file, vectors)
    return vectors
