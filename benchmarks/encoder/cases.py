"""The encoder grid: a real model, all-MiniLM-L6-v2, over batches of tokens and over sentences.

Letters: B batch, S tokens of the longest row.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from ..cases import log_normal_lengths
from ..dtypes import FLOAT32, suffix

QUERIES = 10_000  # sentences of the speed goal
# What is also timed in bfloat16 and int8.
NARROW = ("1x8", "1x32", "1x128", "32x32", "32x128", "32x128-lognormal")


@dataclass(frozen=True)
class EncoderCase:
    """A batch of token ids (group "encoder"), or so many sentences (group "encode")."""

    group: str
    B: int
    S: int
    reason: str
    lengths: tuple[int, ...] = field(default=(), repr=False)
    label: str = ""
    one_call: bool = False  # peers get the batch as a whole, too, and may not go row by row
    bandwidth_bar: bool = False
    quick: bool = False
    dtype: str = FLOAT32

    kind = "encoder"

    @property
    def name(self) -> str:
        """``encoder/minilm/32x128-lognormal/int8`` or ``encode/minilm/10000``."""
        if self.sentences:
            return f"encode/minilm/{self.B}" + suffix(self.dtype)
        label = f"-{self.label}" if self.label else ""
        return f"encoder/minilm/{self.B}x{self.S}{label}{suffix(self.dtype)}"

    @property
    def sentences(self) -> bool:
        """Whether it starts from text; B sentences then."""
        return self.group == "encode"

    @property
    def rows(self) -> tuple[int, ...]:
        """Tokens of each row (of text: see text.py)."""
        return self.lengths or (self.S,) * self.B


def around(batch: int, middle: int, longest: int) -> tuple[int, ...]:
    """Log-normal lengths with that median, the longest row full, as queries to a service are."""
    rng = random.Random(1)
    drawn = [rng.lognormvariate(0.0, 0.6) for _ in range(batch - 1)]
    return (longest, *(min(longest, max(3, round(middle * value))) for value in drawn))


def grid() -> list[EncoderCase]:
    """Every case."""
    goal = "a figure of the speed goal"
    ragged = around(32, 32, 128)
    return [
        EncoderCase("encoder", 1, 8, goal + ": a query", bandwidth_bar=True, quick=True),
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


def narrow() -> list[EncoderCase]:
    """The cases that are also timed in bfloat16 and int8, in float32."""
    names = {f"encoder/minilm/{shape}" for shape in NARROW}
    return [case for case in grid() if case.name in names]
