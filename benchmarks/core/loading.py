"""This module measures what `from_pretrained` of a class of treadle.transformers costs."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

from .fresh import printed

# A new process prints the seconds of from_pretrained, the bytes of memory that it added at its
# peak, and the seconds of reading the file of the weights, which is read once before.
LOADING = """
import sys, time
import numpy
import treadle.transformers
kind = getattr(treadle.transformers, sys.argv[1])

def resident(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

def read():
    start = time.perf_counter()
    with open(sys.argv[2] + "/model.safetensors", "rb", buffering=0) as file:
        while file.readinto(block):
            pass
    return time.perf_counter() - start

block = bytearray(1 << 20)
read()
reading = read()
with open("/proc/self/clear_refs", "w") as peak:
    peak.write("5")
before = resident("VmRSS:")
start = time.perf_counter()
model = kind.from_pretrained(sys.argv[2], dtype=sys.argv[3])
print(time.perf_counter() - start, resident("VmHWM:") - before, reading)
"""


@dataclass(frozen=True)
class Loaded:
    """The medians of several loads, each in a new process, with the file in the system's cache."""

    seconds: float
    memory: float  # bytes that the process had more at its peak
    reading: float  # seconds of reading the file alone
    size: int  # bytes of the file


def loaded(class_name: str, path: Path, dtype: str, tries: int) -> Loaded:
    """Load a directory several times and return the medians. Needs `machine.TELLS_MEMORY`."""
    size = (path / "model.safetensors").stat().st_size
    found = []
    for _ in range(tries):
        output = printed(LOADING, class_name, str(path), dtype)
        found.append([float(number) for number in output.split()])
    seconds, memory, reading = (statistics.median(column) for column in zip(*found, strict=True))
    return Loaded(seconds, memory, reading, size)
