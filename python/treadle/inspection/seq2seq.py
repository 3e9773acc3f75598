"""Traces of Seq2Seq: the attention map, and the gates and states of encoder and decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.arrays import to_float32, to_int64
from treadle._inputs.sequence import SequenceInputs
from treadle.inspection import recurrent
from treadle.inspection.layers import Net
from treadle.inspection.result import Trace
from treadle.layers.recurrent_stack import Recurrent

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float
    from treadle.inspection.choice import Choice
    from treadle.layers.recurrent_base import RecurrentBase
    from treadle.seq2seq.module import Seq2Seq
    from treadle.seq2seq.state import State
    from treadle.seq2seq.structure import DecoderLayers


class _Recorder:
    """The layers of a decoder, which keep what its recurrent layer is given."""

    def __init__(self, layers: DecoderLayers) -> None:
        self._layers = layers
        self.calls: list[tuple[Float, State]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layers, name)

    def recur(self, x: Float, state: State) -> tuple[Float, State]:
        self.calls.append((x, state))
        return self._layers.recur(x, state)


def seq2seq(
    module: Seq2Seq,
    choice: Choice,
    x: ArrayLike,
    tokens: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    output_attentions: bool = False,
) -> Trace:
    """Trace a call of Seq2Seq with the tokens that are written."""
    output = module(x, tokens, lengths=lengths, output_attentions=output_attentions)
    found = Trace(repr(module), output)
    ends = None if lengths is None else to_int64("treadle.trace", "lengths", lengths)
    if module._encoder is not None:
        _encoder(found, choice, module, x, ends)
    decoding: Any = module._begun(x, lengths)
    recorder = _Recorder(decoding._decoder)
    decoding._decoder = recorder
    _, probabilities = decoding.read(module._tokens(tokens))
    _decoder(found, choice, recorder)
    if probabilities is not None:
        found.add("decoder.attention.probabilities", probabilities, ("batch", "query", "key"))
    return found


def _net(module: RecurrentBase) -> Net:
    return Net(module._spec, module._packed.parameters, module._suffixes())


def _encoder(found: Trace, choice: Choice, module: Seq2Seq, x: Any, ends: Any) -> None:
    """Record every recurrent layer of the encoder."""
    layers = module._encoder
    assert layers is not None
    for name, step in layers._steps:
        call: Any = step
        if not isinstance(step, Recurrent):
            x = call(x)
            continue
        x = to_float32("treadle.trace", "x", x)
        inputs = SequenceInputs(np.ascontiguousarray(x), lengths=ends, batch_first=True)
        prefix = f"encoder.{name}." if name else "encoder."
        recurrent.record(found, _net(step), inputs, prefix=prefix, choice=choice)
        x = call(x, lengths=ends)[0]


def _decoder(found: Trace, choice: Choice, recorder: _Recorder) -> None:
    """Record the recurrent layer of the decoder, whose calls follow each other in time."""
    module = recorder.recurrent
    parts = []
    for x, state in recorder.calls:
        h, c = state[0], state[1] if len(state) > 1 else None
        inputs = SequenceInputs(np.ascontiguousarray(x), _layers(h), _layers(c), batch_first=True)
        part = Trace("", None)
        recurrent.record(part, _net(module), inputs, choice=choice)
        parts.append(part)
    for name in parts[0] if parts else ():
        whole = np.concatenate([part[name] for part in parts])
        found.add(f"decoder.{name}", whole, parts[0].axes(name))


def _layers(state: Float | None) -> Float | None:
    """Return a state with the axis of layers, which those of cells lack."""
    if state is None:
        return None
    return np.ascontiguousarray(state[None] if state.ndim == 2 else state)
