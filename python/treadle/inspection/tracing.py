"""`trace` finds how a module is traced, by its class."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from treadle._inputs.arrays import to_float32
from treadle._inputs.sequence import SequenceInputs, prepare
from treadle.inspection import attention, models, recurrent, seq2seq
from treadle.inspection.choice import Choice
from treadle.inspection.layers import Net
from treadle.inspection.result import Trace
from treadle.layers.attention import MultiheadAttention
from treadle.layers.cells import Cell
from treadle.layers.recurrent import LSTM
from treadle.layers.recurrent_stack import Recurrent
from treadle.layers.sequential import Sequential
from treadle.layers.stream import Stream
from treadle.layers.transformer_base import TransformerBase
from treadle.seq2seq.module import Seq2Seq

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle._inputs.types import ArrayLike
    from treadle.layers.recurrent_base import RecurrentBase

FUNCTION = "treadle.trace"


class Tracer:
    """A module that records what goes on inside: ``treadle.trace(module)``.

    A call takes what a call of the module takes, and returns a `Trace`.
    """

    def __init__(self, module: Any, call: Callable[..., Trace], choice: Choice) -> None:
        self.module = module
        self._call, self._choice = call, choice

    def __call__(self, *args: Any, **kwargs: Any) -> Trace:
        """Call the module, and return its output with a record of the call.

        Raises what a call of the module raises.
        """
        return self._call(self.module, self._choice, *args, **kwargs)

    def __repr__(self) -> str:
        return f"treadle.trace({self.module!r})"


def trace(module: Any, *, layers: Any = None, heads: Any = None) -> Tracer:
    """Return a callable that runs a module and records what goes on inside.

    ``treadle.trace(module)(x, ...)`` takes what ``module(x, ...)`` takes and returns a `Trace`. Its
    ``output`` is that of the plain call, with the same bits. Everything else is computed beside it;
    a module that is not traced pays nothing.

    Parameters
    ----------
    module
        A `treadle.RNN`, `treadle.LSTM` or `treadle.GRU`, one of their cells, or a `treadle.Stream`,
        whose call takes x [B, I] as ``step`` does or x [T, B, I] as ``run`` does and carries the
        state on; a `treadle.MultiheadAttention`, `treadle.TransformerEncoderLayer` or
        `treadle.TransformerEncoder`; a model of `treadle.transformers`; a `treadle.Seq2Seq`; a
        `treadle.Sequential`, whose modules are recorded under their names; or a `treadle.Model` of
        Keras, ONNX or PyTorch, whose recurrent layers and attention are, under those of its nodes.
    layers, heads
        The numbers of the layers and of the heads of attention that are recorded, each an integer
        or several; None records all.

    Raises
    ------
    TypeError
        For a module that cannot be traced.
    ValueError
        For a layer or head that the module does not have, when it is called.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> lstm = treadle.LSTM(8, 16, num_layers=2, bidirectional=True, seed=0)
    >>> t = treadle.trace(lstm)(np.ones((5, 3, 8), np.float32))
    >>> t["layer1.reverse.gates.forget"].shape, t.axes("layer1.reverse.gates.forget")
    ((5, 3, 16), ('time', 'batch', 'unit'))
    >>> y, (h_n, c_n) = t.output
    >>> bool(np.all(t["layer1.forward.states.cell"][-1] == c_n[2]))
    True
    """
    choice = Choice.of(layers, heads)
    call = _call_of(module)
    if call is None:
        raise TypeError(
            f"{FUNCTION}: module is of type {type(module).__name__}, expected "
            + ", ".join(dict.fromkeys(kind.__name__ for kind, _ in _KINDS))
            + ", Model or a model of treadle.transformers; treadle.from_torch and "
            "treadle.torch.capture convert modules of PyTorch"
        )
    return Tracer(module, call, choice)


def _call_of(module: Any) -> Callable[..., Trace] | None:
    """Return the function that traces a call of a module, or None."""
    for kind, call in _KINDS:
        if isinstance(module, kind):
            return call
    loaded = sys.modules.get("treadle.transformers.loaded")  # there only if there is a model
    if loaded is not None and isinstance(module, loaded.LoadedModel):
        return attention.pretrained
    whole = sys.modules.get("treadle.graph.model")
    if whole is not None and isinstance(module, whole.Model):
        return models.model
    return None


def _net(module: RecurrentBase) -> Net:
    return Net(module._spec, module._packed.parameters, module._suffixes())


def _layers(
    module: Recurrent,
    choice: Choice,
    x: ArrayLike,
    state: Any = None,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: Any = None,
) -> Trace:
    """Trace a call of RNN, LSTM or GRU."""
    net = _net(module)
    output = module(  # type: ignore[operator]
        x, state, lengths=lengths, mask=mask, resets=resets, reset_state=reset_state
    )
    pairs = [(None, None) if s is None else s for s in (state, reset_state)]
    if not isinstance(module, LSTM):
        pairs = [(state, None), (reset_state, None)]
    inputs, unbatched = prepare(module._sizes, x, pairs[0], lengths, mask, resets, pairs[1])
    found = Trace(repr(module), output)
    recurrent.record(found, net, inputs, ("batch",) if unbatched else (), choice=choice)
    return found


def _cell(module: Cell, choice: Choice, x: ArrayLike, state: Any = None) -> Trace:
    """Trace a step of a cell, whose arrays have no axis of time."""
    net = _net(module)
    output = module(x, state)  # type: ignore[operator]
    x = to_float32(FUNCTION, "x", x)
    without = ("time",) if x.ndim == 2 else ("time", "batch")
    x = x[None] if x.ndim == 2 else x[None, None]
    h, c = (None, None) if state is None else state if module.mode == "lstm" else (state, None)
    sizes = module._sizes
    inputs, _ = prepare(
        sizes,
        x,
        (_rows(h), _rows(c)),
        lengths=None,
        mask=None,
        resets=None,
        reset_state=(None, None),
    )
    found = Trace(repr(module), output)
    recurrent.record(found, net, inputs, without, choice=choice)
    return found


def _rows(state: ArrayLike | None) -> Any:
    """Return the state of a cell with the axis of the batch."""
    if state is None:
        return None
    array = to_float32(FUNCTION, "state", state)
    return array if array.ndim == 2 else array[None]


def _stream(stream: Stream, choice: Choice, x: ArrayLike) -> Trace:
    """Trace a step [B, I] or a chunk [T, B, I] of a stream, which carries its state on."""
    module = stream._module
    net = Net(module._spec, stream._packed.parameters, module._suffixes())
    x = to_float32(FUNCTION, "x", x)
    h, c = stream._native.get_state()
    step = x.ndim == 2
    output = stream.step(x) if step else stream.run(x)
    inputs = SequenceInputs(x[None] if step else x, h, c)
    found = Trace(repr(stream), output)
    recurrent.record(found, net, inputs, ("time",) if step else (), choice=choice)
    return found


def _sequential(module: Sequential, choice: Choice, x: ArrayLike) -> Trace:
    """Trace a sequence: what each of its modules computes, and what it hands on."""
    found = Trace(repr(module), module(x))
    for name, child in module._children:
        call = _call_of(child)
        if call is None:
            x = child(x)  # type: ignore[operator]
        else:
            inner = call(child, choice, x)
            found.include(f"{name}.", inner)
            x = inner.output[0] if isinstance(inner.output, tuple) else inner.output
    return found


_KINDS: list[tuple[type, Callable[..., Trace]]] = [
    (Recurrent, _layers),
    (Cell, _cell),
    (Stream, _stream),
    (Sequential, _sequential),
    (MultiheadAttention, attention.multihead),
    (TransformerBase, attention.encoder),
    (Seq2Seq, seq2seq.seq2seq),
]
