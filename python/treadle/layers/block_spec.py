"""The description of one layer of a transformer: all that tells families of decoders apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from treadle._inputs import checks
from treadle.layers.activation import canonical

if TYPE_CHECKING:
    from treadle.layers.activation import Activation

MAX_HEAD_SIZE = 256
# A table of distances is made of this number; real models have 128.
MAX_DISTANCE = 2**16
NORMS = ("layer", "rms")
PLACES = ("before", "after", "both")


@dataclass(frozen=True)
class Rotary:
    """Rotary positions (Su et al., arXiv:2104.09864).

    The first ``2 * len(frequencies)`` numbers of a head of queries and keys are turned by the
    angles ``position * frequencies``. Number i pairs with number ``len(frequencies) + i``, or, with
    ``interleaved``, number 2 i with number 2 i + 1. Cosines and sines are multiplied by ``factor``.
    Linear, llama3 and yarn scaling are other frequencies, and yarn's is another factor, too.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value.

    Examples
    --------
    >>> Rotary((1, 0.5))
    Rotary(frequencies=(1.0, 0.5), factor=1.0, interleaved=False)
    """

    frequencies: tuple[float, ...]
    factor: float = 1.0
    interleaved: bool = False

    def __post_init__(self) -> None:
        name = "Rotary"
        given: object = self.frequencies
        if not isinstance(given, Sequence) or isinstance(given, str | bytes):
            raise TypeError(
                f"{name}: frequencies is {checks.shown(given)}, expected a tuple of numbers"
            )
        if not 1 <= len(given) <= MAX_HEAD_SIZE // 2:
            raise ValueError(
                f"{name}: frequencies has {len(given)} numbers, expected 1 to {MAX_HEAD_SIZE // 2}"
            )
        numbers = tuple(checks.number(name, "frequencies", f) for f in given)
        object.__setattr__(self, "frequencies", numbers)
        object.__setattr__(self, "factor", checks.number(name, "factor", self.factor))
        checks.flag(name, "interleaved", self.interleaved)


@dataclass(frozen=True)
class Relative:
    """T5's relative positions (Raffel et al., arXiv:1910.10683): a score gets a learned number.

    It depends on the head and on the bucket of the distance from query to key. Half of the buckets
    are for one distance each, the others grow with its logarithm up to ``max_distance``. Where keys
    may follow their query (``bidirectional``), each direction has half of all buckets.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value.

    Examples
    --------
    >>> Relative(32, 128)
    Relative(buckets=32, max_distance=128, bidirectional=False)
    """

    buckets: int
    max_distance: int
    bidirectional: bool = False

    def __post_init__(self) -> None:
        name = "Relative"
        checks.flag(name, "bidirectional", self.bidirectional)
        checks.integer(name, "buckets", self.buckets, 4 if self.bidirectional else 2, MAX_DISTANCE)
        if self.bidirectional and self.buckets % 2:
            raise ValueError(f"{name}: buckets is {self.buckets}, expected an even number")
        exact = self.buckets // (4 if self.bidirectional else 2)
        checks.integer(name, "max_distance", self.max_distance, exact + 1, MAX_DISTANCE)


@dataclass(frozen=True)
class BlockSpec:
    """One layer of a transformer: self attention, cross attention if it has it, feed forward.

    Each is a function f that is added to the hidden states x, with norms n where ``norm_place``
    says::

        before   x + f(n(x))
        after    n(x + f(x))
        both     x + n'(f(n(x)))

    and with ``parallel``, which implies "before", both functions see the layer's input:
    ``x + attention(n1(x)) + feed_forward(n2(x))``. Feed forward is ``W_2 act(W_1 x)`` or, gated,
    ``W_2 (act(W_1 x) * (W_3 x))`` with the rows of W_3 behind those of W_1.

    Attributes
    ----------
    hidden
        H
    heads
        N, the heads of queries.
    kv_heads
        The heads of keys and values, a divisor of N.
    head_size
        E
    feed_forward
        F
    norm
        "layer", or "rms": ``x / sqrt(mean(x^2) + eps) * weight``.
    scale
        The factor of scores; 1 / sqrt(E) when None.
    window
        A query sees its token and the ``window - 1`` tokens before it.
    head_norm
        Every head of queries and keys has an rms norm before it is turned.
    softcap
        Scores s become ``softcap * tanh(s / softcap)``.
    causal
        A query sees no token behind its own.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value, or two that do not fit together.

    Examples
    --------
    >>> BlockSpec(64, 4, 4, 16, 256, "gelu").scale is None
    True
    """

    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    feed_forward: int
    activation: Activation
    gated: bool = False
    norm: str = "layer"
    norm_place: str = "before"
    parallel: bool = False
    eps: float = 1e-5
    scale: float | None = None
    rotary: Rotary | None = None
    relative: Relative | None = None
    window: int | None = None
    head_norm: bool = False
    softcap: float | None = None
    cross_attention: bool = False
    causal: bool = True

    def __post_init__(self) -> None:
        name = "BlockSpec"
        # A quarter, so that sums of products of two sizes stay in 64 bits.
        for size in ("hidden", "heads", "kv_heads", "feed_forward"):
            checks.integer(name, size, getattr(self, size), most=2**29)
        checks.integer(name, "head_size", self.head_size, most=MAX_HEAD_SIZE)
        canonical(name, "activation", self.activation)
        for flag in ("gated", "parallel", "head_norm", "cross_attention", "causal"):
            checks.flag(name, flag, getattr(self, flag))
        for choice, among in (("norm", NORMS), ("norm_place", PLACES)):
            if getattr(self, choice) not in among:
                shown = checks.shown(getattr(self, choice))
                raise ValueError(f"{name}: {choice} is {shown}, expected one of {list(among)}")
        checks.number(name, "eps", self.eps, least=0)
        for number, above in (("scale", None), ("softcap", 0.0)):
            if getattr(self, number) is not None:
                checks.number(name, number, getattr(self, number), above=above)
        if self.window is not None:
            checks.integer(name, "window", self.window)
        for part, kind in (("rotary", Rotary), ("relative", Relative)):
            if not isinstance(getattr(self, part), kind | None):
                shown = checks.shown(getattr(self, part))
                raise TypeError(f"{name}: {part} is {shown}, expected a {kind.__name__} or None")
        self._check_together()

    def _check_together(self) -> None:
        """Refuse values that do not fit together."""
        name = "BlockSpec"
        if self.heads % self.kv_heads:
            raise ValueError(
                f"{name}: heads is {self.heads}, expected a multiple of kv_heads, {self.kv_heads}"
            )
        if self.heads * self.head_size > 2**29:
            raise ValueError(f"{name}: heads * head_size is more than 2**29, expected less")
        if self.rotary and 2 * len(self.rotary.frequencies) > self.head_size:
            raise ValueError(
                f"{name}: rotary has {len(self.rotary.frequencies)} frequencies, expected at most "
                f"half of head_size, {self.head_size}"
            )
        if self.parallel and (self.norm_place != "before" or self.cross_attention):
            raise ValueError(
                f"{name}: parallel is True, expected False with norm_place "
                f"{self.norm_place!r} or cross attention"
            )
        if self.relative and self.relative.bidirectional and self.causal:
            raise ValueError(f"{name}: relative is bidirectional, expected causal to be False")
