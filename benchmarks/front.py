"""This module makes the tables and the picture of the project's README from results of whole runs.

    python -m treadle.benchmarks.front README.md

The command reads the JSON files of `benchmarks/results`, replaces what stands between the markers
`front-layers` and `front-kinds` of the Markdown file, and draws `benchmarks/results/front.png` when
matplotlib is installed (`pip install treadle[plot]`). Nothing is measured. The first table shows a
few layers with the times of PyTorch and ONNX Runtime, and always the case where treadle does worst;
the second shows how treadle stands against the fastest peer in every kind of cases.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .core.kind import OURS
from .core.summary import section_of, summary
from .report import SECOND, replace_between_markers, second

SOURCES = (
    *("bench", "attention", "encoder", "training", "models", "conv", "keras", "generation"),
    "dtypes",
)
LAYERS = {
    "lstm/step/1x1x128x128": "LSTM, 128 units: one step",
    "gru/step/1x1x256x256": "GRU, 256 units: one step",
    "lstm/sequence/100x1x64x128": "LSTM, 128 units: 100 steps",
    "lstm/ragged/50x32x128x128-uniform": "LSTM, 128 units: 32 rows of 1 to 50 steps",
    "encoder/minilm/1x8": "MiniLM-L6: a sentence of 8 tokens",
}
KINDS = {
    "recurrent": "recurrent nets",
    "recurrent-bfloat16": "recurrent nets, bfloat16",
    "recurrent-int8": "recurrent nets, int8",
    "attention": "attention",
    "encoder": "sentence encoder",
    "encoder-bfloat16": "sentence encoder, bfloat16",
    "encoder-int8": "sentence encoder, int8",
    "training": "training",
    "models": "whole models",
    "conv": "convolutions",
    "keras": "Keras",
    "generation": "models that write text",
    "generation-bfloat16": "models that write text, bfloat16",
    "generation-int8": "models that write text, int8",
}
CELLS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the results of every source in the folder, by the source's name."""
    return {
        name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in SOURCES
    }


def layers(results: dict[str, dict[str, Any]]) -> str:
    """Make the table of a few layers; the last row is the recurrent net where treadle is worst."""
    cases = {case["name"]: case for found in results.values() for case in found["cases"]}
    about = summary(results["bench"]["cases"])
    worst = cases[about["worst"]["name"]]
    named = {**LAYERS, worst["name"]: f"{_words(worst)} (worst of {about['compared']})"}
    lines = [
        "| your layer | treadle | PyTorch | ONNX Runtime | against the fastest peer |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, text in named.items():
        taken = {who: found["median_us"] for who, found in cases[name]["results"].items()}
        columns = [_time(taken[who]) for who in (OURS, "torch", "onnxruntime")]
        peer, factor = cases[name]["fastest_peer"], f"{cases[name]['speedup']:.2f}x"
        if peer not in ("torch", "onnxruntime"):
            factor += f" ({peer}: {_time(taken[peer])})"
        lines.append(f"| {text} | {' | '.join(columns)} | {factor} |")
    return "\n".join(lines)


def by_kind(results: dict[str, dict[str, Any]], others: dict[str, dict[str, Any]]) -> str:
    """Make the table of all kinds: how often and how far treadle is ahead of the fastest peer.

    `others` has the sections that ran on the second machine, too; it is empty if none did.
    """
    titles = ["kind of cases", "cases", "treadle is fastest in", "geometric mean", "worst case"]
    titles += ["CPU", *([f"{SECOND}: fastest in", "mean", "worst"] if others else [])]
    rows = [titles, ["---", *["---:"] * 4, "---", *["---:"] * (len(titles) - 6)]]
    cpus = {
        section_of(case): found["machine"]["cpu"]
        for found in results.values()
        for case in found["cases"]
    }
    for section, cases in _sections(results).items():
        compared, *figures = _figures(cases)
        row = [KINDS[section], compared, *figures, _short(cpus[section])]
        if section in others:
            compared, won, *figures = _figures(others[section]["cases"])
            row += [f"{won} of {compared}", *figures]
        elif others:
            row += ["-", "-", "-"]
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _figures(cases: list[dict[str, Any]]) -> list[str]:
    """Return how many cases have a peer, how many treadle wins, the mean factor and the worst."""
    found = summary(cases)
    won = found["compared"] - len(found["lost"])
    factors = found["geometric_mean"], found["worst"]["speedup"]
    return [f"{found['compared']}", f"{won}", *(f"{factor:.2f}x" for factor in factors)]


def where(results: dict[str, dict[str, Any]]) -> str:
    """Return on which machine the results of a table were measured, by how many threads and when.

    ``AMD EPYC (family 25, model 17), one thread, 2026-11-29 to 2026-11-30``
    """
    cpus = sorted({found["machine"]["cpu"] for found in results.values()})
    dates = sorted(found["date"] for found in results.values())
    threads = {found["threads"] for found in results.values()}
    count = "one thread" if threads == {1} else f"{max(threads)} threads"
    days = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    return f"{' and '.join(cpus)}, {count}, {days}"


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Write the picture: a row for each kind and a dot for each case."""
    from .core.picture import strip

    rows = {KINDS[name]: cases for name, cases in _sections(results).items()}
    strip(rows, f"Measured on {where(results)}", path)


def write(markdown_file: Path, folder: Path) -> None:
    """Update the two tables of the Markdown file and the picture in the folder."""
    results, others = read(folder), second(folder)
    shown = {name: results[name] for name in ("bench", "encoder")}
    text = f"{layers(results)}\n\nMeasured on {where(shown)}."
    replace_between_markers(markdown_file, text, "front-layers")
    text = f"{by_kind(results, others)}\n\nMeasured on {where(results)}."
    if others:
        text += f" The columns of {SECOND} were measured on {where(others)}."
    replace_between_markers(markdown_file, text, "front-kinds")
    print(f"wrote {markdown_file}")
    try:
        draw(results, folder / "front.png")
    except ImportError as error:
        print(f"treadle bench: no picture ({error}): pip install treadle[plot]", file=sys.stderr)
    else:
        print(f"wrote {folder / 'front.png'}")


def _short(cpu: str) -> str:
    """Return the maker and the line of a CPU: ``Intel Xeon``."""
    return " ".join(cpu.split(" (")[0].replace("(R)", "").removesuffix("Processor").split())


def _sections(results: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the cases of each kind and dtype that has some with a peer, in the order of KINDS."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in KINDS}
    for result in results.values():
        for case in result["cases"]:
            found[section_of(case)].append(case)
    return {name: cases for name, cases in found.items() if "compared" in summary(cases)}


def _words(case: dict[str, Any]) -> str:
    """Describe a recurrent case in words."""
    rows = "one row" if case["B"] == 1 else f"{case['B']} rows"
    steps = "one step" if case["T"] == 1 else f"{case['T']} steps"
    return f"{CELLS[case['cell']]}, {case['H']} units: {rows} of {steps}"


def _time(microseconds: float) -> str:
    """Write a time with its unit, in three digits."""
    value, unit = (microseconds, "us") if microseconds < 1000 else (microseconds / 1000, "ms")
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f} {unit}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the tables and the picture again from the stored results."""
    parser = argparse.ArgumentParser(
        prog="python -m treadle.benchmarks.front", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("markdown", type=Path, help="the file with the markers")
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("benchmarks/results"),
        help="the folder of the JSON files (default: benchmarks/results)",
    )
    options = parser.parse_args(arguments)
    write(options.markdown, options.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
