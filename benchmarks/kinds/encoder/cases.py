"""The encoder grid runs a real model, all-MiniLM-L6-v2, over batches of tokens and over sentences.

The letters are B batch, S tokens of the longest row.
"""

from __future__ import annotations

import random

from ...core.dtypes import FLOAT32
from ...core.lengths import log_normal_lengths
from ...core.models.minilm.case import EncoderCase

QUERIES = 10_000  # sentences of the speed goal
PROBE = 64  # sentences that are encoded to be checked
# These shapes are also timed in bfloat16 and int8.
LOW_PRECISION = ("1x8", "1x32", "1x128", "32x32", "32x128", "32x128-lognormal")


def around(batch: int, middle: int, longest: int) -> tuple[int, ...]:
    """Return log-normal lengths with that median, as queries to a service have; one row is full."""
    rng = random.Random(1)
    drawn = [rng.lognormvariate(0.0, 0.6) for _ in range(batch - 1)]
    return (longest, *(min(longest, max(3, round(middle * value))) for value in drawn))


def grid() -> list[EncoderCase]:
    """Return every case."""
    goal = "a figure of the speed goal"
    ragged = around(32, 32, 128)
    return [
        EncoderCase("encoder", 1, 8, goal + ": a query", bandwidth_target=True, quick=True),
        EncoderCase("encoder", 1, 32, goal + ": a sentence", quick=True),
        EncoderCase("encoder", 1, 128, goal + ": a paragraph"),
        EncoderCase("encoder", 8, 16, "a few queries at once", quick=True),
        EncoderCase("encoder", 32, 32, goal + ": sentences of equal length"),
        EncoderCase("encoder", 32, 128, goal + ": paragraphs of equal length"),
        EncoderCase(
            "encoder",
            32,
            128,
            goal + ": log-normal lengths around 32, as one batch",
            lengths=ragged,
            label="lognormal",
            one_call=True,
        ),
        EncoderCase(
            "encoder",
            32,
            128,
            "the same, and peers may run row by row",
            lengths=ragged,
            label="lognormal-rows",
        ),
        EncoderCase(
            "encoder",
            32,
            64,
            "a wider spread, and peers may run row by row",
            lengths=log_normal_lengths(32, 64),
            label="lognormal-rows",
        ),
        EncoderCase("encode", 500, 0, "text to embeddings, a small job", quick=True),
        EncoderCase("encode", QUERIES, 0, goal + ": text to embeddings, tokenisation included"),
    ]


def low_precision() -> list[EncoderCase]:
    """Return the cases that are also timed in bfloat16 and int8, in float32."""
    names = {f"encoder/minilm/{shape}" for shape in LOW_PRECISION}
    return [case for case in grid() if case.name in names]


def words(case: EncoderCase) -> str:
    """Name a case in plain words, as the subject of a sentence."""
    if case.sentences:
        text = f"Making the embeddings of {case.B} sentences with MiniLM"
    elif case.B == 1:
        text = f"MiniLM on a sentence of {case.S} tokens"
    else:
        length = f"up to {case.S}" if case.lengths else str(case.S)
        text = f"MiniLM on {case.B} sentences of {length} tokens"
    return text + (f" in {case.dtype}" if case.dtype != FLOAT32 else "")
