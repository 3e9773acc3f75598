"""This module makes a model for whole sequences one that streams, where that is exact.

Frame t of an output may depend on the frames up to t and no others. Nodes that work on each frame
alone stay as they are. A convolution along time keeps the last frames of its input, its tail, and a
recurrent node its state: both become inputs and outputs of the graph, so that the stream of such a
model is that of any model with a state. A node that needs the future, or all of time, is refused
with its reason; so is one that no rule knows.

The rules of convolutions and recurrent nodes are in `causal_states`, all others in `causal_rules`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from treadle.graph.causal_rules import RULES as FRAME_RULES
from treadle.graph.causal_site import CausalSite, Refused, Rewriting
from treadle.graph.causal_states import RULES as STATE_RULES
from treadle.graph.inputs import described
from treadle.graph.ir import Graph, Value, subgraphs
from treadle.graph.shapes import infer
from treadle.graph.view import reads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_RULES: dict[str, Callable[[CausalSite], None]] = {**FRAME_RULES, **STATE_RULES}
_TIME = re.compile(r"time|seq|frame|step|len|^t$|^T$|chunk|sample")
_WHY = {
    "Attention": "attention is over all of time",
    "treadle.Attention": "attention is over all of time",
    "GlobalAveragePool": "it pools over all of time",
    "GlobalMaxPool": "it pools over all of time",
    "treadle.GlobalAveragePool": "it pools over all of time",
    "treadle.GlobalMaxPool": "it pools over all of time",
    "InstanceNormalization": "its mean is over all of time",
    "treadle.InstanceNormalization": "its mean is over all of time",
    "GroupNormalization": "its mean is over all of time",
    "CumSum": "its sum is over all of time",
    "Resize": "it changes the number of frames",
    "treadle.Resize": "it changes the number of frames",
}


class Streamed(NamedTuple):
    """This tuple has a graph that takes chunks of frames, and its states as {input: output}."""

    graph: Graph
    states: dict[str, str]


def streamed(
    function: str, graph: Graph, time: Mapping[str, int] | None, states: Mapping[str, str]
) -> Streamed:
    """Return a graph that computes the next frames from the next frames and a state.

    ``time`` gives the axis of time of each input that has one; where it is None, sizes that calls
    choose are looked at. ``states`` are those that the graph has already. Raises ValueError for a
    node that cannot stream.
    """
    known = infer(graph)
    axes = _axes(function, graph, time, states)
    work = Rewriting(graph, known, axes, states)
    for node in graph.nodes:
        try:
            _rewrite(CausalSite(work, node))
        except Refused as refused:
            where = f"node {node.name} ({node.op})" if node.name else node.op
            raise ValueError(
                f"{function}: the model does not stream frame by frame: {where}: {refused}"
            ) from None
    for value in graph.outputs:
        if work.lead.get(value.name) or work.trail.get(value.name):
            raise ValueError(
                f"{function}: the model does not stream frame by frame: its output {value.name} "
                "has frames beyond those of its input"
            )
    return Streamed(work.finished(), {**states, **work.states})


def _rewrite(site: CausalSite) -> None:
    node = site.node
    inner = [name for name in reads(node) if name in site.work.axes]
    if not inner:
        if any(name in site.work.final for name in reads(node)):
            site.work.final.update(filter(None, node.outputs))
        site.work.note_zeros(node)
        site.work.nodes.append(node)
        return
    if subgraphs(node):
        raise Refused("branches and loops over frames are not looked into")
    if any(name in site.work.final for name in node.inputs):
        raise Refused("it mixes frames with a state at the end of all of time")
    rule = _RULES.get(node.op)
    if rule is None:
        raise Refused(_WHY.get(node.op, "it is not known to work on each frame alone"))
    rule(site)


def _axes(
    function: str, graph: Graph, time: Mapping[str, int] | None, states: Mapping[str, str]
) -> dict[str, int]:
    """Return the axis of time of each input that has one."""
    inputs = {value.name: value for value in graph.inputs}
    if time is not None:
        axes = {}
        for name, axis in time.items():
            if name not in inputs or name in states:
                raise ValueError(
                    f"{function}: time has the input {name!r:.100}, expected some of "
                    f"{', '.join(n for n in inputs if n not in states)}"
                )
            rank = len(inputs[name].shape or ())
            if type(axis) is not int or not -rank <= axis < rank:
                raise ValueError(
                    f"{function}: time: the axis of {name} is {axis!r:.100}, expected one of "
                    f"{described(inputs[name])}"
                )
            axes[name] = axis % rank
        return axes
    found = {name: _time_axis(v) for name, v in inputs.items() if name not in states}
    axes = {name: axis for name, axis in found.items() if axis is not None}
    if not axes:
        raise ValueError(
            f"{function}: no input has an axis of time that can be told from its shape: "
            f"{', '.join(f'{n}: {described(v)}' for n, v in inputs.items())}; name it as "
            'time={"input": axis}'
        )
    return axes


def _time_axis(value: Value) -> int | None:
    """Return the axis that calls choose and that is not the batch, or None.

    >>> _time_axis(Value("x", "float32", ("batch", "time", 80)))
    1
    >>> _time_axis(Value("x", "float32", (None, 80, None)))
    2
    """
    free = [axis for axis, size in enumerate(value.shape or ()) if not isinstance(size, int)]
    named = [axis for axis in free if _TIME.search(str((value.shape or ())[axis]))]
    if len(named) == 1:
        return named[0]
    if len(free) == 2 and free[0] == 0:
        return free[1]
    return free[0] if len(free) == 1 and free[0] > 0 else None
