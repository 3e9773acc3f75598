"""This module writes the accuracy as Markdown: a table of each kind, then the targets that are
missed.
"""

from __future__ import annotations

from typing import Any

from ...core.dtypes import FLOAT32
from .recurrent import ROWS, SIZE, STEPS

SECTION = "accuracy"


def markdown(result: dict[str, Any]) -> str:
    """Return the report as Markdown, without the description of the machine."""
    found = result[SECTION]
    parts = [
        (
            f"LSTM and GRU, {STEPS} steps, {ROWS} rows, I = H = {SIZE}: error of the outputs "
            "against float64, relative to their size, mean and largest of the seeds"
        ),
        _table(["cell", "dtype", "by", "mean", "largest"], map(_recurrent, found["recurrent"])),
    ]
    if found.get("encoder"):
        count = found["encoder"][0]["sentences"]
        titles = ["dtype", "by", "cosine, mean", "least", "hidden state", "Spearman"]
        parts += [
            (
                f"MiniLM, {count} English sentences, against float32: cosine of the embeddings, "
                "largest error of a hidden state (numbers of order 1), rank correlation of the "
                "similarities of all pairs"
            ),
            _table(titles, map(_encoder, found["encoder"])),
        ]
    parts += [
        "The model of `treadle demo`, texts of held-out words that it tells",
        _demo(found["demo"]),
    ]
    targets = found["targets"]
    missed = [entry for entry in targets if not entry["passed"]]
    parts.append(f"Targets met: {len(targets) - len(missed)} of {len(targets)}")
    if missed:
        parts.append(
            "\n".join(f"- **missed** {entry['name']}: {entry['text']}" for entry in missed)
        )
    return "\n\n".join(parts) + "\n"


def lines(found: dict[str, Any]) -> list[str]:
    """Return the lines of the report for a terminal."""
    shown = ["recurrent nets: cell, dtype, by, mean and largest relative error"]
    shown += ["  " + "  ".join(_recurrent(row)) for row in found["recurrent"]]
    shown.append("MiniLM: dtype, by, cosine mean and least, hidden state, Spearman")
    shown += ["  " + "  ".join(_encoder(row)) for row in found.get("encoder", [])]
    shown.append("demo: dtype, words, texts told of all")
    shown += [
        f"  {row['dtype']}  {row['words']}  {row['right']} of {row['texts']}"
        for row in found["demo"]
    ]
    for entry in found["targets"]:
        verdict = "ok" if entry["passed"] else "MISSED"
        shown.append(f"{verdict:>6}  {entry['name']}: {entry['text']}")
    return shown


def _recurrent(row: dict[str, Any]) -> list[str]:
    numbers = [f"{value:.2e}" for value in (row["mean"], max(row["errors"]))]
    return [row["cell"], row["dtype"], row["backend"], *numbers]


def _encoder(row: dict[str, Any]) -> list[str]:
    cosines = [f"{row[name]:.6f}" for name in ("cosine_mean", "cosine_min")]
    last = [f"{row['hidden']:.3f}", f"{row['spearman']:.5f}"]
    return [row["dtype"], row["backend"], *cosines, *last]


def _demo(rows: list[dict[str, Any]]) -> str:
    sizes = [row for row in rows if row["dtype"] == FLOAT32]
    titles = ["words", "texts", *dict.fromkeys(row["dtype"] for row in rows)]
    body = []
    for size in sizes:
        same = [row for row in rows if row["words"] == size["words"]]
        shares = [f"{100 * row['right'] / row['texts']:.2f} %" for row in same]
        body.append([str(size["words"]), str(size["texts"]), *shares])
    return _table(titles, body)


def _table(titles: list[str], rows: Any) -> str:
    both = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in both)
