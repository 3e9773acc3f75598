"""The training examples show what they do: a live line (tqdm), a picture of the loss (matplotlib).

Both are optional: without tqdm a training runs without the line, without matplotlib `--plot` says
what to install before anything is trained.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

POINTS = 300  # of a curve: more steps than that are averaged, so that it shows through the noise
# The numbers of a decade that the axis of the loss names: few, so that labels do not overlap.
SPARSE, DENSE = (1, 2, 5), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
COLOURS = ("#D55E00", "#0072B2")  # Okabe and Ito's, told apart with any colour vision


class Live:
    """A line on the terminal: what is done, the rate, the time left and a text such as the loss."""

    def __init__(self, total: int, unit: str, show: bool = True) -> None:
        self._bar = None
        try:
            from tqdm import tqdm
        except ImportError as error:
            if show and sys.stderr.isatty():
                print(f"no live line ({error}): pip install tqdm", file=sys.stderr)
        else:  # None: only on a terminal
            self._bar = tqdm(total=total, unit=unit, disable=None if show else True)

    def close(self) -> None:
        """Leave the line as it is."""
        if self._bar is not None:
            self._bar.close()

    def update(self, text: str) -> None:
        """One more is done."""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self._bar is not None:
            self._bar.clear()
        print(text, flush=True)


def picture(text: str) -> Path:
    """The type of the argument `--plot`: whatever would stop `draw` is said before the training."""
    path = Path(text)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise argparse.ArgumentTypeError(
            f"matplotlib cannot be imported ({error}): pip install treadle[plot]"
        ) from error
    kinds = Figure().canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in kinds:
        raise argparse.ArgumentTypeError(f"{text!r} does not end in one of {', '.join(kinds)}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {path.parent}")
    return path


def draw(path: Path, title: str, unit: str, curves: Mapping[str, Sequence[float]]) -> None:
    """Save the curves, {name: loss of each step}; a later one is dashed over an earlier one."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, losses) in enumerate(curves.items()):
        block = -(-len(losses) // POINTS)
        starts = np.arange(0, len(losses), block)
        sizes = np.diff(np.append(starts, len(losses)))
        axes.plot(
            starts + (sizes + 1) / 2,  # the middle of steps counted from 1
            np.add.reduceat(np.asarray(losses), starts) / sizes,
            color=COLOURS[number % len(COLOURS)],
            linestyle="--" if number else "-",
            label=name,
        )
    axes.set(title=title, xlabel=unit, ylabel="loss", yscale="log", xlim=(0, None))
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=SPARSE if high > 10 * low else DENSE))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")
