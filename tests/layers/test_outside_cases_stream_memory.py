"""A stream lets the memory of a long chunk go; a service keeps its streams for days."""

from support import child
from support.systems import linux

CODE = """
import gc
import os
from pathlib import Path

import numpy as np

import treadle


def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


for cls in (treadle.RNN, treadle.LSTM, treadle.GRU):
    stream = cls(8, 32, num_layers=3).stream(batch_size=1)
    stream.run(np.zeros((100, 1, 8), np.float32))
    x = np.zeros((1, 8), np.float32)
    stream.step(x)
    before = resident()
    stream.run(np.zeros((100_000, 1, 8), np.float32))  # 13 MB from each layer to the next
    stream.step(x)
    grown = resident() - before
    assert grown < 8 << 20, (cls, grown)
print("all")
"""


@linux
def test_a_long_chunk_leaves_no_memory_behind():
    # glibc otherwise keeps freed memory of this size, by a rule that follows earlier allocations.
    assert child.succeed(CODE, MALLOC_MMAP_THRESHOLD_="65536") == "all"
