"""What a run comes to: geometric mean, worst case, losses and missed bars."""

from __future__ import annotations

import math
from typing import Any

from .dtypes import FLOAT32


def kind_of(case: dict[str, Any]) -> str:
    """The kind of a case in a result; the first results had one kind only."""
    return str(case.get("kind", "recurrent"))


def section_of(entry: dict[str, Any]) -> str:
    """Of a case or a bar: its kind, and its dtype unless that is float32."""
    dtype = entry.get("dtype", FLOAT32)
    return kind_of(entry) if dtype == FLOAT32 else f"{kind_of(entry)}-{dtype}"


def geometric_mean(cases: list[dict[str, Any]]) -> float:
    """Of how many times faster treadle is than the fastest peer."""
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


def by_section(cases: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same for each kind and dtype that was run."""
    names = dict.fromkeys(map(section_of, cases))
    return {name: summary([c for c in cases if section_of(c) == name]) for name in names}
