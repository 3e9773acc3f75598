"""This module shows a run on a terminal: a sentence, the machine, a table, and what it comes to.

No line is longer than the terminal is wide. The table has as many columns as fit, the most telling
ones first; the JSON has all of them.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from .kind import OURS
from .limits import CALL, CHAIN, FMA
from .numbers import microseconds, peaks, rate, waits, with_unit

SHOWN = 5  # names of a list that are shown before the rest is counted
BINDS = {
    "L1": "reading its data from the L1 cache",
    "L2": "reading its data from the L2 cache",
    "L3": "reading its data from the L3 cache",
    "DRAM": "reading its data from memory",
    FMA: "multiplying",
    CHAIN: "the chain of its steps",
    CALL: "a call from Python",
}
ENOUGH = 0.95  # of the peer's time: below that treadle is said to be faster


@dataclass(frozen=True)
class Column:
    """One column: how a case fills it. The lower `rank` is, the sooner a narrow table has it."""

    title: str
    width: int
    rank: int
    text: Callable[[dict[str, Any]], str]


def width() -> int:
    """Return the width of the terminal; 80 where there is none and COLUMNS says nothing else."""
    return max(60, shutil.get_terminal_size((80, 24)).columns)


class Screen:
    """The lines that a run shows, for a terminal of some width."""

    def __init__(self, names: Iterable[str], peers: Iterable[str], busy: str, columns: int) -> None:
        """Choose the columns for cases of these names and for these peers.

        `busy` says why the machine is not quiet; an empty text means that it is.
        """
        self.busy = busy
        self.columns = columns
        self._name = max([*map(len, names), len("case")])
        self._table = self._fitting([*self._ours(), *self._peers(list(peers))])

    def _ours(self) -> list[Column]:
        return [
            Column("us", 8, 0, lambda case: _time(case, OURS)),
            Column("quartiles", 18, 8, _quartiles),
            Column("rate", 14, 9, _rate),
            Column("limit us", 9, 4, lambda case: _us(case.get("limit_us"))),
            Column("of limit", 8, 1, lambda case: _share(case.get("of_limit"))),
            Column("bound by", 8, 6, lambda case: str(case.get("bound_by", "-"))),
            Column("target", 7, 5, self._verdict),
        ]

    def _peers(self, peers: list[str]) -> list[Column]:
        if not peers:
            return []
        each = [Column(name[:11], 11, 7, partial(_time, name=name)) for name in peers]
        return [
            *each,
            Column("fastest peer", 12, 3, lambda case: str(case.get("fastest_peer", "-"))[:12]),
            Column("faster by", 9, 2, _faster),
        ]

    def _fitting(self, every: list[Column]) -> list[Column]:
        """Return the columns that fit beside the name, in the order of the table."""
        room = self.columns - self._name
        chosen = []
        for column in sorted(every, key=lambda column: column.rank):
            if column.width + 1 > room:
                break
            room -= column.width + 1
            chosen.append(column)
        return [column for column in every if column in chosen]

    def _verdict(self, case: dict[str, Any]) -> str:
        if "target" not in case:
            return "-"
        return "ok" if case["target"]["passed"] else "?" if self.busy else "missed"

    def wrapped(self, text: str, indent: str = "") -> str:
        """Return the text in lines that fit; all but the first are indented."""
        return textwrap.fill(
            text,
            self.columns,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )

    def sentence(self, words: str, case: dict[str, Any]) -> str:
        """Say in plain words how long one case takes; `words` is the subject of the sentence."""
        if OURS not in case["results"]:
            return self.wrapped(f"{words}: the answer of treadle is wrong.")
        text = f"{words} takes {with_unit(case['results'][OURS]['median_us'])} here"
        if "speedup" in case:
            text += f", {_compared(case['speedup'], case['fastest_peer'])}."
        elif "limit_us" in case:
            binds, parts = case["bound_by"], case["limit_parts_us"]
            least = with_unit(parts.get(binds, parts["work"]))
            text += f"; {BINDS[binds]} alone takes {least} on this machine."
        else:
            text += "."
        return self.wrapped(text)

    def machine(self, result: dict[str, Any]) -> str:
        """Say what is measured, on which machine and with which versions."""
        about, threads = result["machine"], result["threads"]
        pinned = ", ".join(str(cpu) for cpu in result["pinned_to"])
        count = "one thread" if threads == 1 else f"{threads} threads"
        cpus = "CPU" if threads == 1 else "CPUs"
        versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
        where = f" on {cpus} {pinned}" if pinned else ""
        lines = [f"Machine: {about['cpu']}; {count}{where}; {versions}."]
        if result["limits"]:
            levels = ", ".join(
                f"{level['name']} {level['gb_s']:.0f}" for level in result["limits"]["levels"]
            )
            lines.append(
                f"It multiplies at {peaks(result['limits'])} and reads GB/s: {levels}; "
                f"{waits(result['limits'])}."
            )
        if result["missing"]:
            missing = "; ".join(f"{name} ({why})" for name, why in result["missing"].items())
            lines.append(f"Left out: {missing}.")
        lines.append(
            "Every answer is checked before it is timed. The limit of a case is the time of a call "
            "and of reading its weights and multiplying, or of the chain of its steps if that is "
            "longer; its target is what treadle wants to reach."
        )
        if self.busy:
            lines.append(self.busy)
        return "\n".join(self.wrapped(line, "  ") for line in lines)

    def heading(self) -> str:
        """Return the titles of the columns."""
        titles = [f"{column.title:>{column.width}}" for column in self._table]
        return " ".join([f"{'case':<{self._name}}", *titles]).rstrip()

    def line(self, case: dict[str, Any]) -> str:
        """Return the row of one case, and a line for each peer that was wrong."""
        texts = [f"{column.text(case):>{column.width}}" for column in self._table]
        lines = [" ".join([f"{case['name']:<{self._name}}", *texts]).rstrip()]
        lines += [
            self.wrapped(f"    {name} is wrong: {why}", " " * 8)
            for name, why in case["wrong"].items()
        ]
        return "\n".join(lines)

    def summary(self, result: dict[str, Any]) -> str:
        """Say what the run comes to."""
        lines = ["", f"{_cases(len(result['cases']))} in {result['seconds']:.0f} s."]
        for kind, found in result["summary"].items():
            lines += self._kind(kind, found)
        if "against" in result:
            lines += self._against(result["against"])
        for entry in result.get("targets", []):
            verdict = "ok" if entry["passed"] else "?" if self.busy else "missed"
            lines.append(self.wrapped(f"{verdict:>6}  {entry['name']}: {entry['text']}", " " * 8))
        return "\n".join(lines)

    def _against(self, found: dict[str, Any]) -> list[str]:
        """Say which cases reach less of their limit than in a recorded run."""
        fell = found["fell"]
        text = (
            f"Against the run of {found['recorded']}: {_cases(len(fell))} of {found['compared']} "
            f"fell by more than {found['allowed']:.0%} of the recorded share of the limit."
        )
        if fell and self.busy:
            text += " The machine is busy, so this is no verdict."
        lines = [self.wrapped(text, "  ")]
        for case in sorted(fell, key=lambda case: float(case["now"] / case["recorded"])):
            change = f"{case['recorded']:.1%} then, {case['now']:.1%} now"
            lines.append(self.wrapped(f"  fell  {case['name']}: {change}", " " * 8))
        return lines

    def _kind(self, kind: str, found: dict[str, Any]) -> list[str]:
        text = f"{kind}, {_cases(found['cases'])}."
        if "geometric_mean" in found:
            worst, lost = found["worst"], found["lost"]
            text += (
                f" The fastest peer takes {found['geometric_mean']:.2f} times as long as treadle "
                f"(geometric mean), at worst {worst['speedup']:.2f} times ({worst['name']}); "
                f"lost: {_cases(len(lost))}"
            )
            text += f", {_listed(lost)}." if lost else "."
        if found["targets"]:
            missed = found["missed"]
            text += f" Targets met: {found['targets'] - len(missed)} of {found['targets']}"
            if missed:
                busy = "the others cannot be judged while the machine is busy"
                text += f"; {busy}" if self.busy else f"; missed: {_listed(missed)}"
            text += "."
        if found["wrong"]:
            text += f" Wrong answers of a library: {', '.join(found['wrong'])}."
        return [self.wrapped(text, "  ")]


def _cases(count: int) -> str:
    return "1 case" if count == 1 else f"{count or 'no'} cases"


def _compared(speedup: float, peer: str) -> str:
    if speedup < ENOUGH:
        return f"{1 / speedup:.1f} times as long as {peer}"
    if speedup < 1 / ENOUGH:
        return f"as long as {peer}"
    return f"{speedup:.1f} times as fast as {peer}"


def _listed(names: list[str]) -> str:
    """Return the first names, and how many more the table marks."""
    text = ", ".join(names[:SHOWN])
    more = len(names) - SHOWN
    return f"{text} and {more} more in the table" if more > 0 else text


def _time(case: dict[str, Any], name: str) -> str:
    if name in case["results"]:
        return microseconds(case["results"][name]["median_us"])
    return "WRONG" if name in case["wrong"] else "-"


def _us(value: float | None) -> str:
    return "-" if value is None else microseconds(value)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _quartiles(case: dict[str, Any]) -> str:
    ours = case["results"].get(OURS)
    return f"{microseconds(ours['q1_us'])}..{microseconds(ours['q3_us'])}" if ours else "-"


def _rate(case: dict[str, Any]) -> str:
    ours = case["results"].get(OURS)
    return rate(case, ours["median_us"]) if ours else "-"


def _faster(case: dict[str, Any]) -> str:
    if "speedup" not in case:
        return "-"
    return f"{case['speedup']:.2f}x"
