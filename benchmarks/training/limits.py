"""How fast the machine could train, and the bars.

Forward and backward are three times the products of the forward pass. Of a recurrent net: the forward
pass, the gradients of x and of h (the same weights, the other way round, read as often), and those of
the weights. The first two take what ../limits.py says of a forward pass, each; the third reads no
weights and has all rows at once, so that its FLOPs are its limit. Of attention: two products forward,
four backward. Packing the weights, which change from call to call, gates, softmax, computing its
weights again, and what is saved and read again are not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from .. import limits
from ..attention import limits as attention_limits
from ..limits import Bar
from .cases import AttentionTrainingCase, TrainingCase

SHARE = 0.8

AnyCase = TrainingCase | AttentionTrainingCase


def _forward(case: AnyCase) -> ModuleType:
    """The limits of the forward pass alone."""
    return limits if isinstance(case, TrainingCase) else attention_limits


def flops(case: AnyCase) -> int:
    """Of all products."""
    return 3 * int(_forward(case).flops(case))


def bytes_read(case: AnyCase) -> int:
    """Bytes read on the way there and back."""
    return 2 * int(_forward(case).bytes_read(case))


def buffer_sizes(case: AnyCase) -> list[int]:
    """Sizes whose read bandwidth `limit_seconds` asks for."""
    found: list[int] = _forward(case).buffer_sizes(case)
    return found


def limit_seconds(case: AnyCase, peak: float, bandwidth: Callable[[int], float]) -> float:
    """The limit; `peak` in FLOP/s, `bandwidth(bytes)` in bytes/s."""
    once: float = _forward(case).limit_seconds(case, peak, bandwidth)
    return 2 * once + flops(case) / 3 / peak


def tightest(case: AnyCase, peak: float, bandwidth: Callable[[int], float]) -> int | None:
    """What most of the limit is: reading a buffer of the returned size, or FMA (None)."""
    found: int | None = _forward(case).tightest(case, peak, bandwidth)
    return found


def bar(case: AnyCase, limit: float, peak: float, bandwidth: Callable[[int], float]) -> Bar | None:
    """The project's bar for large batches of recurrent nets; the others are held in bars.py."""
    if isinstance(case, AttentionTrainingCase) or case.lengths or case.B < 32 or case.H < 256:
        return None
    return Bar(f"{SHARE:.0%} of peak", flops(case) / peak / SHARE)
