"""This module says what a case of the encoder is.

The letters are B batch, S tokens of the longest row.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...dtypes import FLOAT32, suffix

ROWS = "row by row"  # the variant in which a peer runs a batch one row after the other


@dataclass(frozen=True)
class EncoderCase:
    """A batch of token ids (group "encoder"), or B sentences (group "encode")."""

    group: str
    B: int
    S: int
    reason: str
    lengths: tuple[int, ...] = field(default=(), repr=False)
    label: str = ""
    one_call: bool = False  # peers get the batch as a whole, too, and may not go row by row
    bandwidth_target: bool = False
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
        """Tell whether the case starts from text: B sentences, which have to be tokenised."""
        return self.group == "encode"

    @property
    def rows(self) -> tuple[int, ...]:
        """The tokens in each row of ids; `text.token_lengths` counts those of sentences."""
        return self.lengths or (self.S,) * self.B
