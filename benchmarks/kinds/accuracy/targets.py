"""This module holds the accuracy to its targets; one about a peer needs a run with that peer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...core.dtypes import FLOAT32
from ...core.kind import OURS
from ...core.target import Result

TIMES_TORCH = 3.0  # of each seed; on average treadle is to be nearer
COSINE_MIN = {"bfloat16": 0.9995, "int8": 0.99}
COSINE_MEAN = {"bfloat16": 0.9995, "int8": 0.995}
SPEARMAN = {"bfloat16": 0.999, "int8": 0.995}
NEARER_THAN = ("ctranslate2", "onnxruntime")  # in int8, the largest error of a hidden state
POINTS = 0.3  # of accuracy that the demo may lose


def run(found: dict[str, Any]) -> Iterator[Result]:
    """Return every target of what was measured."""
    yield from _recurrent(found["recurrent"])
    yield from _encoder(found.get("encoder", []))
    yield from _demo(found["demo"])


def _recurrent(rows: list[dict[str, Any]]) -> Iterator[Result]:
    named = {(row["cell"], row["dtype"], row["backend"]): row for row in rows}
    for (cell, dtype, name), ours in named.items():
        if name != OURS:
            continue
        peers = {"bfloat16": ("torch",), "int8": ("onnxruntime", "torch")}[dtype]
        for peer in peers:
            theirs = named.get((cell, dtype, peer))
            if theirs is None:
                continue
            start = f"{cell}, {dtype}"
            pairs = zip(ours["errors"], theirs["errors"], strict=True)
            worst = max(mine / other for mine, other in pairs)
            wanted = TIMES_TORCH if dtype == "bfloat16" else 1.0
            yield _at_most(f"{start}, error of a seed over {peer}'s", worst, wanted)
            if dtype == "bfloat16":
                ratio = ours["mean"] / theirs["mean"]
                yield _at_most(f"{start}, mean error over {peer}'s", ratio, 1.0)


def _encoder(rows: list[dict[str, Any]]) -> Iterator[Result]:
    for row in rows:
        dtype = row["dtype"]
        if row["backend"] != OURS:
            continue
        start = f"MiniLM, {dtype}"
        yield _at_least(f"{start}, cosine, mean", row["cosine_mean"], COSINE_MEAN[dtype])
        yield _at_least(f"{start}, cosine, least", row["cosine_min"], COSINE_MIN[dtype])
        yield _at_least(f"{start}, Spearman", row["spearman"], SPEARMAN[dtype])
        for other in rows:
            if dtype == other["dtype"] == "int8" and other["backend"] in NEARER_THAN:
                ratio = row["hidden"] / other["hidden"]
                yield _at_most(f"{start}, hidden error over {other['backend']}'s", ratio, 1.0)


def _demo(rows: list[dict[str, Any]]) -> Iterator[Result]:
    exact = {row["words"]: row for row in rows if row["dtype"] == FLOAT32}
    for row in rows:
        if row["dtype"] != FLOAT32:
            lost = 100 * (exact[row["words"]]["right"] - row["right"]) / row["texts"]
            name = f"demo, {row['dtype']}, texts of {row['words']}, points lost"
            yield _at_most(name, lost, POINTS)


def _at_most(name: str, value: float, wanted: float) -> Result:
    text = f"{value:.3g}, target at most {wanted:g}"
    return Result(name, text, value <= wanted, value, wanted, "accuracy")


def _at_least(name: str, value: float, wanted: float) -> Result:
    text = f"{value:.6f}, target at least {wanted:g}"
    return Result(name, text, value >= wanted, value, wanted, "accuracy")
