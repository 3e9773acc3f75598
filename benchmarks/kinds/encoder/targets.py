"""This module measures the targets of the encoder that are no comparison of one case with the
machine.

Against the peers of the run it looks for losses, at the geometric mean, at the ragged batch, and at
the way from sentences to embeddings. By themselves it measures two threads against one, and the
time and the memory of loading.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from ...core.comparisons import against_peers, never_slower, two_threads
from ...core.dtypes import FLOAT32
from ...core.fresh import printed
from ...core.kind import OURS, PEERS
from ...core.models.minilm.checkpoint import directory, missing
from ...core.summary import section_of
from ...core.target import Result
from .cases import QUERIES, grid

GEOMETRIC_MEAN = 1.2
LOW_PRECISION_GEOMETRIC_MEAN = 1.3
# Each case is so many times faster than these peers. From sentences to embeddings the target is
# about sentence-transformers and the runtimes of its back ends; no peer at all may be faster.
TIMES_FASTER = {
    "encoder/minilm/32x128-lognormal": (1.5, PEERS),
    f"encode/minilm/{QUERIES}": (1.5, ("sentence_transformers", "onnxruntime", "openvino")),
}
TWO_THREADS = 1.8
FROM_TOKENS = 32  # in the batch, without padding
LOAD_SECONDS = 0.3
LOAD_MEMORY = 2.2  # times the size of the file

# A new process prints the seconds of from_pretrained and the bytes of memory that it added at its
# peak.
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


def run(result: dict[str, Any], dtype: str) -> Iterator[Result]:
    """Measure every target; `result` is the run that has just been made."""
    if dtype != FLOAT32:
        cases = [case for case in result["cases"] if section_of(case) == f"encoder-{dtype}"]
        yield from against_peers("encoder", cases, LOW_PRECISION_GEOMETRIC_MEAN, dtype)
    elif not missing():
        yield from _float32(result)


def _float32(result: dict[str, Any]) -> Iterator[Result]:
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
    text = f"{value:.2f}x as fast as {peer}, target {wanted}x"
    name = f"times faster, {case['name']}"
    yield Result(name, text, value >= wanted, value, wanted, "encoder")


def loading(tries: int = 5) -> Iterator[Result]:
    """Measure the time and the peak of memory of AutoModel.from_pretrained."""
    path = directory()
    if path is None:
        return
    size = (path / "model.safetensors").stat().st_size
    found = []
    for _ in range(tries):
        output = printed(LOADING, str(path))
        found.append([float(number) for number in output.split()])
    seconds, memory = (statistics.median(column) for column in zip(*found, strict=True))
    text = f"{seconds:.3f} s, target {LOAD_SECONDS} s"
    passed = seconds < LOAD_SECONDS
    yield Result("loading MiniLM, time", text, passed, seconds, LOAD_SECONDS, "encoder")
    share = memory / size
    text = f"{memory / 1e6:.0f} MB at the peak, {share:.2f} times the file, target {LOAD_MEMORY}"
    passed = share < LOAD_MEMORY
    yield Result("loading MiniLM, memory", text, passed, share, LOAD_MEMORY, "encoder")
