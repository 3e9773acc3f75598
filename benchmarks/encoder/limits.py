"""How fast the machine could run the encoder, and the bars.

Each matrix is read once per call and multiplied with every token: the larger of (bytes / bandwidth of
what holds all the weights) and (FLOPs / FMA peak), matrix by matrix. Attention adds 4 S S H FLOPs per
layer and row. Padding costs nothing, nor do tokenisation, embeddings, norms and GELU.
"""

from __future__ import annotations

from collections.abc import Callable

from ..limits import FLOAT, Bar
from .cases import EncoderCase
from .checkpoint import load
from .text import token_lengths

BANDWIDTH_FACTOR = 1.3


def rows(case: EncoderCase) -> tuple[int, ...]:
    """Tokens of each row."""
    return token_lengths(case.B) if case.sentences else case.rows


def weight_bytes() -> int:
    """Of all matrices but the embeddings."""
    return sum(m.size * FLOAT for layer in load().layers for m in layer.matrices())


def _attention_flops(case: EncoderCase) -> int:
    model = load()
    return 4 * model.hidden * len(model.layers) * sum(n * n for n in rows(case))


def flops(case: EncoderCase) -> int:
    """Of all products."""
    return 2 * weight_bytes() // FLOAT * sum(rows(case)) + _attention_flops(case)


def bytes_read(case: EncoderCase) -> int:
    """Of weights, once."""
    return weight_bytes()


def buffer_sizes(case: EncoderCase) -> list[int]:
    """All the weights, which are read again and again."""
    return [weight_bytes()]


def limit_seconds(case: EncoderCase, peak: float, bandwidth: Callable[[int], float]) -> float:
    """The limit; `peak` in FLOP/s, `bandwidth(bytes)` in bytes/s."""
    multiplying = 2 * sum(rows(case)) / FLOAT / peak  # per byte of weights
    reading = 1 / bandwidth(weight_bytes())
    return weight_bytes() * max(reading, multiplying) + _attention_flops(case) / peak


def tightest(case: EncoderCase, peak: float, bandwidth: Callable[[int], float]) -> int | None:
    """The weights if reading them is most of the limit, None for FMA."""
    reading = weight_bytes() / bandwidth(weight_bytes())
    return weight_bytes() if reading > flops(case) / peak else None


def bar(
    case: EncoderCase, limit: float, peak: float, bandwidth: Callable[[int], float]
) -> Bar | None:
    """A query is held against the time that reading the weights takes."""
    if not case.bandwidth_bar:
        return None
    reading = weight_bytes() / bandwidth(weight_bytes())
    return Bar(f"{BANDWIDTH_FACTOR:g} x reading the weights", BANDWIDTH_FACTOR * reading)
