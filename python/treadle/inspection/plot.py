"""Pictures of traces and gradients on Matplotlib's axes, for notebooks, papers and pages.

Every function takes ``ax=None`` and returns the axes that it drew on; without ``ax`` it makes a
figure. Tokens, where they are known, stand at the axes of time; otherwise the numbers of the steps
do. Colours are told apart in print and by the colour-blind, lines also by their dashes. Texts are
drawn as they are: a dollar sign begins no formula. Matplotlib is the extra ``plot`` and is imported
by the first picture.

A trace has several arrays and sequences, so functions take ``layer`` (a number), ``direction``
("forward" or "reverse"), ``row`` (the sequence of the batch) and ``prefix`` (what stands before
"layer0" in the names, as "1." for the second module of a sequence).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.arrays import to_float32
from treadle._inputs.checks import integer, shown
from treadle.inspection import drawing
from treadle.inspection.colors import limits
from treadle.inspection.record import Record
from treadle.inspection.words import texts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from treadle._inputs.types import ArrayLike, Float
    from treadle.inspection.result import Trace

__all__ = ["attention", "gates", "gradient_flow", "predictions", "saliency", "states"]


def states(
    trace: Trace,
    quantity: str = "hidden",
    *,
    layer: int = 0,
    direction: str = "forward",
    row: int = 0,
    prefix: str = "",
    ax: Any = None,
) -> Any:
    """Draw the states of a layer as a map of units and steps; return the axes.

    ``quantity`` is "hidden", or "cell" of an LSTM. Red is above zero and blue below; a step that
    did not run is grey.

    Raises
    ------
    TypeError, ValueError
        For something that is no trace, and for a layer, direction, quantity or row that it lacks.
    ImportError
        Without Matplotlib.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> trace = treadle.trace(treadle.LSTM(2, 8, seed=0))(np.ones((3, 1, 2), np.float32))
    >>> trace.tokens = ["I", "love", "AI"]
    >>> ax = treadle.inspection.plot.states(trace, "cell")
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['I', 'love', 'AI']
    """
    function = "treadle.inspection.plot.states"
    name = f"{prefix}layer{layer}.{direction}.states.{quantity}"
    values = _sequence(function, trace, name, row)
    return _map_of_units(function, values, name, trace.tokens, ax)


def gates(
    trace: Trace,
    gate: str | None = None,
    *,
    unit: int | None = None,
    layer: int = 0,
    direction: str = "forward",
    row: int = 0,
    prefix: str = "",
    ax: Any = None,
) -> Any:
    """Draw the gates of a layer over time; return the axes.

    With ``gate`` ("forget", "input", "cell", "output"; "reset", "update", "new") the picture is a
    map of units and steps. Otherwise every gate is a line: the mean over all units, or the ``unit``
    with that number.

    Raises
    ------
    TypeError, ValueError
        As `states` does; ValueError for an RNN, which has no gates.
    ImportError
        Without Matplotlib.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> trace = treadle.trace(treadle.GRU(2, 8, seed=0))(np.ones((3, 1, 2), np.float32))
    >>> ax = treadle.inspection.plot.gates(trace, unit=3)
    >>> [line.get_label() for line in ax.get_lines()]
    ['reset', 'update', 'new']
    """
    function = "treadle.inspection.plot.gates"
    place = f"{prefix}layer{layer}.{direction}.gates."
    if gate is not None:
        if not isinstance(gate, str):
            raise TypeError(f"{function}: gate is {shown(gate)}, expected the name of a gate")
        values = _sequence(function, trace, place + gate, row)
        return _map_of_units(function, values, place + gate, trace.tokens, ax)
    names = [name for name in _checked(function, trace) if name.startswith(place)]
    if not names:
        raise ValueError(f"{function}: the trace has no {place}*, expected gates")
    lines = {}
    for name in names:
        values = _sequence(function, trace, name, row)
        if unit is not None:
            integer(function, "unit", unit, 0, values.shape[1] - 1)
        whole = values.mean(axis=1) if unit is None else values[:, unit]
        lines[name.removeprefix(place)] = whole
    ax = drawing.axes(function, ax, (7, 3))
    drawing.lines(ax, lines)
    of = "mean over the units" if unit is None else f"unit {unit}"
    ax.set_ylabel("gate after activation")
    drawing.title(ax, f"{prefix}layer {layer}, {direction}: gates, {of}")
    drawing.steps(ax, len(next(iter(lines.values()))), trace.tokens)
    return ax


def attention(
    trace: Trace,
    name: str | None = None,
    *,
    head: int | None = None,
    row: int = 0,
    tokens: Iterable[str] | None = None,
    queries: Iterable[str] | None = None,
    ax: Any = None,
) -> Any:
    """Draw a map of attention, from each query to the keys that it looks at; return the axes.

    Parameters
    ----------
    trace
        A trace with attention probabilities.
    name
        Their name, such as "layer0.self_attention.probabilities"; None is the first there is.
    head
        The number of a head among those that were recorded; None is the mean over the heads.
    row
        The sequence of the batch.
    tokens, queries
        The words of the keys and of the queries. The tokens of the trace are those of the keys
        where there are so many; queries have the words of the keys in self attention.

    Raises
    ------
    TypeError, ValueError
        For something that is no trace, for what it lacks, and for more or fewer words than there
        are keys or queries.
    ImportError
        Without Matplotlib.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> x = np.random.default_rng(0).random((3, 8), np.float32)
    >>> trace = treadle.trace(treadle.MultiheadAttention(8, 2, seed=0))(x, x, x)
    >>> ax = treadle.inspection.plot.attention(trace, head=1, tokens=["I", "love", "AI"])
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['I', 'love', 'AI']
    """
    function = "treadle.inspection.plot.attention"
    names = [one for one in _checked(function, trace) if "key" in trace.axes(one)]
    if not names or (name is not None and name not in names):
        raise ValueError(f"{function}: the trace has no {shown(name)}, expected one of {names}")
    name = names[0] if name is None else name
    array, axes = trace[name], trace.axes(name)
    for axis, argument, number in (("batch", "row", row), ("head", "head", head)):
        if axis in axes:
            at = axes.index(axis)
            if number is None:
                array = np.asarray(array.mean(at))
            else:
                last = array.shape[at] - 1
                array = np.take(array, integer(function, argument, number, 0, last), at)
            axes = axes[:at] + axes[at + 1 :]
        elif number:
            raise ValueError(f"{function}: {argument} is {shown(number)}, expected 0: there is one")
    if not array.size:
        raise ValueError(f"{function}: {name} has no values")
    of_queries, of_keys = array.shape
    own = trace.tokens if trace.tokens is not None and len(trace.tokens) == of_keys else None
    words = own if tokens is None else _so_many(function, "tokens", tokens, of_keys)
    asking = words if "self" in name or name.startswith("attention") else None
    asking = asking if of_queries == of_keys else None
    asking = asking if queries is None else _so_many(function, "queries", queries, of_queries)
    ax = drawing.axes(function, ax, (5.5, 5))
    drawing.heat_map(ax, array, limits(name, array), "probability")
    mean = ", mean over heads" if "head" in trace.axes(name) and head is None else ""
    drawing.title(ax, name + (mean if head is None else f", head {head}"))
    drawing.labels(ax.xaxis, words, "key", rotation=45)
    drawing.labels(ax.yaxis, asking, "query")
    return ax


def gradient_flow(
    flow: Trace | Mapping[str, Trace],
    quantity: str | None = None,
    *,
    row: int = 0,
    ax: Any = None,
) -> Any:
    """Draw the norms of the gradients of all states over time; return the axes.

    ``flow`` is what `treadle.inspection.gradient_flow` returns, or several by their names, which is
    how an RNN, an LSTM and a GRU are compared. The scale is logarithmic; a norm of zero has no
    place on it and leaves a gap. ``quantity`` is "hidden" or "cell"; None draws both, or, of
    several flows, "hidden".

    Raises
    ------
    TypeError, ValueError
        For something else, and for a row or quantity that a flow lacks.
    ImportError
        Without Matplotlib.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> x = np.ones((9, 1, 2), np.float32)
    >>> nets = {"RNN": treadle.RNN(2, 4, seed=0), "LSTM": treadle.LSTM(2, 4, seed=0)}
    >>> flows = {name: treadle.inspection.gradient_flow(net, x) for name, net in nets.items()}
    >>> ax = treadle.inspection.plot.gradient_flow(flows)
    >>> [line.get_label() for line in ax.get_lines()], ax.get_yscale()
    (['RNN', 'LSTM'], 'log')
    """
    function = "treadle.inspection.plot.gradient_flow"
    several = not isinstance(flow, Record) and isinstance(flow, Mapping)
    flows: dict[str, Any] = dict(flow) if several else {"": flow}
    wanted = "hidden" if several and quantity is None else quantity
    drawn: dict[str, Float] = {}
    for label, one in flows.items():
        names = [name for name in _checked(function, one) if ".norms." in name]
        names = [n for n in names if wanted is None or n.endswith(f".norms.{wanted}")]
        if not names:
            raise ValueError(f"{function}: flow has no norms of {shown(wanted)}, expected some")
        for name in names:
            place = name.replace(".norms.", " ")
            own = place if not label else label if len(names) == 1 else f"{label} {place}"
            drawn[own] = _sequence(function, one, name, row)
    if not drawn:
        raise ValueError(f"{function}: flow is empty, expected a flow at least")
    ax = drawing.axes(function, ax, (7, 3.5))
    positive = {k: np.where(v > 0, v, np.float32(np.nan)) for k, v in drawn.items()}
    drawing.lines(ax, positive)
    ax.set_yscale("log")
    ax.set_ylabel("norm of the gradient")
    drawing.title(ax, "gradient of the loss by the state of each step")
    tokens = next((one.tokens for one in flows.values() if one.tokens is not None), None)
    drawing.steps(ax, max(map(len, drawn.values())), tokens)
    return ax


def saliency(
    found: Trace,
    tokens: Iterable[str] | None = None,
    *,
    row: int = 0,
    ax: Any = None,
) -> Any:
    """Draw the text of a sequence, each token on a ground of its saliency; return the axes.

    ``found`` is what `treadle.inspection.saliency` returns; ``tokens`` are its own unless they are
    given. Red speaks for the loss, blue against it; the scale is beside the text.

    Raises
    ------
    TypeError, ValueError
        For something else, and for more or fewer tokens than steps.
    ImportError
        Without Matplotlib.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> found = treadle.inspection.saliency(treadle.GRU(2, 4, seed=0), np.ones((3, 2), np.float32))
    >>> ax = treadle.inspection.plot.saliency(found, ["I", "love", "AI"])
    >>> [text.get_text() for text in ax.texts]
    ['I', 'love', 'AI']
    """
    function = "treadle.inspection.plot.saliency"
    values = _sequence(function, found, "saliency", row)
    words = found.tokens if tokens is None else texts(function, "tokens", tokens)
    words = tuple(map(str, range(len(values)))) if words is None else words
    if len(words) != len(values):
        raise ValueError(f"{function}: tokens has {len(words)} texts, expected {len(values)}")
    ax = drawing.axes(function, ax, (7, 1 + 0.3 * (1 + sum(map(len, words)) // 60)))
    drawing.shaded_text(ax, words, values, limits("saliency", values))
    return ax


def predictions(
    probabilities: ArrayLike,
    labels: Iterable[str] | None = None,
    *,
    tokens: Iterable[str] | None = None,
    ax: Any = None,
) -> Any:
    """Draw probabilities of classes: bars for one answer, a map for an answer to each step.

    ``probabilities`` is [class] or [time, class], float32. The bars have the largest on top.

    Raises
    ------
    TypeError, ValueError
        For another shape or dtype, and for more or fewer labels or tokens than there are.
    ImportError
        Without Matplotlib.

    Examples
    --------
    >>> import treadle
    >>> ax = treadle.inspection.plot.predictions([0.1, 0.9], ["bad", "good"])
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['good', 'bad']
    """
    function = "treadle.inspection.plot.predictions"
    values = to_float32(function, "probabilities", probabilities)
    if values.ndim not in (1, 2) or not values.size:
        raise ValueError(
            f"{function}: probabilities has shape {values.shape}, expected [class] or [time, class]"
        )
    classes = values.shape[-1]
    names = [str(i) for i in range(classes)]
    if labels is not None:
        names = list(_so_many(function, "labels", labels, classes))
    words = None
    if tokens is not None:
        words = _so_many(function, "tokens", tokens, len(values) if values.ndim == 2 else 0)
    ax = drawing.axes(function, ax, (6, 0.8 + 0.3 * min(classes, 30)))
    if values.ndim == 1:
        order = np.argsort(-values, kind="stable")
        ax.barh(np.arange(classes), values[order], color=drawing.COLORS[0])
        drawing.ticks(ax.yaxis, [names[i] for i in order])
        ax.invert_yaxis()
        ax.set_xlabel("probability")
        return ax
    drawing.heat_map(ax, values.T, (0.0, 1.0), "probability")
    drawing.ticks(ax.yaxis, names)
    drawing.steps(ax, len(values), words)
    return ax


def _map_of_units(
    function: str, values: Float, name: str, tokens: tuple[str, ...] | None, ax: Any
) -> Any:
    """Draw [time, unit] as a map with time to the right."""
    ax = drawing.axes(function, ax, (7, 3.5))
    drawing.heat_map(ax, values.T, limits(name, values), name.rpartition(".")[2])
    ax.set_ylabel("unit")
    drawing.title(ax, name)
    drawing.steps(ax, len(values), tokens)
    return ax


def _sequence(function: str, trace: Trace, name: str, row: int) -> Float:
    """Return an array [time, unit] of one sequence of a trace."""
    if name not in _checked(function, trace):
        have = ", ".join(trace.names[:12])
        raise ValueError(f"{function}: the trace has no {shown(name)}, expected one of {have}")
    array, axes = trace[name], trace.axes(name)
    if "batch" in axes:
        rows = array.shape[axes.index("batch")]
        place = integer(function, "row", row, 0, rows - 1)
        array = np.take(array, place, axes.index("batch"))
    elif row != 0:
        raise ValueError(f"{function}: row is {shown(row)}, expected 0: there is one sequence")
    if "time" not in axes:
        array = array[None]
    if not array.size:
        raise ValueError(f"{function}: {name} has no values, expected a step at least")
    return array


def _checked(function: str, trace: Trace) -> Trace:
    if not isinstance(trace, Record):
        raise TypeError(f"{function}: trace is {shown(trace)}, expected a treadle.inspection.Trace")
    return trace


def _so_many(function: str, name: str, value: Iterable[str], count: int) -> tuple[str, ...]:
    found = texts(function, name, value)
    if len(found) != count:
        raise ValueError(f"{function}: {name} has {len(found)} texts, expected {count}")
    return found
