"""The picture of one kind: every case as a column; peers above, the machine's limit below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from . import kinds
from .backends import OURS, PEERS
from .limits import STEP_ALLOWANCE
from .summary import kind_of, summary

# Colours of Okabe and Ito: told apart with any colour vision.
OKABE_ITO = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#F0E442")
PEER_COLOURS = dict(zip(PEERS, OKABE_ITO, strict=True))
BOUND_COLOURS = {
    "L1": "#9ECAE1",
    "L2": "#6BAED6",
    "L3": "#3182BD",
    "DRAM": "#08519C",
    "FMA": "#E69F00",
}
INK, FAINT, CALL = "#222222", "#DDDDDD", "#BBBBBB"
GAP = 1.5  # columns between two groups
RATIOS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)


def draw(result: dict[str, Any], path: Path) -> None:
    """Write the picture as PNG."""
    cases = [case for case in result["cases"] if OURS in case["results"]]
    compared = any("speedup" in case for case in cases)
    places, groups = _places(cases)
    style: Any = {
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.edgecolor": "#888888",
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with plt.rc_context(style):
        heights = [3, 2] if compared else [1]
        figure, all_axes = plt.subplots(
            len(heights),
            1,
            figsize=(12, 7 if compared else 3.5),
            sharex=True,
            squeeze=False,
            height_ratios=heights,
            layout="constrained",
        )
        axes = list(all_axes[:, 0])
        if compared:
            _peers(axes[0], cases, places)
        _limit(axes[-1], cases, places)
        for axis in axes:
            _frame(axis, groups)
        axes[-1].set_xticks([(a + b) / 2 for _, a, b in groups], [name for name, _, _ in groups])
        for axis in axes:
            axis.tick_params(axis="x", length=0, pad=6)
        axes[-1].set_xlim(places[0] - 1, places[-1] + 1)
        figure.suptitle(_title(result), x=0.01, ha="left", fontsize=11)
        figure.savefig(path, dpi=150, facecolor="white")
        plt.close(figure)


def _title(result: dict[str, Any]) -> str:
    threads = "one thread" if result["threads"] == 1 else f"{result['threads']} threads"
    text = f"{len(result['cases'])} cases, {threads}, {result['machine']['cpu']}"
    mean = summary(result["cases"]).get("geometric_mean")
    if mean:
        text += f": the fastest peer takes {mean:.1f} times as long as treadle (geometric mean)"
    return text


def _places(cases: list[dict[str, Any]]) -> tuple[list[float], list[tuple[str, float, float]]]:
    """x of every case, and (group, first x, last x), with a gap between groups."""
    order = list(kinds.load(kind_of(cases[0])).GROUPS)
    cases.sort(key=lambda case: order.index(case["group"]))
    places: list[float] = []
    groups: list[tuple[str, float, float]] = []
    at = 0.0
    for case in cases:
        if groups and groups[-1][0] != case["group"]:
            at += GAP
        if not groups or groups[-1][0] != case["group"]:
            groups.append((case["group"], at, at))
        groups[-1] = (case["group"], groups[-1][1], at)
        places.append(at)
        at += 1
    return places, groups


def _peers(axis: Axes, cases: list[dict[str, Any]], places: list[float]) -> None:
    for name, colour in PEER_COLOURS.items():
        points = [
            (place, case["results"][name]["median_us"] / case["results"][OURS]["median_us"])
            for place, case in zip(places, cases, strict=True)
            if name in case["results"]
        ]
        if points:
            xs, ys = zip(*points, strict=True)
            axis.scatter(xs, ys, s=17, color=colour, label=name, linewidths=0, alpha=0.9, zorder=3)
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    low, high = min(low, 0.8), max(high, 2.5)
    axis.set_ylim(low, high)
    axis.yaxis.set_major_locator(FixedLocator([r for r in RATIOS if low <= r <= high]))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axis.axhspan(low, 1, color="#FBE3E0", zorder=0)
    axis.axhline(1, color=INK, linewidth=1.2, zorder=2)
    axis.annotate("treadle", (1.005, 1), xycoords=("axes fraction", "data"), va="center")
    axis.set_ylabel("time relative to treadle")
    _legend(axis, "peers, one dot per case", markerscale=1.4, handletextpad=0.1)


def _limit(axis: Axes, cases: list[dict[str, Any]], places: list[float]) -> None:
    for name, colour in BOUND_COLOURS.items():
        points = [
            (place, 100 * case["of_limit"])
            for place, case in zip(places, cases, strict=True)
            if case.get("bound_by") == name and "of_limit" in case
        ]
        if points:
            xs, ys = zip(*points, strict=True)
            axis.bar(xs, ys, width=0.75, color=colour, label=name, zorder=3)
    calls = [
        (place, 100 * case["of_limit"], 100 * _call_share(case))
        for place, case in zip(places, cases, strict=True)
        if case.get("T") == 1 and "of_limit" in case
    ]
    if calls:
        xs, bottoms, shares = zip(*calls, strict=True)
        axis.bar(
            xs, shares, bottom=bottoms, width=0.75, color=CALL, label="call, up to 1.5 us", zorder=3
        )
    axis.axhline(100, color=INK, linewidth=1.2, zorder=2)
    axis.set_ylim(0, 112)
    axis.set_yticks([0, 20, 40, 60, 80, 100], [f"{v} %" for v in (0, 20, 40, 60, 80, 100)])
    axis.annotate("limit", (1.005, 100), xycoords=("axes fraction", "data"), va="center")
    axis.set_ylabel("of the machine's limit")
    title = "bound by the bandwidth of a cache or of memory, or by FMA"
    if calls:
        title = "bound by the bandwidth of a cache or of memory, by FMA, or by the call of a step"
    _legend(axis, title, handlelength=1, handleheight=1)


def _legend(axis: Axes, title: str, **more: float) -> None:
    """One row above the axis, from the left, after its title."""
    handles, labels = axis.get_legend_handles_labels()
    axis.set_title(title, loc="left", fontsize=9, pad=8)
    axis.legend(
        handles,
        labels,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=len(labels),
        frameon=False,
        borderaxespad=0.3,
        columnspacing=1.2,
        **more,
    )


def _call_share(case: dict[str, Any]) -> float:
    """The part of a step's time that is within the allowance for a call from Python."""
    rest = case["results"][OURS]["median_us"] - case["limit_us"]
    return max(0.0, min(rest, STEP_ALLOWANCE * 1e6)) / case["results"][OURS]["median_us"]


def _frame(axis: Axes, groups: list[tuple[str, float, float]]) -> None:
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.grid(axis="y", color=FAINT, linewidth=0.7, zorder=1)
    axis.set_axisbelow(True)
    for _, first, _ in groups[1:]:
        axis.axvline(first - (1 + GAP) / 2, color=FAINT, linewidth=0.9, zorder=1)
