"""Check, then time: weft against the machine's limit and, with --peers, against others.

python -m weft.benchmarks.run            # or: weft bench
weft bench --peers --json benchmarks/results/bench.json --report README.md
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import math
import re
import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from . import backends, limits, machine
from .backends import OURS, PEERS, Prepared, Unsupported
from .cases import Case, grid
from .data import Outputs, make_input, make_weights
from .measure import FULL, QUICK, Effort, estimate, take_turns
from .progress import Progress
from .reference import CARRIED_STEPS, Expected, expected, worst_error
from .tables import case_line, heading, summary_lines

RATE_ROUNDS = 5  # rounds of a case in which the machine is measured too


BUSY = 0.7  # load average at the start from which the numbers are doubtful

SETTLE = 0.003  # seconds after which the last peer's idle threads no longer spin


class Wrong(Exception):
    """A backend's answer is further from the reference than allowed."""


@dataclasses.dataclass
class Session:
    """What stays the same from case to case."""

    loaded: dict[str, ModuleType]
    versions: dict[str, str]
    missing: dict[str, str]
    meter: limits.Meter | None
    threads: int
    effort: Effort
    progress: Progress


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 when weft's own answer to a case is wrong."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(given)
    chosen = [
        case
        for case in grid()
        if (case.quick or not options.quick) and re.search(options.filter, case.name)
    ]
    if options.list:
        for case in chosen:
            print(f"{case.name:<46} {case.reason}")
        return 0
    if not chosen:
        raise ValueError(f"weft bench: --filter {options.filter!r} matches no case")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(torch|jax|openvino|onnx)")
        result = run(chosen, options, shlex.join(["weft", "bench", *given]))
    if options.json:
        path = Path(options.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"wrote {path}")
    if options.report:
        from . import report

        report.write(result, Path(options.report), Path(options.json or options.report).parent)
    return 1 if any(OURS in case["wrong"] for case in result["cases"]) else 0


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="weft bench", description=(__doc__ or "").split("\n")[0])
    made.add_argument(
        "--peers",
        nargs="?",
        const=",".join(PEERS),
        default="",
        metavar="LIST",
        help="also run these if installed (default: " + ",".join(PEERS) + ")",
    )
    made.add_argument("--json", default="", metavar="PATH", help="write everything measured")
    made.add_argument("--threads", type=int, default=1, help="threads and CPUs, for all (1)")
    made.add_argument("--filter", default="", metavar="REGEX", help="only cases it is found in")
    made.add_argument("--quick", action="store_true", help="fewer cases, shorter samples")
    made.add_argument("--list", action="store_true", help="print the cases and their reasons")
    made.add_argument("--bars", action="store_true", help="also two threads, ragged, import, ...")
    made.add_argument(
        "--report", default="", metavar="PATH", help="write the tables into this Markdown file"
    )
    return made


def run(chosen: list[Case], options: argparse.Namespace, command: str) -> dict[str, Any]:
    """Time the chosen cases; the result is what --json writes."""
    started = time.time()
    before = machine.allowed()
    cpus = machine.pin(options.threads)
    try:
        session = _session(options)
        result: dict[str, Any] = {
            "format": 1,
            "command": command,
            "date": time.strftime("%Y-%m-%d", time.gmtime(started)),
            "machine": machine.describe(),
            "versions": session.versions,
            "missing": session.missing,
            "threads": options.threads,
            "pinned_to": cpus,
            "limits": _machine_limits(session),
            "cases": [],
        }
        print(heading(result))
        if result["machine"]["load"] > BUSY:
            print(
                f"load {result['machine']['load']}: others are using this machine", file=sys.stderr
            )
        for number, case in enumerate(chosen):
            session.progress.show(f"{number + 1}/{len(chosen)}  {case.name}")
            found = time_case(case, session)
            result["cases"].append(found)
            session.progress.clear()
            print(case_line(found, result), flush=True)
    finally:
        machine.restore(before)
    result["summary"] = summary(result["cases"])
    if options.bars:
        from . import bars

        result["bars"] = bars.run(session.progress)
    result["seconds"] = round(time.time() - started, 1)
    print("\n".join(summary_lines(result)))
    return result


