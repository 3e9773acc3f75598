"""The bars of the encoder that are not a comparison of one case with the machine.

Against the peers of the run: no loss, geometric mean, the ragged batch, from sentences to embeddings.
By themselves: two threads against one, the time and the memory of loading.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from ..backends import OURS, PEERS
from ..bar import Result, against_peers, never_slower, two_threads
from ..summary import section_of
from .cases import QUERIES, grid
from .checkpoint import directory, missing

GEOMETRIC_MEAN = 1.2
# Case -> times faster than the fastest of these peers. From sentences to embeddings the bar is about
# sentence-transformers and the runtimes of its back ends; no peer at all may be faster.
TIMES_FASTER = {
    "encoder/minilm/32x128-lognormal": (1.5, PEERS),
    f"encode/minilm/{QUERIES}": (1.5, ("sentence_transformers", "onnxruntime", "openvino")),
}
TWO_THREADS = 1.8
FROM_TOKENS = 32  # in the batch, without padding
LOAD_SECONDS = 0.3
LOAD_MEMORY = 2.2  # times the size of the file

# In a new process: seconds of from_pretrained, and bytes of memory that it added at its peak.
LOADING = """
import sys, time
import numpy
from treadle.transformers import AutoModel

def resident(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

with open("/proc/self/clear_refs", "w") as peak:
    peak.write("5")
before = resident("VmRSS:")
start = time.perf_counter()
model = AutoModel.from_pretrained(sys.argv[1])
print(time.perf_counter() - start, resident("VmHWM:") - before)
"""


def run(result: dict[str, Any]) -> Iterator[Result]:
    """Every bar; `result` is the run that has just been made. None where there is no model."""
    if missing():
        return
    cases = [case for case in result["cases"] if section_of(case) == "encoder"]
    named = {case["name"]: case for case in cases if "speedup" in case}
    batches = [case for case in cases if case["group"] == "encoder"]
    yield from against_peers("encoder", batches, GEOMETRIC_MEAN)
    texts = [case for case in cases if case["group"] == "encode"]
    yield from never_slower("encode", texts, "encoder")
    for name, (wanted, peers) in TIMES_FASTER.items():
        if name in named:
            yield from _times_faster(named[name], wanted, peers)
    parallel = [
        case
        for case in grid()
        if not case.sentences and sum(case.rows) >= FROM_TOKENS and "-rows" not in case.label
    ]
    yield from two_threads("encoder", parallel, TWO_THREADS)
    yield from loading()


def _times_faster(case: dict[str, Any], wanted: float, peers: tuple[str, ...]) -> Iterator[Result]:
    times = {n: entry["median_us"] for n, entry in case["results"].items() if n in peers}
    if not times:
        return
    peer = min(times, key=times.__getitem__)
    value = times[peer] / case["results"][OURS]["median_us"]
    text = f"{value:.2f}x as fast as {peer}, bar {wanted}x"
    name = f"times faster, {case['name']}"
    yield Result(name, text, value >= wanted, value, wanted, "encoder")


def loading(tries: int = 5) -> Iterator[Result]:
    """The time and the peak of memory of AutoModel.from_pretrained."""
    path = directory()
    if path is None:
        return
    size = (path / "model.safetensors").stat().st_size
    found = []
    for _ in range(tries):
        command = [sys.executable, "-c", LOADING, str(path)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found.append([float(number) for number in output.split()])
    seconds, memory = (statistics.median(column) for column in zip(*found, strict=True))
    text = f"{seconds:.3f} s, bar {LOAD_SECONDS} s"
    passed = seconds < LOAD_SECONDS
    yield Result("loading MiniLM, time", text, passed, seconds, LOAD_SECONDS, "encoder")
    share = memory / size
    text = f"{memory / 1e6:.0f} MB at the peak, {share:.2f} times the file, bar {LOAD_MEMORY}"
    passed = share < LOAD_MEMORY
    yield Result("loading MiniLM, memory", text, passed, share, LOAD_MEMORY, "encoder")
