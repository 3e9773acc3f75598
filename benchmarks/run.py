"""Check, then time: treadle against the machine's limit and, with --peers, against others.

python -m treadle.benchmarks.run      # or: treadle bench
treadle bench --kind recurrent --peers --json benchmarks/results/bench.json
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .core import against, dtypes, limits, machine, peers, registry
from .core.kind import OURS, PEERS
from .core.measure import FULL, QUICK
from .core.progress import Progress
from .core.registry import KINDS, AnyCase
from .core.summary import by_section
from .core.terminal import Screen, width
from .core.timing import Session, time_case

BUSY = 0.12  # share of the machine's CPUs in use by others from which the numbers are doubtful
HEADLINE = "lstm/step/1x1x128x128"  # the case of the first sentence, where it is among the chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    The status is 1 when treadle's own answer to a case is wrong, or when a case has fallen behind
    the run that `--against` names.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(given)
    if options.accuracy:
        _only_accuracy(options)
        return _accuracy(options, _command(given, options))
    try:
        pattern = re.compile(options.filter)
    except re.error as error:
        raise ValueError(
            f"treadle bench: --filter {options.filter!r} is no regular expression: {error}"
        ) from None
    chosen = [
        case
        for case in registry.grid(_kinds(options), dtypes.parse(options.dtype))
        if (case.quick or not options.quick) and pattern.search(case.name)
    ]
    if options.list:
        longest = max((len(case.name) for case in chosen), default=0)
        screen = Screen((), (), "", width())
        for case in chosen:
            print(screen.wrapped(f"{case.name:<{longest}} {case.reason}", " " * (longest + 1)))
        return 0
    if not chosen:
        raise ValueError(
            f"treadle bench: --filter {options.filter!r} matches no case of {options.kind} "
            f"in {options.dtype}"
        )
    recorded = against.read(options.against, options.threads) if options.against else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(torch|jax|openvino|onnx)")
        result = run(chosen, options, _command(given, options), recorded)
    _write(result, options)
    wrong = any(OURS in case["wrong"] for case in result["cases"])
    return 1 if wrong or result.get("against", {}).get("fell") else 0


def _only_accuracy(options: argparse.Namespace) -> None:
    """Refuse what --accuracy has no use for."""
    unused = parser().parse_args([])
    for name in ("kind", "dtype", "filter", "list", "targets", "against"):
        if getattr(options, name) != getattr(unused, name):
            raise ValueError(
                f"treadle bench: --{name} is given with --accuracy, expected without it"
            )


def _accuracy(options: argparse.Namespace, command: str) -> int:
    """Measure what the dtypes lose, instead of what they take."""
    from .kinds import accuracy
    from .kinds.accuracy.report import lines

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session = _session(options, registry.peers(("recurrent", "encoder")))
        result = about(session, command, options.threads, time.time())
        found = accuracy.run(session.versions, session.progress, options.quick)
    rows = [*found["recurrent"], *found.get("encoder", [])]
    used = {row["backend"] for row in rows}  # sentence-transformers has nothing of its own here
    result["versions"] = {n: v for n, v in result["versions"].items() if n in used}
    result["accuracy"] = found
    screen = Screen((), (), "", width())
    for line in lines(result["accuracy"]):
        print(screen.wrapped(line, " " * 8))
    _write(result, options)
    return 0


def _write(result: dict[str, Any], options: argparse.Namespace) -> None:
    """Write the JSON and the report, where they are asked for."""
    if options.json:
        path = Path(options.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"wrote {path}")
    if options.report:
        from . import report

        report.write(result, Path(options.report), Path(options.json or options.report).parent)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    made = argparse.ArgumentParser(prog="treadle bench", description=(__doc__ or "").split("\n")[0])
    made.add_argument(
        "--peers",
        nargs="?",
        const=",".join(PEERS),
        default="",
        metavar="LIST",
        help="also run these if installed (default: " + ",".join(PEERS) + ")",
    )
    made.add_argument(
        "--kind",
        default=",".join(KINDS),
        metavar="LIST",
        help="only these kinds of cases (default: " + ",".join(KINDS) + ")",
    )
    made.add_argument(
        "--dtype",
        default=dtypes.FLOAT32,
        metavar="LIST",
        help="weights in these formats, of " + ",".join(dtypes.DTYPES) + " (default: "
        "float32); recurrent nets, encoders and generation have all, the others only float32",
    )
    made.add_argument("--json", default="", metavar="PATH", help="write everything measured")
    made.add_argument("--threads", type=int, default=1, help="threads and CPUs, for all (1)")
    made.add_argument("--filter", default="", metavar="REGEX", help="only cases it is found in")
    made.add_argument("--quick", action="store_true", help="fewer cases, shorter samples")
    made.add_argument("--list", action="store_true", help="print the cases and their reasons")
    made.add_argument(
        "--accuracy", action="store_true", help="what bfloat16 and int8 lose; nothing is timed"
    )
    made.add_argument(
        "--targets", action="store_true", help="also two threads, ragged, import, ..."
    )
    made.add_argument(
        "--against",
        default="",
        metavar="PATH",
        help="compare with the run in this JSON, in shares of the limit; status 1 if a case fell",
    )
    made.add_argument(
        "--report", default="", metavar="PATH", help="write the tables into this Markdown file"
    )
    return made


def _kinds(options: argparse.Namespace) -> tuple[str, ...]:
    names = tuple(filter(None, options.kind.split(",")))
    if not names or set(names) - set(KINDS):
        raise ValueError(
            f"treadle bench: --kind {options.kind}: expected some of {', '.join(KINDS)}"
        )
    return names


def _command(given: list[str], options: argparse.Namespace) -> str:
    """Return the command as typed in the report's folder: no record holds paths of one machine."""
    folder = Path(options.report).parent if options.report else Path()
    for path in filter(None, (options.json, options.report, options.against)):
        given = [part.replace(path, os.path.relpath(path, folder)) for part in given]
    return shlex.join(["treadle", "bench", *given])


