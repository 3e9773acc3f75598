"""This module joins the labels of tokens to words and to entities, as Transformers does.

A label is B-TAG, I-TAG or TAG; a token with the label B-TAG begins an entity, and one with I-TAG or
TAG continues the entity before it if that has the same tag.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from treadle._inputs.types import Float

STRATEGIES = ("none", "simple", "first", "average", "max")
# These let the tokens of a word agree on one label.
OF_WORDS = ("first", "average", "max")

Entity = dict[str, Any]


class Piece(NamedTuple):
    """A token that is no special one: its text, its scores, and its place in row and sentence."""

    word: str
    scores: Float
    start: int
    end: int
    place: int
    continues: bool
    """True if it goes on with the word of the token before it."""


def tokens(pieces: Sequence[Piece], labels: dict[int, str]) -> list[Entity]:
    """Return each token with its best label."""
    return [
        {
            "entity": labels[best],
            "score": piece.scores[best],
            "index": piece.place,
            "word": piece.word,
            "start": piece.start,
            "end": piece.end,
        }
        for piece in pieces
        for best in [int(piece.scores.argmax())]
    ]


def words(
    pieces: Sequence[Piece], labels: dict[int, str], strategy: str, text: Callable[[Any], str]
) -> list[Entity]:
    """Return each word with one label; ``text`` makes a text of tokens."""
    found = []
    for word in _split(pieces):
        scores = _word_scores(word, strategy)
        best = int(scores.argmax())
        found.append(
            {
                "entity": labels[best],
                "score": scores[best],
                "word": text([piece.word for piece in word]),
                "start": word[0].start,
                "end": word[-1].end,
            }
        )
    return found


def groups(entities: Sequence[Entity], text: Callable[[Any], str]) -> list[Entity]:
    """Join neighbours that have the same tag, but for one that begins an entity of its own."""
    runs: list[list[Entity]] = []
    for entity in entities:
        begins, tag = _tag(entity["entity"])
        if runs and not begins and tag == _tag(runs[-1][-1]["entity"])[1]:
            runs[-1].append(entity)
        else:
            runs.append([entity])
    return [
        {
            "entity_group": run[0]["entity"].split("-", 1)[-1],
            "score": np.mean([entity["score"] for entity in run]),
            "word": text([entity["word"] for entity in run]),
            "start": run[0]["start"],
            "end": run[-1]["end"],
        }
        for run in runs
    ]


def without_overlaps(entities: Sequence[Entity]) -> list[Entity]:
    """Keep the longest of those that overlap, as rows of one text do; the better of equal ones."""
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda entity: entity["start"]):
        if kept and kept[-1]["start"] <= entity["start"] < kept[-1]["end"]:
            if _weight(entity) > _weight(kept[-1]):
                kept[-1] = entity
        else:
            kept.append(entity)
    return kept


def _split(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Yield the tokens of each word."""
    number = 0

    def word_of(piece: Piece) -> int:
        nonlocal number
        number += not piece.continues
        return number

    for _, word in groupby(pieces, word_of):
        yield list(word)


def _word_scores(word: list[Piece], strategy: str) -> Float:
    if strategy == "first":
        return word[0].scores
    if strategy == "max":
        return max(word, key=lambda piece: float(piece.scores.max())).scores
    scores: Float = np.mean([piece.scores for piece in word], axis=0)
    return scores


def _tag(label: str) -> tuple[bool, str]:
    """Tell whether a label begins an entity, and name its tag."""
    return label.startswith("B-"), label[2:] if label.startswith(("B-", "I-")) else label


def _weight(entity: Entity) -> tuple[int, float]:
    return entity["end"] - entity["start"], float(entity["score"])
