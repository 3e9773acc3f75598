"""This module draws the lengths of ragged batches, the same ones in every run."""

from __future__ import annotations

import random


def uniform_lengths(batch: int, longest: int) -> tuple[int, ...]:
    """Return lengths that are uniform on [1, longest]; one of them is the longest."""
    rng = random.Random(0)
    return (longest, *(rng.randint(1, longest) for _ in range(batch - 1)))


def log_normal_lengths(batch: int, longest: int) -> tuple[int, ...]:
    """Return lengths as sentences and utterances have them: most are short, a few are long."""
    rng = random.Random(0)
    drawn = [rng.lognormvariate(0.0, 0.8) for _ in range(batch)]
    scale = longest / max(drawn)
    return tuple(max(1, round(scale * value)) for value in drawn)
