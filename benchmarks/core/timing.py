"""This module checks and times one case on every peer, and holds it against the machine."""

from __future__ import annotations

import dataclasses
import functools
import gc
import time
from typing import Any

import numpy as np

from . import limits, machine, registry
from .kind import OURS, Peer, Prepared, Unsupported
from .measure import Effort, estimate, take_turns
from .progress import Progress
from .registry import AnyCase

AnyPeer = Peer[Any, Any, Any]

RATE_ROUNDS = 5  # in so many rounds of a case the machine is measured, too
LEAST_RATES = 3
SETTLE = 0.003  # after so many seconds the idle threads of the last peer no longer spin


class Wrong(Exception):
    """The answer of a peer is further from the reference than allowed."""


@dataclasses.dataclass
class Session:
    """The parts of a run that stay the same from case to case."""

    versions: dict[str, str]  # the versions of treadle and of every peer that was started
    missing: dict[str, str]
    meter: limits.Meter | None
    threads: int
    effort: Effort
    progress: Progress


def time_case(case: AnyCase, session: Session) -> dict[str, Any]:
    """Check and time one case on every peer."""
    kind = registry.of(case)
    inputs = kind.arguments(case)
    want = kind.expected(case, inputs)
    peers = _peers(case.kind, session)
    ready: dict[str, tuple[str, Prepared[Any], float]] = {}
    unsupported: dict[str, str] = {}
    wrong: dict[str, str] = {}
    for name, peer in peers.items():
        try:
            ready[name] = _fastest(case, peer, inputs, session.threads, want)
        except Unsupported as error:
            unsupported[name] = str(error)
        except Wrong as error:
            wrong[name] = str(error)

    sizes = kind.buffer_sizes(case)
    peaks: list[float] = []
    rates: dict[int, list[float]] = {size: [] for size in sizes}

    def measure_machine(turn: int) -> None:
        if session.meter is None or turn >= RATE_ROUNDS:
            return
        peaks.append(session.meter.peak(session.effort.sample, case.dtype))
        for size in sizes:
            rates[size].append(session.meter.bandwidth(size, session.effort.sample))

    def settle(name: str) -> None:
        if session.threads > 1:
            time.sleep(SETTLE)

    runs = {name: prepared.run for name, (_, prepared, _) in ready.items()}
    timings = take_turns(runs, session.effort, measure_machine, settle) if runs else {}
    while session.meter is not None and len(peaks) < LEAST_RATES:  # long calls have few rounds
        measure_machine(len(peaks))
    found = registry.about(case)
    found |= {"name": case.name, "kind": case.kind}
    found |= {"flops": kind.flops(case), "bytes_read": kind.bytes_read(case)}
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
        # depends on neighbours, for treadle as well.
        peak = max(peaks)
        bandwidth = {size: float(np.median(rates[size])) for size in sizes}
        found |= _against_limit(case, found["results"].get(OURS), peak, bandwidth, session)
    found |= _against_peers(found["results"])
    runs.clear()
    ready.clear()
    for peer in peers.values():
        peer.release()
    gc.collect()
    return found


def _peers(kind: str, session: Session) -> dict[str, AnyPeer]:
    """Return treadle and those of the started peers that can run the kind."""
    able = registry.load(kind)
    found = {}
    for name in [name for name in session.versions if name == OURS or name in able.PEERS]:
        try:
            found[name] = able.peer(name)
        except ImportError as error:  # something beside the peer, such as onnx or transformers
            session.missing[f"{name} ({kind})"] = str(error)
    return found


def _fastest(
    case: AnyCase, peer: AnyPeer, inputs: Any, threads: int, want: Any
) -> tuple[str, Prepared[Any], float]:
    """Return (variant, prepared, error) of the fastest variant.

    Each variant is checked before it is timed.
    """
    kind = registry.of(case)
    best: tuple[float, str, Prepared[Any], float] | None = None
    variants = peer.variants(case, threads)
    for variant in variants:
        prepared = peer.prepare(case, inputs, threads, variant)
        error = kind.error(want, kind.answer(case, prepared), prepared)
        if not error <= want.tolerance:
            raise Wrong(f"{variant}: off by {error:.3g}, allowed {want.tolerance:.3g}")
        seconds = estimate(prepared.probe or prepared.run) if len(variants) > 1 else 0.0
        if best is None or seconds < best[0]:
            best = (seconds, variant, prepared, error)
    if best is None:
        raise Unsupported("no variant")
    return best[1:]


def _against_limit(
    case: AnyCase,
    ours: dict[str, Any] | None,
    peak: float,
    bandwidth: dict[int, float],
    session: Session,
) -> dict[str, Any]:
    """Return the limit of a case, what binds it, and how much of it treadle reaches.

    The chain of the steps and the call are measured here, just after the turns.
    """
    assert session.meter is not None
    kind, threads = registry.of(case), session.threads
    chain = functools.partial(session.meter.chain, seconds=session.effort.sample, dtype=case.dtype)
    call = session.meter.call(session.effort.sample)
    rates = limits.Rates(peak, bandwidth.__getitem__, chain, call)
    limit = kind.limit(case, rates)
    binds = limit.bound_by
    if isinstance(binds, int):
        binds = limits.level_of(binds, machine.caches(), threads)
    found: dict[str, Any] = {
        "limit_us": limit.seconds * 1e6,
        "limit_parts_us": {
            "work": limit.work * 1e6,
            "chain": limit.chain * 1e6,
            "call": limit.call * 1e6,
        },
        "bound_by": binds,
        "peak_gflops": peak / 1e9,
        "bandwidth_gb_s": {str(size): rate / 1e9 for size, rate in bandwidth.items()},
    }
    if ours is None:
        return found
    seconds = ours["median_us"] / 1e6
    found["of_limit"] = limit.seconds / seconds
    found["of_peak"] = kind.flops(case) / seconds / peak
    # The targets are about one thread; targets.py compares two threads with one.
    target = kind.target(case, limit, rates) if threads == 1 else None
    if target is not None:
        found["target"] = {
            "name": target.name,
            "allowed_us": target.allowed * 1e6,
            "passed": seconds <= target.allowed,
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
