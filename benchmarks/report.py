"""The result of a run as Markdown tables and a picture for each kind of cases and dtype.

    python -m treadle.benchmarks.report benchmarks/results/bench.json docs/performance.md

The tables of one replace what stands between its two markers of the Markdown file and leave the
others' alone; the picture goes beside the JSON, when matplotlib is installed (`pip install
treadle[plot]`). Where a second kind of machine has measured the same cases, and its results lie in
the folder `zen5` beside the JSON, three columns more show them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .core import registry
from .core.kind import OURS
from .core.numbers import microseconds, milliseconds, peaks, waits
from .core.summary import kind_of, section_of, summary

MARKER = "bench"
# Results of a second kind of machine lie in this folder beside the JSON, and its columns have this
# name.
SECOND_FOLDER, SECOND = "zen5", "Zen 5"
# The limits of runs that were recorded before count the products only.
WAITING = ", or for the chain of dependent steps where that takes longer, and for the call"


def markers(section: str) -> tuple[str, str]:
    """The lines between which the block of a section stands: of a kind, in bfloat16 or int8 a block
    of its own.
    """
    name = MARKER if section == "recurrent" else f"{MARKER}-{section}"
    return f"<!-- {name}:start -->", f"<!-- {name}:end -->"


def write(result: dict[str, Any], markdown_file: Path, folder: Path) -> None:
    """Update the block of each section in `markdown_file` and put the pictures into `folder`."""
    if "accuracy" in result:
        from .kinds.accuracy import report as accuracy

        text = f"{_where(result)}\n\n{accuracy.markdown(result)}"
        replace_between_markers(markdown_file, text, accuracy.SECTION)
        print(f"wrote {markdown_file}")
        return
    others = second(folder)
    for section in dict.fromkeys(map(section_of, result["cases"])):
        part = only(result, section)
        text = markdown(part, others.get(section))
        picture = folder / f"{MARKER if section == 'recurrent' else section}.png"
        try:
            from .core import picture as drawing

            drawing.draw(part, picture)
        except ImportError as error:
            print(
                f"treadle bench: no picture ({error}): pip install treadle[plot]", file=sys.stderr
            )
        else:
            print(f"wrote {picture}")
            link = Path(os.path.relpath(picture, markdown_file.parent)).as_posix()
            caption = "Every case: peers relative to treadle, and treadle against the limit"
            text = f"![{caption}]({link})\n\n{text}"
        replace_between_markers(markdown_file, text, section)
    print(f"wrote {markdown_file}")


def only(result: dict[str, Any], section: str) -> dict[str, Any]:
    """Return the part of a result that is about one section, its peers and its targets."""
    part = dict(result)
    part["cases"] = cases = [c for c in result["cases"] if section_of(c) == section]
    useful = [OURS, *registry.load(kind_of(cases[0])).PEERS]
    if section != kind_of(cases[0]):  # few peers have a format of low precision
        useful = [n for n in useful if any(n in {**c["results"], **c["wrong"]} for c in cases)]
    part["versions"] = {n: v for n, v in result["versions"].items() if n in useful}
    part["targets"] = [t for t in result.get("targets", []) if section_of(t) == section]
    return part


def second(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what the second kind of machine found: the part of each section, by its name.

    `folder` is that of the results. Without a run of a second machine nothing is returned.
    """
    found = {}
    for path in sorted((folder / SECOND_FOLDER).glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        for section in dict.fromkeys(map(section_of, result["cases"])):
            found[section] = only(result, section)
    return found


def replace_between_markers(path: Path, text: str, section: str = "recurrent") -> None:
    """Put `text` between the section's markers; a file that does not exist is made."""
    first, last = markers(section)
    block = f"{first}\n{text.rstrip()}\n{last}"
    if not path.exists():
        path.write_text(block + "\n", encoding="utf-8")
        return
    old = path.read_text(encoding="utf-8")
    before, start, rest = old.partition(first)
    _, end, after = rest.partition(last)
    if not (start and end):
        raise ValueError(f"treadle bench: {path} has no lines {first} and {last}")
    path.write_text(before + block + after, encoding="utf-8")


def markdown(result: dict[str, Any], other: dict[str, Any] | None = None) -> str:
    """Return one kind: where it was measured, the summary, what was lost, then every case.

    `other` is the same section on the second machine; its figures become three columns more.
    """
    cases = result["cases"]
    there = {case["name"]: case for case in other["cases"]} if other else {}
    kind = registry.load(kind_of(cases[0]))
    unit = {"us": "microseconds", "ms": "milliseconds"}[kind.UNIT]
    parts = [text for text in (_where(result), _summary(result)) if text]
    lost = sorted((c for c in cases if c.get("speedup", 1) < 1), key=lambda c: c["speedup"])
    if any("speedup" in case for case in cases):
        parts.append(f"**Cases lost to a peer: {len(lost)}**")
    if lost:
        parts.append(_table(lost, result, there))
    missed = [c for c in cases if "target" in c and not c["target"]["passed"]]
    if missed:
        title = f"**Cases that miss their target: {len(missed)}**"
        parts += [title, _table(missed, result, there)]
    if result.get("targets"):
        parts.append(_targets(result["targets"], "other targets"))
    if other:
        parts += _elsewhere(other)
    note = kind.NOTE + (WAITING if any("limit_parts_us" in case for case in cases) else "")
    parts.append(
        f"Times are medians in {unit}, {note}, *reached* the share of it that treadle reaches, "
        "and the peers are followed by how many times faster treadle is than the fastest."
        + (f" The last columns are those of {SECOND}, with its fastest peer." if other else "")
    )
    for group, title in kind.GROUPS.items():
        found = [case for case in cases if case["group"] == group]
        if found:
            line = f"<summary>{title} ({len(found)})</summary>"
            parts.append(f"<details>{line}\n\n{_table(found, result, there)}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def _elsewhere(other: dict[str, Any]) -> list[str]:
    """Return what the second machine found, in paragraphs."""
    cases = other["cases"]
    lost = sorted((c for c in cases if c.get("speedup", 1) < 1), key=lambda c: c["speedup"])
    missed = [c for c in cases if "target" in c and not c["target"]["passed"]]
    parts = [
        *(f"**The same on {SECOND}**", _where(other), _summary(other)),
        f"Cases lost to a peer on {SECOND}: {len(lost)}"
        + _listed([(case, f"{case['speedup']:.2f}x") for case in lost]),
        f"Cases that miss their target on {SECOND}: {len(missed)}"
        + _listed([(case, _reached(case)) for case in missed]),
    ]
    if other.get("targets"):
        parts.append(_targets(other["targets"], f"other targets, {SECOND}"))
    return parts


def _listed(figures: list[tuple[dict[str, Any], str]]) -> str:
    """Return the rest of a sentence that names some cases, each with a figure."""
    named = ", ".join(f"`{case['name']}` {figure}" for case, figure in figures)
    return f" ({named})." if named else "."


def _where(result: dict[str, Any]) -> str:
    about = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    threads = "one thread" if result["threads"] == 1 else f"{result['threads']} threads"
    if result.get("pinned_to"):
        threads += " pinned"
    lines = [f"Measured on {result['date']} with", "", f"    {result['command']}", ""]
    lines.append(
        f"on {about['cpu']}, {threads}, Python {about['python']}, "
        f"NumPy {about['numpy']}; {versions}."
    )
    if result.get("limits"):
        more = waits(result["limits"])
        levels = ", ".join(
            f"{level['name']} {level['gb_s']:.0f}" for level in result["limits"]["levels"]
        )
        lines.append(
            f"The machine's limits in the same run: {peaks(result['limits'])}, "
            f"read bandwidth in GB/s: {levels}" + (f"; {more}." if more else ".")
        )
    return "\n".join(lines)


def _summary(result: dict[str, Any]) -> str:
    found = summary(result["cases"])
    lines = []
    if "geometric_mean" in found:
        won = found["compared"] - len(found["lost"])
        counts = ", ".join(f"{n} {name}" for name, n in found["fastest_peers"].items())
        lines.append(
            f"- faster than the fastest peer in {won} of {found['compared']} cases, "
            f"geometric mean {found['geometric_mean']:.2f}x, "
            f"worst {found['worst']['speedup']:.2f}x "
            f"(`{found['worst']['name']}`); the fastest peer was {counts}"
        )
    if found["targets"]:
        met = found["targets"] - len(found["missed"])
        lines.append(f"- targets against the machine's limit met: {met} of {found['targets']}")
    lines += [f"- **wrong answer**: `{name}`" for name in found["wrong"]]
    return "\n".join(lines)


def _table(
    cases: list[dict[str, Any]], result: dict[str, Any], there: dict[str, dict[str, Any]]
) -> str:
    peers = [name for name in result["versions"] if name != OURS]
    titles = ["case", OURS, "limit", "reached", "bound by", "target", *peers]
    titles += ["faster by"] if peers else []
    titles += [SECOND, "reached", "faster by"] if there else []
    rows = [titles, ["---", *["---:"] * (len(titles) - 1)]]
    for case in cases:
        rows.append(_row(case, peers) + (_row_there(there.get(case["name"])) if there else []))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _row(case: dict[str, Any], peers: list[str]) -> list[str]:
    ours, show = case["results"].get(OURS), _unit(case)
    row = [f"`{case['name']}`", show(ours["median_us"]) if ours else "-"]
    if "limit_us" in case:
        row += [show(case["limit_us"]), _reached(case), case["bound_by"]]
    else:
        row += ["-", "-", "-"]
    target = case.get("target")
    allowed = show(target["allowed_us"]) if target else ""
    row.append(f"{'' if target['passed'] else '**missed** '}{allowed}" if target else "-")
    for name in peers:
        if name in case["results"]:
            text = show(case["results"][name]["median_us"])
            row.append(f"**{text}**" if name == case.get("fastest_peer") else text)
        else:
            row.append("wrong" if name in case["wrong"] else "-")
    if peers:
        row.append(f"{case['speedup']:.2f}x" if "speedup" in case else "-")
    return row


def _row_there(case: dict[str, Any] | None) -> list[str]:
    """Return the three columns of the second machine, which may not have run the case."""
    if case is None or OURS not in case["results"]:
        return ["-", "-", "-"]
    factor = f"{case['speedup']:.2f}x ({case['fastest_peer']})" if "speedup" in case else "-"
    return [_unit(case)(case["results"][OURS]["median_us"]), _reached(case), factor]


def _unit(case: dict[str, Any]) -> Callable[[float], str]:
    """Return what writes a time in the unit of the case's kind."""
    return milliseconds if registry.load(kind_of(case)).UNIT == "ms" else microseconds


def _reached(case: dict[str, Any]) -> str:
    return f"{case['of_limit']:.0%}" if "of_limit" in case else "-"


def _targets(entries: list[dict[str, Any]], title: str) -> str:
    rows = [f"| {title} | found | |", "| --- | --- | --- |"]
    rows += [
        f"| {entry['name']} | {entry['text']} | {'ok' if entry['passed'] else '**missed**'} |"
        for entry in entries
    ]
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the report again from a JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m treadle.benchmarks.report", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("json", type=Path, help="what treadle bench --json wrote")
    parser.add_argument("markdown", type=Path, help="the file with the markers")
    options = parser.parse_args(arguments)
    result = json.loads(options.json.read_text(encoding="utf-8"))
    write(result, options.markdown, options.json.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
