"""The attention grid lists every shape that is timed, and why it is there.

The letters are B batch, N heads, S queries, K keys, E head size; Nk heads of keys and values.
"""

from __future__ import annotations

from ...core.models.attention.case import AttentionCase

# Half of 8 x 512 tokens are padding; the longest row is full.
HALF = (512, 32, 416, 96, 384, 128, 320, 160)


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
    """Return every case."""
    return [*_prefill(), *_decode()]


def words(case: AttentionCase) -> str:
    """Name a case in plain words, as the subject of a sentence."""
    rows = f", {case.B} rows at once" if case.B > 1 else ""
    if case.decoding:
        return f"One query against {case.K} keys in {case.N} heads{rows}"
    causal = "Causal attention" if case.causal else "Attention"
    return f"{causal} of {case.S} queries to {case.K} keys in {case.N} heads{rows}"
