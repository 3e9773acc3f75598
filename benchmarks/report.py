"""The result of a run as Markdown tables and a picture.

    python -m weft.benchmarks.report benchmarks/results/bench.json README.md

The tables replace what stands between the two markers of the Markdown file; the picture goes beside
the JSON, when matplotlib is installed (`pip install weft[plot]`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .backends import OURS
from .cases import GROUPS
from .tables import microseconds

START, END = "<!-- bench:start -->", "<!-- bench:end -->"
PICTURE = "bench.png"
ABOUT_GROUP = {
    "step": "Single steps, state carried from call to call",
    "chunk": "Short chunks",
    "sequence": "Sequences, B = 1",
    "batch": "Batches",
    "bidirectional": "Bidirectional",
    "stacked": "Stacked",
    "ragged": "Ragged batches",
    "deepbench": "DeepBench",
}


def write(result: dict[str, Any], markdown_file: Path, folder: Path) -> None:
    """Update `markdown_file` between its markers and put the picture into `folder`."""
    text = markdown(result)
    picture = folder / PICTURE
    try:
        from . import picture as drawing

        drawing.draw(result, picture)
    except ImportError as error:
        print(f"weft bench: no picture ({error}): pip install weft[plot]", file=sys.stderr)
    else:
        print(f"wrote {picture}")
        link = Path(os.path.relpath(picture, markdown_file.parent)).as_posix()
        text = (
            f"![Every case: peers relative to weft, and weft against the limit]({link})\n\n{text}"
        )
    replace_between_markers(markdown_file, text)
    print(f"wrote {markdown_file}")


def replace_between_markers(path: Path, text: str) -> None:
    """Put `text` between the markers; a file that does not exist is made."""
    block = f"{START}\n{text.rstrip()}\n{END}"
    if not path.exists():
        path.write_text(block + "\n", encoding="utf-8")
        return
    old = path.read_text(encoding="utf-8")
    before, start, rest = old.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"weft bench: {path} has no lines {START} and {END}")
    path.write_text(before + block + after, encoding="utf-8")


def markdown(result: dict[str, Any]) -> str:
    """Everything: where it was measured, the summary, what was lost, then every case."""
    cases = result["cases"]
    parts = [_where(result), _summary(result)]
    lost = sorted((c for c in cases if c.get("speedup", 1) < 1), key=lambda c: c["speedup"])
    if any("speedup" in case for case in cases):
        parts.append(f"**Cases lost to a peer: {len(lost)}**")
    if lost:
        parts.append(_table(lost, result))
    missed = [c for c in cases if "bar" in c and not c["bar"]["passed"]]
    if missed:
        parts += [f"**Cases that miss their bar: {len(missed)}**", _table(missed, result)]
    if result.get("bars"):
        parts.append(_bars(result["bars"]))
    parts.append(
        "Times are medians in microseconds, `T x B x I x H`. *Limit* is what reading the weights "
        "and multiplying would take on this machine at least, *reached* the share of it that weft "
        "reaches, and the peers are followed by how many times faster weft is than the fastest."
    )
    for group in GROUPS:
        found = [case for case in cases if case["group"] == group]
        if found:
            summary = f"<summary>{ABOUT_GROUP[group]} ({len(found)})</summary>"
            parts.append(f"<details>{summary}\n\n{_table(found, result)}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def _where(result: dict[str, Any]) -> str:
    about = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    threads = "one thread" if result["threads"] == 1 else f"{result['threads']} threads"
    lines = [f"Measured on {result['date']} with", "", f"    {result['command']}", ""]
    lines.append(
        f"on {about['cpu']}, {threads} pinned, Python {about['python']}, "
        f"NumPy {about['numpy']}; {versions}."
    )
    if result["limits"]:
        levels = ", ".join(
            f"{level['name']} {level['gb_s']:.0f}" for level in result["limits"]["levels"]
        )
        lines.append(
            f"The machine's limits in the same run: {result['limits']['peak_gflops']:.0f} GFLOP/s "
            f"float32, read bandwidth in GB/s: {levels}."
        )
    return "\n".join(lines)


def _summary(result: dict[str, Any]) -> str:
    found = result["summary"]
    lines = []
    if "geometric_mean" in found:
        won = found["compared"] - len(found["lost"])
        counts = ", ".join(f"{n} {name}" for name, n in found["fastest_peers"].items())
        lines.append(
            f"- faster than the fastest peer in {won} of {found['compared']} cases, "
            f"geometric mean {found['geometric_mean']:.2f}x, worst {found['worst']['speedup']:.2f}x "
            f"(`{found['worst']['name']}`); the fastest peer was {counts}"
        )
    if found["bars"]:
        met = found["bars"] - len(found["missed"])
        lines.append(f"- bars against the machine's limit met: {met} of {found['bars']}")
    lines += [f"- **wrong answer**: `{name}`" for name in found["wrong"]]
    return "\n".join(lines)


def _table(cases: list[dict[str, Any]], result: dict[str, Any]) -> str:
    peers = [name for name in result["versions"] if name != OURS]
    against = ["faster by"] if peers else []
    titles = ["case", "weft", "limit", "reached", "bound by", "bar", *peers, *against]
    rows = [titles, ["---", *["---:"] * (len(titles) - 1)]]
    rows += [_row(case, peers) for case in cases]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _row(case: dict[str, Any], peers: list[str]) -> list[str]:
    ours = case["results"].get(OURS)
    row = [f"`{case['name']}`", microseconds(ours["median_us"]) if ours else "-"]
    if "limit_us" in case:
        reached = f"{case['of_limit']:.0%}" if "of_limit" in case else "-"
        row += [microseconds(case["limit_us"]), reached, case["bound_by"]]
    else:
        row += ["-", "-", "-"]
    bar = case.get("bar")
    allowed = microseconds(bar["allowed_us"]) if bar else ""
    row.append(f"{'' if bar['passed'] else '**missed** '}{allowed}" if bar else "-")
    for name in peers:
        if name in case["results"]:
            text = microseconds(case["results"][name]["median_us"])
            row.append(f"**{text}**" if name == case.get("fastest_peer") else text)
        else:
            row.append("wrong" if name in case["wrong"] else "-")
    if peers:
        row.append(f"{case['speedup']:.2f}x" if "speedup" in case else "-")
    return row


def _bars(entries: list[dict[str, Any]]) -> str:
    rows = ["| other bars | found | |", "| --- | --- | --- |"]
    rows += [
        f"| {entry['name']} | {entry['text']} | {'ok' if entry['passed'] else '**missed**'} |"
        for entry in entries
    ]
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the report again from a JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m weft.benchmarks.report", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("json", type=Path, help="what weft bench --json wrote")
    parser.add_argument("markdown", type=Path, help="the file with the markers")
    options = parser.parse_args(arguments)
    result = json.loads(options.json.read_text(encoding="utf-8"))
    write(result, options.markdown, options.json.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
