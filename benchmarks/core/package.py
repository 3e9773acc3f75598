"""This module measures the package itself: the time of its import and its installed size."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

import treadle

from .fresh import printed
from .target import Result

IMPORT_MS = 50.0
INSTALLED_MB = 8.0


def import_time(tries: int = 11) -> Iterator[Result]:
    """Time `import treadle` in a new process that has imported NumPy."""
    code = (
        "import time, numpy; start = time.perf_counter(); import treadle; "
        "print(time.perf_counter() - start)"
    )
    times = [float(printed(code)) for _ in range(tries)]
    value = statistics.median(times) * 1e3
    text = f"{value:.1f} ms beyond NumPy, target {IMPORT_MS:g} ms"
    yield Result("import treadle", text, value < IMPORT_MS, value, IMPORT_MS)


def installed_size() -> Iterator[Result]:
    """Add up every file of the installed package."""
    folder = Path(treadle.__file__).parent
    value = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6
    text = f"{value:.2f} MB, target {INSTALLED_MB:g} MB"
    yield Result("installed size", text, value < INSTALLED_MB, value, INSTALLED_MB)
