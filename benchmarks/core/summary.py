"""This module sums up a run: geometric mean, worst case, losses and missed targets."""

from __future__ import annotations

import math
from typing import Any

from .dtypes import FLOAT32


def kind_of(case: dict[str, Any]) -> str:
    """Return the kind of a case in a result."""
    return str(case.get("kind", "recurrent"))


def section_of(entry: dict[str, Any]) -> str:
    """Return the section of a case or a target: its kind, and its dtype unless that is float32."""
    dtype = entry.get("dtype", FLOAT32)
    return kind_of(entry) if dtype == FLOAT32 else f"{kind_of(entry)}-{dtype}"


def geometric_mean(cases: list[dict[str, Any]]) -> float:
    """Return the geometric mean of how many times faster treadle is than the fastest peer."""
    return math.exp(math.fsum(math.log(case["speedup"]) for case in cases) / len(cases))


def summary(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Return geometric mean, worst case, losses and missed targets over all cases."""
    compared = [case for case in cases if "speedup" in case]
    held = [case for case in cases if "target" in case]
    found: dict[str, Any] = {
        "cases": len(cases),
        "targets": len(held),
        "missed": [case["name"] for case in held if not case["target"]["passed"]],
        "wrong": [case["name"] for case in cases if case["wrong"]],
    }
    if compared:
        worst = min(compared, key=lambda case: case["speedup"])
        found |= {
            "compared": len(compared),
            "geometric_mean": geometric_mean(compared),
            "worst": {"name": worst["name"], "speedup": worst["speedup"]},
            "lost": [case["name"] for case in compared if case["speedup"] < 1],
            "fastest_peers": {
                name: sum(case["fastest_peer"] == name for case in compared)
                for name in sorted({case["fastest_peer"] for case in compared})
            },
        }
    return found


def by_section(cases: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the summary of each kind and dtype that was run."""
    names = dict.fromkeys(map(section_of, cases))
    return {name: summary([c for c in cases if section_of(c) == name]) for name in names}
