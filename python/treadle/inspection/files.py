"""Files that a trace is written to: arrays, a page, or a picture of what there is to see first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.checks import shown
from treadle._storage.files import replaced

if TYPE_CHECKING:
    from treadle._inputs.types import AnyArray
    from treadle.inspection.result import Trace

FUNCTION = "treadle.inspection.Trace.save"
PICTURES = (".png", ".svg", ".pdf")


def write(trace: Trace, path: str | os.PathLike[str]) -> None:
    """Write a trace in the form that the ending of the path says."""
    target = os.fspath(path)
    ending = os.path.splitext(target)[1].lower()
    if ending == ".npz":
        _write_arrays(trace, target)
    elif ending == ".html":
        from treadle.inspection.html import page

        with replaced(target) as file:
            file.write(page(trace).encode())
    elif ending in PICTURES:
        figure = picture(trace)
        with replaced(target) as file:
            figure.savefig(file, format=ending[1:], dpi=120)
    else:
        raise ValueError(
            f"{FUNCTION}: path ends in {shown(ending).split(' (')[0]}, expected .npz, .html, "
            + ", ".join(PICTURES)
        )


def _write_arrays(trace: Trace, target: str) -> None:
    listed = [f"{name}: {', '.join(trace.axes(name))}" for name in trace]
    others: dict[str, AnyArray] = {"axes": np.array(listed, np.str_)}
    if isinstance(trace.output, np.ndarray):
        others["output"] = trace.output
    with replaced(target) as file:
        np.savez(file, **others, **trace.to_dict())  # type: ignore[arg-type]  # names have dots


def picture(trace: Trace) -> Any:
    """Return a figure of Matplotlib with the first attention map, and the first gates and states.

    Raises ValueError for a trace that has nothing of this, ImportError without Matplotlib.
    """
    from treadle.inspection import drawing, plot

    maps = [name for name in trace if name.endswith("probabilities") and trace[name].size]
    maps = [name for name in maps if "key" in trace.axes(name)]
    states = [n for n in trace if n.endswith(".states.hidden") and ".layer" in f".{n}"]
    states = [n for n in states if n.count(".") > 2 and trace[n].size]  # with a direction
    rows: list[Any] = []
    if maps:
        rows.append(lambda ax: plot.attention(trace, maps[0], ax=ax))
    if states:
        place = states[0].removesuffix(".states.hidden")
        head, _, direction = place.rpartition(".")
        prefix, _, number = head.rpartition("layer")
        own: dict[str, Any] = {"layer": int(number), "direction": direction, "prefix": prefix}
        if any(name.startswith(f"{place}.gates.") for name in trace):
            rows.append(lambda ax: plot.gates(trace, ax=ax, **own))
        rows.append(lambda ax: plot.states(trace, ax=ax, **own))
    if not rows:
        raise ValueError(f"{FUNCTION}: there is nothing to draw, expected attention or states")
    return drawing.figure(FUNCTION, rows)
