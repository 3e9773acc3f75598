"""The result as lines of text: what the terminal shows while the cases run."""

from __future__ import annotations

from typing import Any

from .kind import OURS

NAME_WIDTH = 44


def heading(result: dict[str, Any]) -> str:
    """The machine, its limits, the versions and the column titles."""
    about = result["machine"]
    pinned = ",".join(str(cpu) for cpu in result["pinned_to"])
    lines = [f"{about['cpu']}, threads {result['threads']}, pinned to CPU {pinned}"]
    lines += [f"{name} {version}" for name, version in result["versions"].items()]
    lines += [f"{name}: not available ({why})" for name, why in result["missing"].items()]
    if result["limits"]:
        levels = "  ".join(
            f"{level['name']} {level['gb_s']:.0f}" for level in result["limits"]["levels"]
        )
        lines.append(f"peak {peaks(result['limits'])}")
        lines.append(f"read bandwidth, GB/s: {levels}")
    peers = [name for name in result["versions"] if name != OURS]
    columns = [f"{'case':<{NAME_WIDTH}}", f"{'us':>10}", f"{'quartiles':>19}", f"{'rate':>14}"]
    columns += [f"{'limit us':>10}", f"{'reached':>8}", f"{'bound by':>9}", f"{'target':>12}"]
    columns += [f"{name[:11]:>11}" for name in peers]
    if peers:
        columns.append(f"{'best peer':>10}")
    return "\n".join([*lines, "", " ".join(columns)])


def peaks(found: dict[str, Any]) -> str:
    """Multiply-adds, of float32 and of what else was run."""
    both = {"float32": found["peak_gflops"], **found.get("low_precision_gflops", {})}
    return ", ".join(f"{value:.0f} GFLOP/s {dtype}" for dtype, value in both.items())


def microseconds(value: float) -> str:
    """Three significant digits at least, no exponent."""
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def milliseconds(value_us: float) -> str:
    """The same in milliseconds; a fast call in three digits too."""
    value = value_us / 1e3
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"


def rate(case: dict[str, Any], median_us: float) -> str:
    """GB/s where reading is the limit, GFLOP/s elsewhere."""
    if case.get("bound_by", "FMA") == "FMA":
        return f"{case['flops'] / median_us / 1e3:.1f} GFLOP/s"
    return f"{case['bytes_read'] / median_us / 1e3:.1f} GB/s"


def target_text(case: dict[str, Any]) -> str:
    """Say whether the target is met and what it allows."""
    if "target" not in case:
        return "-"
    verdict = "ok" if case["target"]["passed"] else "MISSED"
    return f"{verdict} {microseconds(case['target']['allowed_us'])}"


def case_line(case: dict[str, Any], result: dict[str, Any]) -> str:
    """One case; peers as microseconds, then how many times faster treadle is than the best."""
    ours = case["results"].get(OURS)
    columns = [f"{case['name']:<{NAME_WIDTH}}"]
    if ours is None:
        columns.append(f"{'WRONG' if OURS in case['wrong'] else '-':>10}" + " " * 35)
    else:
        spread = f"{microseconds(ours['q1_us'])}..{microseconds(ours['q3_us'])}"
        columns += [f"{microseconds(ours['median_us']):>10}", f"{spread:>19}"]
        columns.append(f"{rate(case, ours['median_us']):>14}")
    if "limit_us" in case:
        reached = f"{case['of_limit']:.0%}" if "of_limit" in case else "-"
        columns += [f"{microseconds(case['limit_us']):>10}", f"{reached:>8}"]
        columns += [f"{case['bound_by']:>9}", f"{target_text(case):>12}"]
    else:
        columns.append(" " * 42)
    for name in result["versions"]:
        if name == OURS:
            continue
        if name in case["results"]:
            text = microseconds(case["results"][name]["median_us"])
        else:
            text = "WRONG" if name in case["wrong"] else "-"
        columns.append(f"{text:>11}")
    if "speedup" in case:
        columns.append(f"{case['speedup']:>9.2f}x" + ("  LOST" if case["speedup"] < 1 else ""))
    lines = [" ".join(columns).rstrip()]
    lines += [f"    {name} is wrong: {why}" for name, why in case["wrong"].items()]
    return "\n".join(lines)


def summary_lines(result: dict[str, Any]) -> list[str]:
    """The end of the run."""
    lines = ["", f"{len(result['cases'])} cases in {result['seconds']:.0f} s"]
    for kind, found in result["summary"].items():
        lines += _kind_lines(kind, found)
    for entry in result.get("targets", []):
        verdict = "ok" if entry["passed"] else "MISSED"
        lines.append(f"{verdict:>6}  {entry['name']}: {entry['text']}")
    return lines


def _kind_lines(kind: str, found: dict[str, Any]) -> list[str]:
    missed = len(found["missed"])
    lines = [f"{kind}, {found['cases']} cases"]
    if found["targets"]:
        lines.append(f"targets met: {found['targets'] - missed} of {found['targets']}")
        lines += [f"  missed  {name}" for name in found["missed"]]
    if "geometric_mean" in found:
        worst = found["worst"]
        lines.append(
            f"against the fastest peer: geometric mean {found['geometric_mean']:.2f}x, "
            f"worst {worst['speedup']:.2f}x ({worst['name']}), lost {len(found['lost'])}"
        )
        lines += [f"  lost    {name}" for name in found["lost"]]
    return lines + [f"  wrong   {name}" for name in found["wrong"]]
