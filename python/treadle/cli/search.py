"""`treadle search`: prints the lines of a file that are nearest to a question."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle._inputs.checks import integer
from treadle.cli.lines import add_input, lines

if TYPE_CHECKING:
    import argparse

HELP = "a file's lines that are nearest to a question"


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("model", help="directory of a sentence-transformers model")
    parser.add_argument("query", help="the question")
    add_input(parser)
    parser.add_argument("--top", type=int, default=5, help="how many lines to print (default: 5)")


def run(options: argparse.Namespace) -> int:
    """Search and print a line for each hit: similarity, number, text."""
    found = search(
        options.model,
        options.query,
        options.input,
        top=options.top,
        batch_size=options.batch_size,
    )
    for score, number, line in found:
        print(f"{score:6.3f}  {number:>6}  {line}")
    return 0


def search(
    directory: str, query: str, source: str, *, top: int, batch_size: int
) -> list[tuple[float, int, str]]:
    """Return the ``top`` lines nearest to a question as (similarity, line number from 1, line)."""
    integer("treadle search", "--top", top)
    from treadle.transformers.sentence import SentenceTransformer

    model = SentenceTransformer(directory)
    numbered = enumerate(lines("treadle search", source), 1)
    found = [(number, line) for number, line in numbered if line.strip()]
    vectors = model.encode_document((line for _, line in found), batch_size=batch_size)
    scores = model.similarity(model.encode_query(query), vectors)[0]
    order = np.argsort(-scores, kind="stable")[:top]
    return [(float(scores[i]), *found[i]) for i in order]
