"""What a run comes to: geometric mean, worst case, losses and missed bars."""

from __future__ import annotations

import math
from typing import Any


def kind_of(case: dict[str, Any]) -> str:
    """The kind of a case in a result; the first results had one kind only."""
    return str(case.get("kind", "recurrent"))


def geometric_mean(cases: list[dict[str, Any]]) -> float:
    """Of how many times faster weft is than the fastest peer."""
    return math.exp(math.fsum(math.log(case["speedup"]) for case in cases) / len(cases))


def summary(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Geometric mean, worst case, losses and missed bars over all cases."""
    compared = [case for case in cases if "speedup" in case]
    bars = [case for case in cases if "bar" in case]
    found: dict[str, Any] = {
        "cases": len(cases),
        "bars": len(bars),
        "missed": [case["name"] for case in bars if not case["bar"]["passed"]],
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


def by_kind(cases: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same for each kind that was run."""
    names = dict.fromkeys(map(kind_of, cases))
    return {name: summary([case for case in cases if kind_of(case) == name]) for name in names}
