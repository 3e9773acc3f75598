"""This module makes a model ready to stream: it finds its states, or rewrites it to have some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from treadle._inputs.checks import shown
from treadle.graph.causal import streamed
from treadle.graph.states import find_states, no_state

if TYPE_CHECKING:
    from treadle.graph.model import Model
    from treadle.graph.states import State


def streaming(
    function: str, model: Model, state: Mapping[str, str] | None, time: Any
) -> tuple[Model, list[State]]:
    """Return a model that streams, and its states.

    A model that carries a state is taken as it is. One that does not, or one whose axes of time are
    given, is rewritten so that convolutions and recurrent nodes along time carry theirs.

    Raises TypeError or ValueError for wrong states, and ValueError for a model that needs more than
    the frames so far.
    """
    if time is not None and not isinstance(time, Mapping):
        raise TypeError(f"{function}: time is {shown(time)}, expected a dict from inputs to axes")
    states = find_states(function, model, state, model.graph)
    if states and time is None:
        return model, states
    time = model.time if time is None else time
    pairs = {one.input.name: one.output.name for one in states}
    try:
        rewritten = streamed(function, model.graph, time, pairs)
    except ValueError as error:
        if states or time is not None:
            raise
        also = str(error).removeprefix(f"{function}: ")
        raise ValueError(f"{function}: {no_state(model)}. And {also}") from None
    other = type(model)(rewritten.graph, optimised=True)
    return other, find_states(function, other, rewritten.states)
