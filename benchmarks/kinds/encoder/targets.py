"""This module measures the targets of the encoder that are no comparison of one case with the
machine.

Against the peers of the run it looks for losses, at the geometric mean, at the ragged batch, and at
the way from sentences to embeddings. By themselves it measures two threads against one, and the
time and the memory of loading.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...core import machine
from ...core.comparisons import against_peers, never_slower, times_faster, two_threads
from ...core.dtypes import FLOAT32
from ...core.kind import PEERS
from ...core.loading import loaded
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
            yield from times_faster(named[name], wanted, peers, "encoder")
    parallel = [
        case
        for case in grid()
        if not case.sentences and sum(case.rows) >= FROM_TOKENS and "-rows" not in case.label
    ]
    yield from two_threads("encoder", parallel, TWO_THREADS)
    yield from loading()


def loading(tries: int = 5) -> Iterator[Result]:
    """Measure the time and the peak of memory of AutoModel.from_pretrained, on Linux."""
    path = directory()
    if path is None or not machine.TELLS_MEMORY:
        return
    found = loaded("AutoModel", path, FLOAT32, tries)
    seconds = found.seconds
    text = f"{seconds:.3f} s, target {LOAD_SECONDS} s"
    passed = seconds < LOAD_SECONDS
    yield Result("loading MiniLM, time", text, passed, seconds, LOAD_SECONDS, "encoder")
    share = found.memory / found.size
    text = (
        f"{found.memory / 1e6:.0f} MB at the peak, {share:.2f} times the file, target {LOAD_MEMORY}"
    )
    passed = share < LOAD_MEMORY
    yield Result("loading MiniLM, memory", text, passed, share, LOAD_MEMORY, "encoder")
