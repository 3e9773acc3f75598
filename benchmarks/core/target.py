"""This module says what a target is, and what is found when one is measured."""

from __future__ import annotations

from dataclasses import dataclass

from .dtypes import FLOAT32

CALL_ALLOWANCE = 1.5e-6  # seconds that one call from Python may add to a step


@dataclass(frozen=True)
class Target:
    """The time that a case has to reach."""

    name: str
    allowed: float  # seconds


@dataclass(frozen=True)
class Result:
    """A target that was measured: what was found, and what was wanted."""

    name: str
    text: str
    passed: bool
    value: float
    wanted: float
    kind: str = "recurrent"
    dtype: str = FLOAT32
