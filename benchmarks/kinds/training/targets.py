"""This module measures the targets of training that are no comparison of one case with the machine.

Against the peers of the run it looks for losses and at the geometric mean of the recurrent nets. By
themselves it measures ragged batches against padded ones and against PyTorch's PackedSequence, two
threads against one, the time around a call, steps of one row against PyTorch's, and the memory that
a forward pass keeps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from ...core import machine, peers
from ...core.comparisons import EFFORT, against_peers, never_slower, ours, two_threads
from ...core.dtypes import FLOAT32
from ...core.measure import take_turns
from ...core.models.recurrent.case import NetCase
from ...core.target import Result
from . import recurrent
from .cases import TrainingCase, grid, missing
from .memory import measured
from .one_row import MODULES, SIZES, ratios
from .overhead import seconds

GEOMETRIC_MEAN = 1.3
RAGGED = 1.1  # of the padded time, times the share of it that its work is
PACKED = 3.0  # times as fast as PyTorch's packed path
TWO_THREADS, FROM_HIDDEN = 1.7, 256
OVERHEAD_US = 15.0
ONE_ROW = 1.0  # times PyTorch's modules
ATTENTION = "train-attention"  # 128 queries at least
# Saved tensors: one shape, large enough that what is not measured in full does not count.
MEMORY = tuple(NetCase(cell, "memory", 200, 32, 256, 256, "") for cell in ("lstm", "gru", "rnn"))


def run(result: dict[str, Any], dtype: str) -> Iterator[Result]:
    """Measure every target; `result` is the run that has just been made.

    Nothing is measured without PyTorch, and only float32 has targets.
    """
    if dtype != FLOAT32 or missing():
        return
    cases = [case for case in result["cases"] if case.get("kind") == "training"]
    nets = [case for case in cases if case["group"] != ATTENTION]
    yield from against_peers("training", nets, GEOMETRIC_MEAN)
    attention = [case for case in cases if case["group"] == ATTENTION]
    yield from never_slower(ATTENTION, attention, "training")
    mine = [case for case in grid() if isinstance(case, TrainingCase)]
    for case in mine:
        if case.lengths:
            yield from ragged(case)
    parallel = [case for case in mine if case.H >= FROM_HIDDEN]
    yield from two_threads("training", parallel, TWO_THREADS)
    yield from overhead()
    yield from one_row()
    yield from memory()


def ragged(case: TrainingCase) -> Iterator[Result]:
    """Compare a ragged batch with treadle's padded batch and with PyTorch's packed one.

    They take turns on one thread. PyTorch's faster way with a PackedSequence stands against
    `lengths`. Who accelerates a model changes nothing else, so one program that packs and unpacks
    is also run with both modules.
    """
    import treadle.torch

    from ...core.models.recurrent.torch import module_of
    from .peers import torch as peer

    peers.start("torch", 1)
    treadle.set_num_threads(1)
    (weights, x), dy = recurrent.arguments(case)
    theirs = {way: peer.prepare(case, ((weights, x), dy), 1, way).run for way in peer.PACKED}
    same = peer.PACKED[0]
    accelerated = peer.prepare_net(
        case, lambda: module_of(case, weights, treadle.torch), x, dy, same
    )
    runs = {
        "ragged": ours(case),
        "padded": ours(dataclasses.replace(case, lengths=())),
        "accelerated": accelerated.run,
        **theirs,
    }
    times = {name: timing.median for name, timing in take_turns(runs, EFFORT).items()}
    share = sum(case.lengths) / (case.B * case.T)
    value, wanted = times["ragged"] / times["padded"], RAGGED * share
    text = f"{value:.3f} of the padded time, target {wanted:.3f} (work {share:.3f})"
    yield Result(f"ragged, {case.name}", text, value <= wanted, value, wanted, "training")
    fastest = min(theirs, key=times.__getitem__)
    for name, mine, other in (("packed", "ragged", fastest), ("accelerated", "accelerated", same)):
        value = times[other] / times[mine]
        text = f"{value:.2f}x as fast as torch ({other}), target {PACKED:g}x"
        yield Result(f"{name}, {case.name}", text, value >= PACKED, value, PACKED, "training")


def overhead() -> Iterator[Result]:
    """Measure the time around a call of treadle.torch."""
    for name, spent in seconds().items():
        value, empty = spent.more * 1e6, spent.autograd * 1e6
        text = f"{value:.1f} us more than with NumPy arrays, target {OVERHEAD_US:g} us"
        if empty:
            text += f" (an empty autograd.Function: {empty:.1f} us)"
        passed = value < OVERHEAD_US
        yield Result(f"overhead, {name}", text, passed, value, OVERHEAD_US, "training")


def one_row(names: tuple[str, ...] = MODULES, sizes: tuple[int, ...] = SIZES) -> Iterator[Result]:
    """Compare modules of treadle.torch with PyTorch's at one row and step."""
    found: dict[tuple[str, bool], dict[int, float]] = {}
    for name, learns, size, ratio in ratios(names, sizes):
        found.setdefault((name, learns), {})[size] = ratio
    for (name, learns), by_size in found.items():
        value = min(by_size.values())
        each = ", ".join(f"{size}: {ratio:.2f}x" for size, ratio in by_size.items())
        text = f"torch's time / treadle's at size {each}; target {ONE_ROW:g}x"
        title = f"one row, {name}, {'a step of training' if learns else 'a step'}"
        yield Result(title, text, value >= ONE_ROW, value, ONE_ROW, "training")


def memory() -> Iterator[Result]:
    """Measure what is kept between the forward and the backward pass, on Linux."""
    if not machine.TELLS_MEMORY:
        return
    for case in MEMORY:
        mine, theirs = (measured(case, library) / 1e6 for library in ("treadle.torch", "torch.nn"))
        text = f"{mine:.1f} MB kept with y, target torch's {theirs:.1f} MB"
        yield Result(f"saved tensors, {case.name}", text, mine <= theirs, mine, theirs, "training")
