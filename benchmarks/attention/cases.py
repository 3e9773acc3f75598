"""The attention grid: every shape that is timed, and why it is there.

Letters: B batch, N heads, S queries, K keys, E head size; Nk heads of keys and values.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..dtypes import FLOAT32

# Half of 8 x 512 tokens are padding; the longest row is full.
HALF = (512, 32, 416, 96, 384, 128, 320, 160)


@dataclass(frozen=True)
class AttentionCase:
    """One shape. `lengths`: tokens of each row, of S and K alike (of K alone when S is 1)."""

    group: str
    B: int
    N: int
    S: int
    K: int
    E: int
    reason: str
    Nk: int = 0  # 0: as many as N
    causal: bool = False
    lengths: tuple[int, ...] = field(default=(), repr=False)
    goal: bool = False  # a shape of the speed goal, with its bar
    quick: bool = False

    kind = "attention"
    dtype = FLOAT32

    @property
    def name(self) -> str:
        """``attention/1x12x512x512x64-causal``: group, B x N x S x K x E, then the rest."""
        text = f"{self.group}/{self.B}x{self.N}x{self.S}x{self.K}x{self.E}"
        if self.kv_heads != self.N:
            text += f"-gqa{self.kv_heads}"
        if self.causal:
            text += "-causal"
        return text + ("-padded" if self.lengths else "")

    @property
    def kv_heads(self) -> int:
        """Heads of k and v."""
        return self.Nk or self.N

    @property
    def decoding(self) -> bool:
        """One query against a cache."""
        return self.S == 1

    @property
    def key_lengths(self) -> tuple[int, ...]:
        """Keys of each row."""
        return self.lengths or (self.K,) * self.B

    @property
    def query_lengths(self) -> tuple[int, ...]:
        """Queries of each row."""
        return (self.S,) * self.B if self.decoding or not self.lengths else self.lengths

    def pairs(self) -> int:
        """(query, key) pairs of one head that take part, over the batch."""
        total = 0
        for queries, keys in zip(self.query_lengths, self.key_lengths, strict=True):
            if self.causal:
                total += sum(min(i + 1, keys) for i in range(queries))
            else:
                total += queries * keys
        return total


def _prefill() -> list[AttentionCase]:
    def case(b: int, n: int, s: int, e: int, reason: str, **more: object) -> AttentionCase:
        k = int(more.pop("K", s))  # type: ignore[call-overload]
        return AttentionCase("attention", b, n, s, k, e, reason, **more)  # type: ignore[arg-type]

    goal = "a figure of the speed goal"
    return [
        case(1, 12, 128, 64, goal + ": BERT-base, one sentence", goal=True, quick=True),
        case(1, 12, 512, 64, goal + ": BERT-base at its longest", goal=True, quick=True),
        case(1, 12, 2048, 64, goal + ": a long document", goal=True),
        case(1, 12, 512, 64, "GPT-2; a causal mask that others do not skip", causal=True),
        case(1, 12, 2048, 64, goal + ": causal", causal=True, goal=True),
        case(1, 12, 8, 32, "MiniLM, a query"),
        case(1, 12, 32, 32, "MiniLM, a sentence", quick=True),
        case(1, 12, 128, 32, "MiniLM, a paragraph", quick=True),
        case(32, 12, 128, 32, "MiniLM, a batch of paragraphs"),
        case(8, 12, 512, 64, "a batch at BERT-base's longest, causal", causal=True),
        case(8, 12, 512, 64, "the same, half of the tokens are padding", lengths=HALF),
        case(8, 12, 512, 64, "padded and causal", lengths=HALF, causal=True),
        case(1, 32, 2048, 128, "a 7B decoder's prompt", causal=True),
        case(1, 32, 512, 128, "an 8B decoder's prompt, 4 heads share keys", Nk=8, causal=True),
        case(1, 32, 512, 128, "grouped heads without a mask", Nk=8),
        case(1, 8, 16, 64, "cross attention to Whisper's 1500 frames", K=1500),
        case(4, 16, 257, 80, "a vision encoder: odd length, E = 80"),
    ]


def _decode() -> list[AttentionCase]:
    def case(b: int, n: int, k: int, e: int, reason: str, **more: object) -> AttentionCase:
        return AttentionCase("decode", b, n, 1, k, e, reason, **more)  # type: ignore[arg-type]

    ragged = (1024, 64, 832, 192, 768, 256, 640, 320)
    return [
        case(1, 32, 4096, 128, "a figure of the speed goal: 134 MB of cache", goal=True),
        case(1, 32, 4096, 128, "the same, 4 heads share keys", Nk=8, goal=True),
        case(1, 12, 512, 64, "GPT-2, cache within L3", quick=True),
        case(1, 32, 512, 128, "an 8B decoder early on", Nk=8, quick=True),
        case(8, 32, 1024, 128, "eight conversations at once", Nk=8, goal=True),
        case(8, 32, 1024, 128, "the same with caches of different length", Nk=8, lengths=ragged),
    ]


def grid() -> list[AttentionCase]:
    """Every case."""
    return [*_prefill(), *_decode()]
