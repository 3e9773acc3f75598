"""This module measures the targets of generation that are no comparison of one case with the
machine.

Against the peers of the run it looks for losses, at the geometric means against CTranslate2 and
against Transformers, and at sentences of many lengths. By itself it compares bfloat16 with float32
for one text, and measures the first token and loading for each model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from ...core import machine
from ...core.comparisons import EFFORT, geometric_mean_of, never_slower, ours, times_faster
from ...core.dtypes import FLOAT32, suffix
from ...core.kind import OURS
from ...core.loading import loaded
from ...core.measure import take_turns
from ...core.summary import section_of
from ...core.target import Result
from .cases import SEQ2SEQ, GenerationCase, grid
from .files import directory, missing

GEOMETRIC_MEANS = {"ctranslate2": 1.4, "torch": 2.0}
RAGGED = "lognormal"
RAGGED_FACTOR = 1.5  # times CTranslate2
BFLOAT16, BFLOAT16_GAIN = "bfloat16", 1.7  # times float32, one text without beams
LOAD_FACTOR = 2.0  # times the reading of the file


def run(result: dict[str, Any], dtype: str) -> Iterator[Result]:
    """Measure every target; `result` is the run that has just been made."""
    section = "generation" + (f"-{dtype}" if dtype != FLOAT32 else "")
    cases = [case for case in result["cases"] if section_of(case) == section]
    yield from never_slower("generation" + suffix(dtype), cases, "generation", dtype)
    for peer, wanted in GEOMETRIC_MEANS.items():
        yield from geometric_mean_of(peer, cases, wanted, "generation", dtype)
    for case in cases:
        if RAGGED in case["name"]:
            yield from times_faster(case, RAGGED_FACTOR, ("ctranslate2",), "generation", dtype)
    if dtype == BFLOAT16:
        yield from _gains(result)
    if dtype == FLOAT32 and not missing():
        yield from _each_model()


def _gains(result: dict[str, Any]) -> Iterator[Result]:
    """Compare bfloat16 with float32 of the same run, for one text without beams."""
    medians = {
        case["name"]: case["results"][OURS]["median_us"]
        for case in result["cases"]
        if section_of(case).startswith("generation") and OURS in case["results"]
    }
    for case in grid():
        name = case.name
        low = name + suffix(BFLOAT16)
        if case.B * case.beams > 1 or not {name, low} <= medians.keys():
            continue
        value = medians[name] / medians[low]
        text = f"{value:.2f}x as fast as float32, target {BFLOAT16_GAIN}x"
        passed = value >= BFLOAT16_GAIN
        yield Result(
            f"bfloat16, {name}", text, passed, value, BFLOAT16_GAIN, "generation", BFLOAT16
        )


def _each_model() -> Iterator[Result]:
    """Report the first token of the first case of each model, and hold loading to its target."""
    firsts: dict[str, GenerationCase] = {}
    for case in grid():
        firsts.setdefault(case.model, case)
    for case in firsts.values():
        one = dataclasses.replace(case, T=1)
        seconds = take_turns({OURS: ours(one)}, EFFORT)[OURS].median
        text = f"{seconds * 1e3:.2f} ms for {case.B} x {case.S} tokens; no target"
        yield Result(f"first token, {case.model}", text, True, seconds, 0.0, "generation")
        yield from _loading(case)


def _loading(case: GenerationCase) -> Iterator[Result]:
    if not machine.TELLS_MEMORY:
        return
    name = "AutoModelForSeq2SeqLM" if case.group == SEQ2SEQ else "AutoModelForCausalLM"
    found = loaded(name, directory(case), FLOAT32, 3)
    value = found.seconds / found.reading
    text = f"{found.seconds:.2f} s for {found.size / 1e6:.0f} MB, {value:.2f} times reading them, "
    text += f"target {LOAD_FACTOR:g}; {found.memory / found.size:.2f} times the file in memory"
    passed = value < LOAD_FACTOR
    yield Result(f"loading {case.model}", text, passed, value, LOAD_FACTOR, "generation")
