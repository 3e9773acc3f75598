"""Pictures of `treadle.inspection.plot` share these pieces: axes, colours, ticks, maps, lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.checks import shown
from treadle.inspection.colors import MISSING
from treadle.inspection.words import short

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from treadle._inputs.types import Float

# Okabe and Ito's palette (Color Universal Design, 2008), which the colour-blind tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
MARKERS = ("o", "s", "^", "D", "v", "x", "*")
MOST_TICKS, MOST_SHORT, MOST_COLUMNS = 64, 24, 68


def axes(function: str, ax: Any, size: tuple[float, float]) -> Any:
    """Return the axes to draw on: those that were given, or those of a new figure."""
    try:
        from matplotlib import pyplot
        from matplotlib.axes import Axes
    except ImportError as error:
        raise ImportError(
            f'{function} needs Matplotlib: pip install "treadle[plot]" ({error})'
        ) from error
    if ax is None:
        return pyplot.subplots(figsize=size, layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise TypeError(f"{function}: ax is {shown(ax)}, expected Matplotlib's axes or None")
    return ax


def title(ax: Any, text: str) -> None:
    """Write a title in which no character has a meaning of its own."""
    ax.set_title(short(text, 100), fontsize=10, parse_math=False)


def ticks(axis: Any, labels: Sequence[str], rotation: float = 0) -> None:
    """Write labels at 0, 1, ... of an axis, at most so many that they can be read."""
    every = -(-len(labels) // MOST_TICKS)
    if len(labels) <= MOST_SHORT and all(len(label) <= 2 for label in labels):
        rotation = 0
    places = range(0, len(labels), every)
    right = {"rotation": rotation, "ha": "right", "rotation_mode": "anchor"} if rotation else {}
    axis.set_ticks(list(places), [short(labels[i]) for i in places], fontsize=9, **right)
    for tick in axis.get_major_ticks():
        tick.label1.set_parse_math(False)


def steps(ax: Any, count: int, tokens: Sequence[str] | None) -> None:
    """Label the axis of time: with a token for each step, or with the steps' numbers."""
    known = tokens is not None and len(tokens) == count
    labels(ax.xaxis, tokens if known else None, "token" if known else "step", rotation=45)


def labels(axis: Any, words: Sequence[str] | None, name: str, rotation: float = 0) -> None:
    """Write words at an axis if they are known, and what the axis is."""
    if words is not None:
        ticks(axis, words, rotation)
    else:
        axis.get_major_locator().set_params(integer=True)
    axis.set_label_text(name)


def heat_map(ax: Any, values: Float, between: tuple[float, float], label: str) -> Any:
    """Draw [rows, columns] as a map of colours with its scale beside it."""
    from matplotlib import colormaps

    low, high = between
    colors = colormaps["RdBu_r" if low < 0 else "Blues"].with_extremes(bad=MISSING)
    shown = np.ma.masked_invalid(values)
    image = ax.imshow(
        shown, cmap=colors, vmin=low, vmax=high, aspect="auto", interpolation="nearest"
    )
    ax.figure.colorbar(image, ax=ax).set_label(short(label, 60), parse_math=False)
    return image


def lines(ax: Any, values: Mapping[str, Float]) -> None:
    """Draw lines over the steps, told apart by colour, dashes and marks, with a legend."""
    for i, (name, line) in enumerate(values.items()):
        ax.plot(
            np.arange(len(line)),
            line,
            color=COLORS[i % len(COLORS)],
            linestyle=DASHES[i % len(DASHES)],
            marker=MARKERS[i % len(MARKERS)] if len(line) <= 32 else None,
            markersize=4,
            label=name,
        )
    for text in ax.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5)).get_texts():
        text.set_parse_math(False)
    ax.grid(alpha=0.3)


def shaded_text(ax: Any, words: Sequence[str], values: Float, between: tuple[float, float]) -> None:
    """Write words in lines, each on a ground whose colour is its value, with the scale beside."""
    from matplotlib import cm, colormaps, colors

    scale = cm.ScalarMappable(colors.Normalize(*between), colormaps["RdBu_r"])
    column, line = 0, 0
    for word, value in zip(words, values, strict=True):
        text = short(word)
        if column and column + len(text) > MOST_COLUMNS:
            column, line = 0, line + 1
        ground = scale.to_rgba(np.asarray(value)) if np.isfinite(value) else MISSING
        red, green, blue = colors.to_rgb(ground)
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5  # ITU-R BT.601: brightness
        ax.text(
            (column + 0.5) / MOST_COLUMNS,
            -line,
            text,
            family="monospace",
            color="white" if dark else "black",
            va="center",
            parse_math=False,
            bbox={"facecolor": ground, "edgecolor": "none", "boxstyle": "square,pad=0.2"},
        )
        column += len(text) + 2
    ax.set(xlim=(0, 1), ylim=(-line - 0.7, 0.7), xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set_visible(False)
    ax.figure.colorbar(scale, ax=ax).set_label("gradient x input")


def figure(function: str, rows: Sequence[Callable[[Any], Any]]) -> Any:
    """Return a figure with one picture below the other, each drawn by a function of its axes.

    The figure belongs to no window and to no list of Matplotlib's, so that nobody has to close it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f'{function} needs Matplotlib: pip install "treadle[plot]" ({error})'
        ) from error
    made = Figure(figsize=(8, 4 * len(rows)), layout="constrained")
    for draw, ax in zip(rows, made.subplots(len(rows), squeeze=False)[:, 0], strict=True):
        draw(ax)
    return made
