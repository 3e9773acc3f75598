"""This module measures the targets that are no comparison of one case with the machine or with a
peer.

    python -m treadle.benchmarks.targets      # or, after the cases: treadle bench --targets

Each kind measures its own. A target that compares with peers needs a run with peers.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from .core import registry
from .core.dtypes import DTYPES
from .core.progress import Progress
from .core.registry import KINDS


def run(
    progress: Progress, result: dict[str, Any], names: Sequence[str], dtypes: Sequence[str]
) -> list[dict[str, Any]]:
    """Measure the targets of these kinds in these dtypes, and return them as the JSON has them.

    `result` holds the cases that have been timed before.
    """
    found = []
    for name in names:
        for dtype in dtypes:
            for entry in registry.load(name).measure_targets(result, dtype):
                found.append(dataclasses.asdict(entry))
                progress.show(entry.name)
    progress.clear()
    return found


def main() -> int:
    """Print every target; the status is 1 when one is missed."""
    missed = 0
    for entry in run(Progress(sys.stderr), {"cases": []}, KINDS, DTYPES):
        missed += not entry["passed"]
        print(f"{'ok' if entry['passed'] else 'MISSED':>6}  {entry['name']}: {entry['text']}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
