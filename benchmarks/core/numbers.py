"""This module writes numbers as text, for the terminal and for Markdown."""

from __future__ import annotations

from typing import Any

from .limits import CALL, CHAIN, FMA


def peaks(found: dict[str, Any]) -> str:
    """Return the measured peaks of multiply-adds, of float32 and of the other formats that were
    run.
    """
    both = {"float32": found["peak_gflops"], **found.get("low_precision_gflops", {})}
    return ", ".join(f"{value:.0f} GFLOP/s {dtype}" for dtype, value in both.items())


def waits(found: dict[str, Any]) -> str:
    """Return how long a step of each cell waits for the one before, and what a call takes.

    The text is empty for a run that was recorded before these were measured.
    """
    if "chain_ns" not in found:
        return ""
    chains = ", ".join(f"{cell} {value:.0f}" for cell, value in found["chain_ns"].items())
    return (
        f"a step waits for the one before, in ns: {chains}; a call takes {found['call_us']:.2f} us"
    )


def microseconds(value: float) -> str:
    """Return at least three significant digits, and no exponent."""
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def milliseconds(value_us: float) -> str:
    """Return the time in milliseconds, with three digits for a fast call, too."""
    value = value_us / 1e3
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"


def with_unit(value_us: float) -> str:
    """Return a time with its unit, in three significant digits or so."""
    value, unit = value_us, "us"
    if value >= 1e6:
        value, unit = value / 1e6, "s"
    elif value >= 1e3:
        value, unit = value / 1e3, "ms"
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f} {unit}"


def rate(case: dict[str, Any], median_us: float) -> str:
    """Return GB/s where reading is the limit, and GFLOP/s elsewhere."""
    if case.get("bound_by", FMA) in (FMA, CHAIN, CALL):
        return f"{case['flops'] / median_us / 1e3:.1f} GFLOP/s"
    return f"{case['bytes_read'] / median_us / 1e3:.1f} GB/s"