def run(
    chosen: list[AnyCase],
    options: argparse.Namespace,
    command: str,
    recorded: against.Recorded | None = None,
) -> dict[str, Any]:
    """Time the chosen cases; the result is what --json writes.

    A case that fell behind the recorded run is timed once more, because a disturbance passes and a
    slower kernel does not; the better of the two counts.
    """
    started = time.time()
    before = machine.allowed()
    others = machine.used_by_others()
    busy = _busy(others, len(before))
    cpus = machine.pin(options.threads)
    try:
        chosen, skipped = _possible(chosen)
        names = tuple(dict.fromkeys(case.kind for case in chosen))
        session = _session(options, registry.peers(names))
        result = about(session, command, options.threads, started)
        result["missing"] |= skipped | registry.only_float32(
            _kinds(options), dtypes.parse(options.dtype)
        )
        result |= {
            "pinned_to": cpus,
            "used_by_others": round(others, 2),
            "limits": _machine_limits(session, {case.dtype for case in chosen}),
            "cases": [],
        }
        for name in names:
            result |= registry.load(name).describe()
        names_of_peers = [name for name in result["versions"] if name != OURS]
        screen = Screen((case.name for case in chosen), names_of_peers, busy, width())
        first = {}
        if chosen:
            headline = next((case for case in chosen if case.name == HEADLINE), chosen[0])
            session.progress.show(f"1/{len(chosen)}  {headline.name}")
            first[headline.name] = found = time_case(headline, session)
            session.progress.clear()
            words = registry.of(headline).words(headline)
            print(screen.sentence(words, found), end="\n\n")
        print(screen.machine(result), end="\n\n")
        print(screen.heading(), flush=True)
        for number, case in enumerate(chosen):
            session.progress.show(f"{number + 1}/{len(chosen)}  {case.name}")
            found = first[case.name] if case.name in first else time_case(case, session)
            if recorded and recorded.fell(found):
                found = max(found, time_case(case, session), key=lambda case: case["of_limit"])
            result["cases"].append(found)
            session.progress.clear()
            print(screen.line(found), flush=True)
    finally:
        machine.restore(before)
    result["missing"] |= session.missing
    result["summary"] = by_section(result["cases"])
    if recorded:
        result["against"] = against.compare(result["cases"], recorded)
    if options.targets:
        from . import targets

        formats = dtypes.parse(options.dtype)
        result["targets"] = targets.run(session.progress, result, _kinds(options), formats)
    result["seconds"] = round(time.time() - started, 1)
    if not screen.busy:  # somebody may have come later
        screen.busy = _busy(machine.used_by_others(), len(before))
        if screen.busy:
            print("\n" + screen.wrapped(screen.busy))
    print(screen.summary(result))
    return result