def _session(options: argparse.Namespace) -> Session:
    names = [OURS, *filter(None, options.peers.split(","))]
    unknown = set(names) - {OURS, *PEERS}
    if unknown:
        raise ValueError(
            f"weft bench: --peers {options.peers}: expected some of {', '.join(PEERS)}"
        )
    progress = Progress(sys.stderr)
    loaded: dict[str, ModuleType] = {}
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    for name in names:
        progress.show(f"loading {name}")
        try:
            loaded[name], versions[name] = backends.load(name, options.threads)
        except ImportError as error:
            missing[name] = str(error)
    progress.clear()
    meter = None
    if OURS in loaded:
        from weft import _core

        meter = limits.Meter(_core, options.threads)
    peers = len(loaded) > 1
    effort = FULL if peers and not options.quick else QUICK
    return Session(loaded, versions, missing, meter, options.threads, effort, progress)


def _machine_limits(session: Session) -> dict[str, Any]:
    if session.meter is None:
        return {}
    session.progress.show("measuring the machine")
    caches = machine.caches()
    measured = {
        "peak_gflops": session.meter.peak() / 1e9,
        "levels": [
            {"name": name, "bytes": size, "gb_s": session.meter.bandwidth(size) / 1e9}
            for name, size in limits.levels(caches, session.threads)
        ],
    }
    session.progress.clear()
    return measured


def time_case(case: Case, session: Session) -> dict[str, Any]:
    """Check and time one case on every backend."""
    weights, x = make_weights(case), make_input(case)
    want = expected(case, weights, x)
    ready: dict[str, tuple[str, Prepared, float]] = {}
    unsupported: dict[str, str] = {}
    wrong: dict[str, str] = {}
    for name, module in session.loaded.items():
        try:
            ready[name] = _fastest(case, module, (weights, x, session.threads), want)
        except Unsupported as error:
            unsupported[name] = str(error)
        except Wrong as error:
            wrong[name] = str(error)

    sizes = limits.buffer_sizes(case)
    peaks: list[float] = []
    rates: dict[int, list[float]] = {size: [] for size in sizes}

    def measure_machine(turn: int) -> None:
        if session.meter is None or turn >= RATE_ROUNDS:
            return
        peaks.append(session.meter.peak(session.effort.sample))
        for size in sizes:
            rates[size].append(session.meter.bandwidth(size, session.effort.sample))

    def settle(name: str) -> None:
        if session.threads > 1:
            time.sleep(SETTLE)

    runs = {name: prepared.run for name, (_, prepared, _) in ready.items()}
    timings = take_turns(runs, session.effort, measure_machine, settle) if runs else {}
    found = _about(case)
    found |= {"unsupported": unsupported, "wrong": wrong, "tolerance": want.tolerance}
    found["results"] = {
        name: {
            "median_us": timing.median * 1e6,
            "q1_us": timing.q1 * 1e6,
            "q3_us": timing.q3 * 1e6,
            "min_us": timing.least * 1e6,
            "turns": timing.turns,
            "calls": timing.calls,
            "variant": ready[name][0],
            "error": ready[name][2],
        }
        for name, timing in timings.items()
    }
    if peaks:
        # Nothing but a disturbance makes the peak smaller; what the caches and the memory give also
        # depends on neighbours, for weft as well.
        peak = max(peaks)
        bandwidth = {size: float(np.median(rates[size])) for size in sizes}
        found |= _against_limit(case, found["results"].get(OURS), peak, bandwidth, session.threads)
    found |= _against_peers(found["results"])
    runs.clear()
    ready.clear()
    for module in session.loaded.values():
        module.release()
    gc.collect()
    return found


