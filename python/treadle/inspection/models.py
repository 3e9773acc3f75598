"""Traces of whole models: the gates of their recurrent layers and the maps of their attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle import _core
from treadle._inputs.sequence import SequenceInputs
from treadle.graph.natives import recurrent_parts
from treadle.inspection import recurrent
from treadle.inspection.attention import AXES, PROBABILITIES
from treadle.inspection.choice import Choice
from treadle.inspection.layers import Net
from treadle.inspection.result import Trace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle._inputs.types import AnyArray, Float
    from treadle.graph.ir import Node
    from treadle.graph.model import Model

FUNCTION = "treadle.trace"

_NUMBERS = (("scale", 1.0), ("hidden_score", -np.inf))  # attributes of attention, else these


def model(module: Model, choice: Choice, *args: Any, **named: Any) -> Trace:
    """Trace a call of a whole model."""
    output = module(*args, **named)
    found = Trace(repr(module), output)
    arrays = module._inputs.gathered(args, named)
    values: dict[str, Any] = dict(module.graph.constants)
    values |= {value.name: array for value, array in zip(module.graph.inputs, arrays, strict=True)}
    values |= module.trace(*args, **named)
    names: set[str] = set()
    for number, node in enumerate(module.graph.nodes):
        if node.op not in ("treadle.Recurrent", "treadle.Attention"):
            continue
        name = node.name or f"node{number}"
        name = f"{name}#{number}" if name in names else name
        names.add(name)
        if node.op == "treadle.Recurrent":
            _recurrent(found, choice, name, node, values)
        else:
            _attention(found, choice, name, node, values)
    return found


def _recurrent(
    found: Trace, choice: Choice, name: str, node: Node, values: Mapping[str, Any]
) -> None:
    """Record the gates and states of a recurrent node."""
    parts = recurrent_parts(FUNCTION, node, values.get)
    spec, directions = parts.spec, parts.spec.directions
    given: list[Any] = [values.get(one) if one else None for one in parts.inputs]
    x, h, c, lengths, *masks = given
    mask = masks[0] if masks else None
    first = bool(parts.flags["batch_first"])
    rows = 0 if first else 1
    if parts.flags["broadcast"]:
        batch = max(x.shape[rows], *(s.shape[1] for s in (h, c) if s is not None), 1)
        shape = list(x.shape)
        shape[rows] = batch
        x = np.broadcast_to(x, shape)
        h, c = (None if s is None else np.broadcast_to(s, (len(s), batch, s.shape[2]))
                for s in (h, c))  # fmt: skip
    inputs = SequenceInputs(
        np.ascontiguousarray(x),
        None if h is None else np.ascontiguousarray(h),
        None if c is None or spec.mode != "lstm" else np.ascontiguousarray(c),
        None if lengths is None else np.asarray(lengths, np.int64).reshape(-1),
        None if mask is None else np.ascontiguousarray(mask),
        batch_first=first,
    )
    if parts.flags["continued"] and mask is not None and spec.num_layers > 1:
        # The layers above the first read outputs that begin with the state of another call.
        choice = Choice((0,), choice.heads)
    suffixes = [(i // directions, f"_{i}") for i in range(len(parts.weights))]
    parameters = {
        key + suffix: array
        for (_, suffix), arrays in zip(suffixes, parts.weights, strict=True)
        for key, array in arrays.items()
    }
    absent = dict.fromkeys(spec.shapes())
    parameters = {key + s: None for key in absent for _, s in suffixes} | parameters
    recurrent.record(
        found, Net(spec, parameters, suffixes), inputs, prefix=f"{name}.", choice=choice
    )


def _attention(
    found: Trace, choice: Choice, name: str, node: Node, values: Mapping[str, Any]
) -> None:
    """Record the probabilities of an attention node."""
    given: list[Any] = [values.get(one) if one else None for one in node.inputs]
    q, k, v = (part.transpose(0, 2, 1, 3) for part in given[:3])
    masks = given[3:]
    if node.attributes.get("broadcast"):
        lead = np.broadcast_shapes(q.shape[:2], k.shape[:2], v.shape[:2])
        q, k, v = (np.broadcast_to(part, (*lead, *part.shape[2:])) for part in (q, k, v))
    mask = masks[0] if masks else None
    shape = (*q.shape[:3], k.shape[2])
    scale, hidden = (float(node.attributes.get(key, or_else)) for key, or_else in _NUMBERS)
    options: _core.AttentionOptions = {"scale": scale}
    if mask is not None:
        options["mask"] = mask = _broadcast(mask, shape)
    if mask is not None and mask.dtype == np.bool_ and hidden != -np.inf:
        probabilities = _with_hidden_score(q, k, scale, mask, hidden)
    else:
        probabilities = np.empty(shape, np.float32)
        q, k, v = (np.ascontiguousarray(part, np.float32) for part in (q, k, v))
        _core.attention(FUNCTION, q, k, v, options, None, probabilities)
    found.add(f"{name}.{PROBABILITIES}", choice.of_heads(probabilities), AXES)


def _with_hidden_score(q: Float, k: Float, scale: float, mask: AnyArray, hidden: float) -> Float:
    """Return the probabilities [B, N, S, K] where a hidden key has a score, as in many exports."""
    scores = np.where(mask, np.matmul(q, k.swapaxes(-1, -2)) * np.float32(scale), hidden)
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-np.inf))
    probabilities: Float = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities.astype(np.float32)


def _broadcast(mask: AnyArray, shape: tuple[int, ...]) -> Any:
    """Return a mask over all scores, bool or float32; one that ends early hides the other keys."""
    kind = np.bool_ if mask.dtype == np.bool_ else np.float32
    if mask.ndim and mask.shape[-1] not in (1, shape[-1]):
        missing = [(0, 0)] * (mask.ndim - 1) + [(0, shape[-1] - mask.shape[-1])]
        hidden = False if kind is np.bool_ else -np.inf
        mask = np.pad(mask, missing, constant_values=hidden)
    return np.ascontiguousarray(np.broadcast_to(mask, shape), kind)