def _busy(others: float, cpus: int) -> str:
    """Say that the machine is busy, how that was seen, and what to do.

    An empty text if it is not.
    """
    if others <= BUSY * cpus:
        return ""
    return (
        f"This machine is busy: others used {others:.1f} of its {cpus} CPUs while this command "
        "slept, so times may be too long and targets cannot be judged (?). Run it again when "
        "nothing else runs; `top` shows what does."
    )


def about(session: Session, command: str, threads: int, started: float) -> dict[str, Any]:
    """Return where and when a result was measured, and with what."""
    return {
        "format": 1,
        "command": command,
        "date": time.strftime("%Y-%m-%d", time.gmtime(started)),
        "machine": machine.describe(),
        "versions": session.versions,
        "missing": dict(session.missing),
        "threads": threads,
    }


def _possible(cases: list[AnyCase]) -> tuple[list[AnyCase], dict[str, str]]:
    """Return the cases whose kind can run here, and why others cannot."""
    why = {case.kind: registry.of(case).missing() for case in cases}
    skipped = {f"{name} cases": text for name, text in why.items() if text}
    possible = []
    for case in cases:
        absent = "" if why[case.kind] else registry.of(case).absent(case)
        if absent:
            skipped[case.name] = absent
        elif not why[case.kind]:
            possible.append(case)
    return possible, skipped


def _session(options: argparse.Namespace, useful: tuple[str, ...]) -> Session:
    """Start the peers in `useful`, on which the chosen cases can be run, and no other."""
    names = [OURS, *filter(None, options.peers.split(","))]
    unknown = set(names) - {OURS, *PEERS}
    if unknown:
        raise ValueError(
            f"treadle bench: --peers {options.peers}: expected some of {', '.join(PEERS)}"
        )
    progress = Progress(sys.stderr)
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    for name in [name for name in names if name == OURS or name in useful]:
        progress.show(f"loading {name}")
        try:
            versions[name] = peers.start(name, options.threads)
        except ImportError as error:
            missing[name] = str(error)
    progress.clear()
    meter = None
    if OURS in versions:
        from treadle import _core

        meter = limits.Meter(_core, options.threads)
    effort = FULL if len(versions) > 1 and not options.quick else QUICK
    return Session(versions, missing, meter, options.threads, effort, progress)


def _machine_limits(session: Session, formats: set[str]) -> dict[str, Any]:
    if session.meter is None:
        return {}
    session.progress.show("measuring the machine")
    caches = machine.caches()
    measured = {
        "peak_gflops": session.meter.peak() / 1e9,
        "low_precision_gflops": {
            dtype: session.meter.peak(dtype=dtype) / 1e9
            for dtype in dtypes.DTYPES
            if dtype in formats and dtype != dtypes.FLOAT32
        },
        "levels": [
            {"name": name, "bytes": size, "gb_s": session.meter.bandwidth(size) / 1e9}
            for name, size in limits.levels(caches, session.threads)
        ],
        "chain_ns": {cell: session.meter.chain(cell) * 1e9 for cell in limits.CELLS},
        "call_us": session.meter.call() * 1e6,
    }
    session.progress.clear()
    return measured


if __name__ == "__main__":
    sys.exit(main())
