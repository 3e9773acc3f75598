"""This module draws every case of one kind as a row, and a strip of all kinds for the README.

A row of the first names its case; on its left are the peers' times relative to treadle's, on its
right is the share of the machine's limit that treadle reaches. A page shows the pictures about
850 pixels wide, where their smallest letters are 10 pixels high.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import offset_copy
from PIL import Image

from . import registry
from .kind import OURS, PEERS
from .limits import CALL, CHAIN, FMA
from .summary import geometric_mean, kind_of, summary
from .target import CALL_ALLOWANCE

# Colours of Okabe and Ito: told apart with any colour vision.
OKABE_ITO = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#F0E442")
# The backends of Keras are in no picture with the other peers, and share their colours.
PEER_COLOURS = dict(zip(PEERS, itertools.cycle(OKABE_ITO), strict=False))
BOUND_COLOURS = {
    "L1": "#9ECAE1",
    "L2": "#6BAED6",
    "L3": "#3182BD",
    "DRAM": "#08519C",
    FMA: "#E69F00",
    CHAIN: "#009E73",
    CALL: "#CC79A7",
}
INK, FAINT, ALLOWANCE = "#222222", "#DDDDDD", "#BBBBBB"
SHADE = "#FBE3E0"  # where a peer is faster than treadle
ALLOWED = f"call, up to {CALL_ALLOWANCE * 1e6:g} us"
GAP = 1.7  # rows between two groups, with the title of the second
ROW, WIDTH, HEAD = 0.155, 8.5, 1.35  # inches: height of a row, width, what is above and below
RATIOS = (0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200)
COARSE = (0.7, 1, 2, 5, 10, 20, 50, 100, 200)  # where the axis goes beyond WIDE times treadle
WIDE = 15
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.edgecolor": "#888888",
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def draw(result: dict[str, Any], path: Path) -> None:
    """Write the picture of one kind as PNG."""
    cases = [case for case in result["cases"] if OURS in case["results"]]
    compared = any("speedup" in case for case in cases)
    places, groups = _places(cases)
    with plt.rc_context(STYLE):
        figure, all_axes = plt.subplots(
            1,
            2 if compared else 1,
            figsize=(WIDTH, HEAD + ROW * (places[-1] + 2)),
            sharey=True,
            squeeze=False,
            width_ratios=[3, 2] if compared else None,
            layout="constrained",
        )
        axes = list(all_axes[0])
        if compared:
            _peers(axes[0], cases, places)
        _limit(axes[-1], cases, places)
        for axis in axes:
            _frame(axis, [first for _, first in groups])
        names = [case["name"] for case in cases]
        axes[0].set_yticks(places, names, fontfamily="DejaVu Sans Mono", fontsize=7)
        axes[0].set_ylim(places[-1] + 1, places[0] - GAP)
        for title, first in groups:
            axes[0].annotate(
                title,
                (0, first - 0.75),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                weight="bold",
                va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
                zorder=4,
            )
        figure.suptitle(_title(result), x=0.01, ha="left", fontsize=9)
        _save(figure, path)


def strip(rows: dict[str, list[dict[str, Any]]], where: str, path: Path) -> None:
    """Write the picture of all kinds: a row for each, a dot for each case, a line for the mean."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(WIDTH, 0.9 + 0.3 * len(rows)), layout="constrained")
        for place, cases in enumerate(rows.values()):
            ratios = [case["speedup"] for case in cases if "speedup" in case]
            axis.scatter(
                ratios, [place] * len(ratios), s=16, color="#0072B2", alpha=0.4, linewidths=0
            )
            mean = geometric_mean([case for case in cases if "speedup" in case])
            axis.plot([mean, mean], [place - 0.3, place + 0.3], color="#D55E00", linewidth=2)
        _ratio_axis(axis, "treadle slower")
        axis.set_yticks(range(len(rows)), list(rows))
        axis.set_ylim(len(rows) - 0.5, -0.7)
        axis.set_xlabel(
            "times faster than the fastest peer: a dot for each case, a bar for the mean"
        )
        _frame(axis, [])
        axis.set_title(where, loc="left", fontsize=8)
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Write a PNG of 64 colours, a third of the size."""
    figure.savefig(path, dpi=160, facecolor="white")
    plt.close(figure)
    with Image.open(path) as drawn:
        few = drawn.convert("RGB").quantize(64)
    few.save(path, optimize=True)


def _title(result: dict[str, Any]) -> str:
    threads = "one thread" if result["threads"] == 1 else f"{result['threads']} threads"
    text = f"{len(result['cases'])} cases, {threads}, {result['machine']['cpu']}"
    mean = summary(result["cases"]).get("geometric_mean")
    if mean:
        text += f"\nThe fastest peer takes {mean:.1f} times as long as treadle (geometric mean)."
    return text


def _places(cases: list[dict[str, Any]]) -> tuple[list[float], list[tuple[str, float]]]:
    """Return the row of every case and (title, first row) of every group; gaps divide groups."""
    titles = dict(registry.load(kind_of(cases[0])).GROUPS)
    order = list(titles)
    cases.sort(key=lambda case: order.index(case["group"]))
    places: list[float] = []
    groups: list[tuple[str, float]] = []
    last, at = "", 0.0
    for case in cases:
        if case["group"] != last:
            at += GAP if groups else 0
            groups.append((titles[case["group"]], at))
            last = case["group"]
        places.append(at)
        at += 1
    return places, groups


def _peers(axis: Axes, cases: list[dict[str, Any]], places: list[float]) -> None:
    for name, colour in PEER_COLOURS.items():
        points = [
            (case["results"][name]["median_us"] / case["results"][OURS]["median_us"], place)
            for place, case in zip(places, cases, strict=True)
            if name in case["results"]
        ]
        if points:
            xs, ys = zip(*points, strict=True)
            axis.scatter(xs, ys, s=15, color=colour, label=name, linewidths=0, alpha=0.9, zorder=3)
    _ratio_axis(axis, "peer faster")
    axis.set_xlabel("time of a peer relative to treadle's")
    _legend(axis, columns=3)


def _ratio_axis(axis: Axes, shaded: str) -> None:
    """Draw a logarithmic axis with a line at 1 and a shade where treadle is behind."""
    axis.set_xscale("log")
    low, high = axis.get_xlim()
    low, high = min(low, 0.7), max(high, 2.5)
    axis.set_xlim(low, high)
    ratios = RATIOS if high < WIDE else COARSE
    axis.xaxis.set_major_locator(FixedLocator([r for r in ratios if low <= r <= high]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axis.axvspan(low, 1, color=SHADE, zorder=0, label=shaded)
    axis.axvline(1, color=INK, linewidth=1.2, zorder=2)


def _limit(axis: Axes, cases: list[dict[str, Any]], places: list[float]) -> None:
    for name, colour in BOUND_COLOURS.items():
        points = [
            (100 * case["of_limit"], place)
            for place, case in zip(places, cases, strict=True)
            if case.get("bound_by") == name and "of_limit" in case
        ]
        if points:
            shares, ys = zip(*points, strict=True)
            axis.barh(ys, shares, height=0.75, color=colour, label=name, zorder=3)
    calls = [
        (100 * case["of_limit"], 100 * _call_share(case), place)
        for place, case in zip(places, cases, strict=True)
        if case.get("T") == 1 and "of_limit" in case
    ]
    if calls:
        starts, shares, ys = zip(*calls, strict=True)
        axis.barh(ys, shares, left=starts, height=0.75, color=ALLOWANCE, label=ALLOWED, zorder=3)
    axis.axvline(100, color=INK, linewidth=1.2, zorder=2)
    axis.set_xlim(0, 112)
    axis.set_xticks([0, 20, 40, 60, 80, 100], [f"{v} %" for v in (0, 20, 40, 60, 80, 100)])
    axis.set_xlabel("of the machine's limit, by what it is bound")
    _legend(axis, columns=3)


def _legend(axis: Axes, columns: int) -> None:
    """Draw the legend above the axis and the labels of its ticks."""
    figure = axis.get_figure(root=True)
    axis.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        bbox_transform=offset_copy(axis.transAxes, figure, y=18, units="points"),
        ncols=columns,
        frameon=False,
        borderaxespad=0.3,
        columnspacing=1.2,
        handletextpad=0.4,
        handlelength=1,
    )


def _call_share(case: dict[str, Any]) -> float:
    """Return the part of a step's time that is within the allowance for a call from Python.

    The limit of a case has the shortest call in it, unless it was recorded before that was so.
    """
    taken = float(case["results"][OURS]["median_us"])
    rest = taken - float(case["limit_us"])
    allowed = CALL_ALLOWANCE * 1e6 - float(case.get("limit_parts_us", {}).get("call", 0.0))
    return max(0.0, min(rest, allowed)) / taken


def _frame(axis: Axes, firsts: list[float]) -> None:
    """Draw light lines at the ticks and above every group but the first, and ticks at the top."""
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", top=True, labeltop=bool(firsts))
    axis.grid(axis="x", color=FAINT, linewidth=0.7, zorder=1)
    axis.set_axisbelow(True)
    for first in firsts[1:]:
        axis.axhline(first - 0.5 - GAP / 2 - 0.35, color=FAINT, linewidth=0.9, zorder=1)
