"""Rotary positions of a config.json: the frequencies by which pairs of numbers turn.

With the base b (rope_theta) and R numbers of a head that turn, the frequency of pair i is

    default  f_i = b^(-2 i / R)                      Su et al. 2021, arXiv:2104.09864
    linear   f_i / factor                            Chen et al. 2023, arXiv:2306.15595
    llama3   f_i / factor where the wave 2 pi / f_i is longer than L / low_freq_factor, f_i where it
             is shorter than L / high_freq_factor, a mixture of both between (Llama Team 2024,
             arXiv:2407.21783; L is original_max_position_embeddings)
    yarn     f_i / factor for waves that turn less than beta_slow times in L, f_i for those that
             turn more than beta_fast times, a mixture between; cos and sin are multiplied by
             attention_factor (Peng et al. 2023, arXiv:2309.00071)

They are computed in float32, as Transformers computes them: large positions turn by many radians,
and the last bits of a frequency matter there.

config.json has them as `rope_parameters`, perhaps one for each kind of layer, or, before version 5
of Transformers, as `rope_theta` and `rope_scaling`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.layers.block_spec import Rotary
from treadle.transformers.entries import Entries

if TYPE_CHECKING:
    from treadle._inputs.types import Float

TYPES = ("default", "linear", "llama3", "yarn")
_MOST = 1e30


def parameters(entries: Entries, kind: str | None = None) -> dict[str, Any]:
    """Return the entries for layers of a kind, such as "full_attention", under their new names."""
    found: dict[str, Any] = {}
    for name in ("rope_parameters", "rope_scaling"):
        value = entries.get(name)
        if value is None:
            continue
        if not isinstance(value, dict):
            raise entries.wrong(name, value, "names with values")
        nested = value.get(kind) if kind is not None else None
        if nested is not None and not isinstance(nested, dict):
            raise entries.wrong(f"{name}[{kind!r}]", nested, "names with values")
        found |= value if nested is None else nested
    given = {k: v for k, v in found.items() if v is not None and not isinstance(v, dict)}
    if "type" in given:
        given.setdefault("rope_type", given["type"])
    return given


def rotary(
    entries: Entries, given: dict[str, Any], head_size: int, defaults: dict[str, Any]
) -> Rotary:
    """Compute the frequencies of a head's numbers from `parameters`.

    ``defaults`` has rope_theta, partial_rotary_factor and original_max_position_embeddings.
    """
    own = Entries(
        f"{entries.where}: rotary positions", given, {}, {"rope_type": "default"} | defaults
    )
    kind = own.choice("rope_type", TYPES)
    share = own.number("partial_rotary_factor", 0, 1)
    size = int(head_size * share)
    # An odd part of a head is rounded up, as Transformers does.
    if size < 1 or size + size % 2 > head_size:
        raise own.wrong("partial_rotary_factor", share, f"pairs of numbers of {head_size}")
    base = own.number("rope_theta", 1, _MOST)
    steps = np.arange(0, size, 2).astype(np.float32) / np.float32(size)
    inverse = np.float32(base) ** steps
    scalings = {"default": _default, "linear": _linear, "llama3": _llama3, "yarn": _yarn}
    frequencies, factor = scalings[kind](own, inverse, base)
    if not np.isfinite(frequencies).all():
        raise own.wrong("rope_theta", base, "frequencies that are finite")
    return Rotary(tuple(map(float, frequencies)), factor)


def _default(own: Entries, inverse: Float, base: float) -> tuple[Float, float]:
    return np.float32(1) / inverse, 1.0


def _linear(own: Entries, inverse: Float, base: float) -> tuple[Float, float]:
    return np.float32(1) / inverse / np.float32(_factor(own)), 1.0


def _llama3(own: Entries, inverse: Float, base: float) -> tuple[Float, float]:
    plain = np.float32(1) / inverse
    factor, length = np.float32(_factor(own)), _length(own)
    low = own.number("low_freq_factor", 1e-6, _MOST)
    high = own.number("high_freq_factor", 1e-6, _MOST)
    if high <= low:
        raise own.wrong("high_freq_factor", high, f"more than low_freq_factor, {low:g}")
    wave = np.float32(2 * math.pi) / plain
    slow = np.where(wave > length / low, plain / factor, plain)
    mixture = (np.float32(length) / wave - np.float32(low)) / np.float32(high - low)
    mixed = (1 - mixture) * slow / factor + mixture * slow
    between = ~(wave < length / high) & ~(wave > length / low)
    return np.where(between, mixed, slow).astype(np.float32), 1.0


def _yarn(own: Entries, inverse: Float, base: float) -> tuple[Float, float]:
    factor, length, half = _factor(own), _length(own), len(inverse)
    bounds = []
    for name, default in (("beta_fast", 32.0), ("beta_slow", 1.0)):
        turns = own.number_or_none(name, 1e-6, _MOST) or default
        place = 2 * half * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(base))
        bounds.append(place)
    first, last = bounds
    if own.get("truncate") is not False:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * half - 1)
    if first == last:
        last += 0.001
    ramp = (np.arange(half, dtype=np.float32) - np.float32(first)) / np.float32(last - first)
    keep = np.float32(1) - np.clip(ramp, np.float32(0), np.float32(1))
    scaled = np.float32(1) / (np.float32(factor) * inverse)
    frequencies = scaled * (1 - keep) + np.float32(1) / inverse * keep
    return frequencies.astype(np.float32), _attention_factor(own, factor)


def _attention_factor(own: Entries, factor: float) -> float:
    given = own.number_or_none("attention_factor", 0, _MOST)
    if given is not None:
        return given
    scales = [own.number_or_none(name, 0, _MOST) for name in ("mscale", "mscale_all_dim")]
    if scales[0] and scales[1]:
        return _magnitude(factor, scales[0]) / _magnitude(factor, scales[1])
    return _magnitude(factor, 1.0)


def _magnitude(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def _factor(own: Entries) -> float:
    return own.number("factor", 1e-6, _MOST)


def _length(own: Entries) -> int:
    return own.size("original_max_position_embeddings")