def _about(case: Case) -> dict[str, Any]:
    about = dataclasses.asdict(case) | {"name": case.name, "lengths": list(case.lengths)}
    return about | {"flops": limits.flops(case), "bytes_read": limits.bytes_read(case)}


def _fastest(
    case: Case, module: ModuleType, arguments: tuple[Any, ...], want: Expected
) -> tuple[str, Prepared, float]:
    """(variant, prepared, error) of the fastest variant; each is checked before it is timed."""
    best: tuple[float, str, Prepared, float] | None = None
    for variant in module.variants(case, arguments[2]):
        prepared = module.prepare(case, *arguments, variant)
        error = worst_error(want, answer(case, prepared), prepared.beyond_lengths)
        if not error <= want.tolerance:
            raise Wrong(f"{variant}: off by {error:.3g}, allowed {want.tolerance:.3g}")
        seconds = estimate(prepared.run)
        if best is None or seconds < best[0]:
            best = (seconds, variant, prepared, error)
    if best is None:
        raise Unsupported("no variant")
    return best[1:]


def answer(case: Case, prepared: Prepared) -> Outputs:
    """The answer of one call, or of the first steps of a case that carries its state."""
    if not case.carried:
        return prepared.outputs(prepared.run())
    steps = [prepared.outputs(prepared.run()).y for _ in range(CARRIED_STEPS)]
    return Outputs(np.concatenate(steps))


def _against_limit(
    case: Case,
    ours: dict[str, Any] | None,
    peak: float,
    bandwidth: dict[int, float],
    threads: int,
) -> dict[str, Any]:
    limit = limits.limit_seconds(case, peak, bandwidth.__getitem__)
    reading = limits.tightest(case, peak, bandwidth.__getitem__)
    level = limits.level_of(reading, machine.caches(), threads) if reading else "FMA"
    found: dict[str, Any] = {
        "limit_us": limit * 1e6,
        "bound_by": level,
        "peak_gflops": peak / 1e9,
        "bandwidth_gb_s": {str(size): rate / 1e9 for size, rate in bandwidth.items()},
    }
    if ours is None:
        return found
    seconds = ours["median_us"] / 1e6
    found["of_limit"] = limit / seconds
    found["of_peak"] = limits.flops(case) / seconds / peak
    # The bars are about one thread; two are held against one in bars.py.
    bar = limits.bar(case, limit, peak) if threads == 1 else None
    if bar is not None:
        found["bar"] = {
            "name": bar.name,
            "allowed_us": bar.allowed * 1e6,
            "passed": seconds <= bar.allowed,
        }
    return found


def _against_peers(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    others = {name: entry["median_us"] for name, entry in results.items() if name != OURS}
    if not others or OURS not in results:
        return {}
    fastest = min(others, key=others.__getitem__)
    return {
        "fastest_peer": fastest,
        "speedup": others[fastest] / results[OURS]["median_us"],
    }


def summary(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Geometric mean, worst case, losses and missed bars over all cases."""
    compared = [case for case in cases if "speedup" in case]
    bars = [case for case in cases if "bar" in case]
    found: dict[str, Any] = {
        "cases": len(cases),
        "bars": len(bars),
        "missed": [case["name"] for case in bars if not case["bar"]["passed"]],
        "wrong": [case["name"] for case in cases if case["wrong"]],
    }
    if compared:
        worst = min(compared, key=lambda case: case["speedup"])
        total = math.fsum(math.log(case["speedup"]) for case in compared)
        found |= {
            "compared": len(compared),
            "geometric_mean": math.exp(total / len(compared)),
            "worst": {"name": worst["name"], "speedup": worst["speedup"]},
            "lost": [case["name"] for case in compared if case["speedup"] < 1],
            "fastest_peers": {
                name: sum(case["fastest_peer"] == name for case in compared)
                for name in sorted({case["fastest_peer"] for case in compared})
            },
        }
    return found


if __name__ == "__main__":
    sys.exit(main())
