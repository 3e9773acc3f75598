"""This module compares a run with a recorded one, in shares of the machine's limit.

A time says nothing on another machine. The share of the limit that a case reaches holds much
better, since the limit is measured in the same run: from the rate of multiply-adds, from the
bandwidth of the cache that holds the case's weights, from the chain of its steps and from the call.
Against a run that was recorded when limits had the first two only, these are compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ALLOWED = 0.05  # of its recorded share may a case lose before it is said to have fallen


@dataclass(frozen=True)
class Recorded:
    """A recorded run: the share of the limit that each of its cases reached, by name."""

    about: str  # when and on which CPU the run was made
    shares: dict[str, float]
    whole: bool  # whether the limits of the run count the chain of the steps and the call

    def share(self, case: dict[str, Any]) -> float | None:
        """Return the share that a case reaches now of the limit as the recorded run has it."""
        now = case.get("of_limit")
        if self.whole or now is None or "limit_parts_us" not in case:
            return now
        return float(now * case["limit_parts_us"]["work"] / case["limit_us"])

    def share_kept(self, case: dict[str, Any]) -> float | None:
        """Return the share that a case reaches now, in parts of the recorded one.

        None means that one of the two runs has no share for it.
        """
        before, now = self.shares.get(case["name"]), self.share(case)
        return now / before if before and now is not None else None

    def fell(self, case: dict[str, Any]) -> bool:
        """Tell whether a case reaches less of its limit than allowed."""
        kept = self.share_kept(case)
        return kept is not None and kept < 1 - ALLOWED


def read(path: str, threads: int) -> Recorded:
    """Read the file that `--json` wrote in a run with so many threads.

    Raises
    ------
    ValueError
        The file has no such run.
    """
    wanted = "expected a file that treadle bench --json wrote"
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        used, cpu, date = found["threads"], found["machine"]["cpu"], found["date"]
        whole = any("limit_parts_us" in case for case in found["cases"])
        shares = {
            str(case["name"]): float(case["of_limit"])
            for case in found["cases"]
            if "of_limit" in case
        }
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"treadle bench: --against {path}: {error}, {wanted}") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"treadle bench: --against {path}: no recorded run, {wanted}") from None
    if used != threads:
        raise ValueError(
            f"treadle bench: --against {path}: it was recorded with {used} threads, "
            f"expected {threads} as --threads says"
        )
    return Recorded(f"{date}, {cpu}", shares, whole)


def compare(cases: Iterable[dict[str, Any]], recorded: Recorded) -> dict[str, Any]:
    """Return what the JSON says of the comparison: how many cases were compared, and which fell."""
    compared = [case for case in cases if recorded.share_kept(case) is not None]
    return {
        "recorded": recorded.about,
        "allowed": ALLOWED,
        "compared": len(compared),
        "fell": [
            {
                "name": case["name"],
                "recorded": recorded.shares[case["name"]],
                "now": recorded.share(case),
            }
            for case in compared
            if recorded.fell(case)
        ],
    }
