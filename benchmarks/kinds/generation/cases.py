"""The generation grid translates and continues, with weights of real sizes that are drawn.

The letters are B texts, S tokens of the longest, T new tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...core.dtypes import FLOAT32, suffix
from ...core.lengths import log_normal_lengths

SEQ2SEQ, CAUSAL = "seq2seq", "causal"
NEW_TOKENS = 64


@dataclass(frozen=True)
class GenerationCase:
    """A batch of texts that a model translates (group "seq2seq") or continues ("causal")."""

    group: str
    model: str
    B: int
    S: int
    reason: str
    beams: int = 1
    T: int = NEW_TOKENS
    lengths: tuple[int, ...] = field(default=(), repr=False)
    label: str = ""
    quick: bool = False
    dtype: str = FLOAT32

    kind = "generation"

    @property
    def name(self) -> str:
        """``seq2seq/marian/8x32+64-beams4``."""
        beams = f"-beams{self.beams}" if self.beams > 1 else ""
        label = f"-{self.label}" if self.label else ""
        return f"{self.group}/{self.model}/{self.B}x{self.S}+{self.T}{beams}{label}" + suffix(
            self.dtype
        )

    @property
    def rows(self) -> tuple[int, ...]:
        """The tokens of each text."""
        return self.lengths or (self.S,) * self.B


def grid() -> list[GenerationCase]:
    """Return every case."""
    goal = "a figure of the speed goal"
    ragged = log_normal_lengths(32, 64)
    return [
        GenerationCase(SEQ2SEQ, "marian", 1, 32, goal + ": a sentence", quick=True),
        GenerationCase(SEQ2SEQ, "marian", 1, 32, goal + ": a sentence, as files ask", beams=4),
        GenerationCase(SEQ2SEQ, "marian", 1, 512, "a long text for a translator", beams=4),
        GenerationCase(SEQ2SEQ, "marian", 8, 32, goal + ": a few sentences", beams=4),
        GenerationCase(SEQ2SEQ, "marian", 32, 32, goal + ": a batch"),
        GenerationCase(SEQ2SEQ, "marian", 32, 32, goal + ": a batch with beams", beams=4),
        GenerationCase(
            SEQ2SEQ,
            "marian",
            32,
            64,
            goal + ": sentences of log-normal lengths",
            beams=4,
            lengths=ragged,
            label="lognormal",
        ),
        GenerationCase(SEQ2SEQ, "t5-small", 1, 128, goal + ": a paragraph"),
        GenerationCase(SEQ2SEQ, "t5-small", 8, 128, goal + ": paragraphs with beams", beams=4),
        GenerationCase(SEQ2SEQ, "nllb-600m", 1, 32, goal + ": a sentence, many languages"),
        GenerationCase(CAUSAL, "gpt2", 1, 32, goal + ": a prompt", quick=True),
        GenerationCase(CAUSAL, "gpt2", 1, 32, goal + ": a prompt with beams", beams=4),
        GenerationCase(CAUSAL, "gpt2", 1, 512, goal + ": a long prompt"),
        GenerationCase(CAUSAL, "gpt2", 8, 32, goal + ": some prompts"),
        GenerationCase(CAUSAL, "gpt2", 32, 32, goal + ": many prompts"),
        GenerationCase(CAUSAL, "llama-135m", 1, 32, goal + ": a prompt of a small llama"),
        GenerationCase(CAUSAL, "llama-135m", 8, 32, goal + ": some prompts of a small llama"),
    ]


def low_precision() -> list[GenerationCase]:
    """Return the cases that also run in bfloat16 and int8: a text for most models, two batches."""
    kept = {("marian", 1, 32), ("marian", 32, 32), ("t5-small", 1, 128), ("gpt2", 1, 32)}
    kept |= {("gpt2", 8, 32), ("llama-135m", 1, 32)}
    return [case for case in grid() if case.beams == 1 and (case.model, case.B, case.S) in kept]


def words(case: GenerationCase) -> str:
    """Name a case in plain words, as the subject of a sentence."""
    texts = "a text" if case.B == 1 else f"{case.B} texts"
    length = f"up to {case.S}" if case.lengths else str(case.S)
    work = "Translating" if case.group == SEQ2SEQ else "Continuing"
    beams = f" with {case.beams} beams" if case.beams > 1 else ""
    dtype = "" if case.dtype == FLOAT32 else f" in {case.dtype}"
    return f"{work} {texts} of {length} tokens by {case.T} new ones with {case.model}{beams}{dtype}"
