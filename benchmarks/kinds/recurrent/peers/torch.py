"""PyTorch runs modules under inference_mode, and cells for single steps.

Variants: `module` is nn.LSTM / GRU / RNN; `cell` is the function behind nn.LSTMCell and its kin (no
weights are reordered per call, so it wins for single steps); `loop` runs that cell over a short
sequence in Python; `no-onednn` keeps an nn.LSTM off oneDNN, which reorders the weights in every
call. Ragged batches: `packed` is pack_padded_sequence, run and pad_packed_sequence; `padded` runs
every row to the end and leaves what follows a length as it is, which is wrong for a user who does
not mask, and impossible for the reverse direction, but quick. bfloat16 is the same with weights and
x in it. int8 is quantize_dynamic, with each of its engines for this processor; `cell` then is its
LSTMCell or GRUCell. torch.compile does not take recurrent modules, and a compiled cell was twice as
slow (2.13).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ....core.kind import Prepared
from ....core.models.recurrent.case import NetCase
from ....core.models.recurrent.data import NetInputs, Outputs, Weights
from ....core.models.recurrent.torch import module_of
from ....core.peers.torch import engines, kept_in, quantized

LOOP_LIMIT = 32


def variants(case: NetCase, threads: int) -> tuple[str, ...]:
    """Return the ways that give the right answer and might be fastest."""
    if case.dtype == "int8":
        return tuple(
            f"{way}, {engine}"
            for way in (("cell", "module") if case.carried else ("module",))
            for engine in engines()
        )
    if case.lengths:
        return ("packed", "padded") if case.D == 1 else ("packed",)
    found = ["module"]
    if case.cell == "lstm" and not case.P:
        found.append("no-onednn")
    if case.carried and not case.P:
        return ("cell", *found)
    if case.T <= LOOP_LIMIT and case.L == case.D == 1 and not case.P:
        found.append("loop")
    return tuple(found)


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def prepare(case: NetCase, inputs: NetInputs, threads: int, variant: str) -> Prepared[Outputs]:
    """Make the net ready in one of the variants."""
    weights, x = inputs
    way, _, engine = variant.partition(", ")
    rows = torch.from_numpy(x).to(kept_in(case))
    if way in ("cell", "loop"):
        return _cells(case, weights, rows, engine)
    return _module(case, weights, rows, way, engine)


def _quantized_cell(case: NetCase, w: Weights, engine: str) -> Any:
    kind = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}[case.cell]
    cell = kind(w.ih.shape[1], case.H)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    cell.load_state_dict(dict(zip(names, map(torch.from_numpy, w[:4]), strict=True)))
    return quantized(torch.nn.Sequential(cell), engine)[0]


def _cells(
    case: NetCase, weights: list[Weights], x: torch.Tensor, engine: str
) -> Prepared[Outputs]:
    lstm = case.cell == "lstm"
    step: Any = {
        "lstm": torch.lstm_cell,
        "gru": torch.gru_cell,
        "rnn": torch.rnn_relu_cell if case.nonlinearity == "relu" else torch.rnn_tanh_cell,
    }[case.cell]
    layers = [tuple(torch.from_numpy(part).to(x.dtype) for part in w[:4]) for w in weights]
    if engine:
        layers = [(_quantized_cell(case, w, engine),) for w in weights]

        def step(value: Any, state: Any, cell: Any) -> Any:
            return cell(value, state)

    zero = torch.zeros(case.B, case.H, dtype=x.dtype)
    start: Any = (zero, zero) if lstm else zero
    if not case.carried:
        (params,) = layers
        rows = x.unbind(0)

        def loop() -> Any:
            state, collected = start, []
            for row in rows:
                state = step(row, state, *params)
                collected.append(state[0] if lstm else state)
            return torch.stack(collected), state

        return Prepared(loop, lambda r: _outputs(case, r[0], _with_layer(r[1])))

    states = [start] * case.L
    numbered = list(enumerate(layers))
    first = x[0]

    def carried() -> Any:
        value = first
        for index, params in numbered:
            states[index] = state = step(value, states[index], *params)
            value = state[0] if lstm else state
        return value

    return Prepared(carried, lambda y: Outputs(y.float().numpy()[None].copy()))


def _module(
    case: NetCase, weights: list[Weights], x: torch.Tensor, variant: str, engine: str
) -> Prepared[Outputs]:
    module = module_of(case, weights).eval().to(x.dtype)
    if engine:
        module = quantized(torch.nn.Sequential(module), engine)[0]
    else:
        module.flatten_parameters()
    call: Callable[..., Any] = module
    if variant == "no-onednn":
        flags = torch.backends.mkldnn.flags

        def without(*arguments: Any) -> Any:
            with flags(enabled=False):
                return module(*arguments)

        call = without

    if case.carried:
        h = torch.zeros(case.L, case.B, case.output_size, dtype=x.dtype)
        c = torch.zeros(case.L, case.B, case.H, dtype=x.dtype)
        state: Any = (h, c) if case.cell == "lstm" else h

        def carried() -> Any:
            nonlocal state
            y, state = call(x, state)
            return y

        return Prepared(carried, lambda y: Outputs(y.float().numpy().copy()))
    if variant == "packed":
        lengths = torch.tensor(case.lengths)
        pack = torch.nn.utils.rnn.pack_padded_sequence
        unpack = torch.nn.utils.rnn.pad_packed_sequence

        def packed() -> Any:
            y, last = call(pack(x, lengths, enforce_sorted=False))
            return unpack(y, total_length=case.T)[0], last

        return Prepared(packed, lambda r: _outputs(case, *r))
    if variant == "padded":
        # The final states are those of the padded end; only y within the lengths is right.
        return Prepared(
            lambda: call(x), lambda r: Outputs(r[0].float().numpy()), beyond_lengths=False
        )
    return Prepared(lambda: call(x), lambda r: _outputs(case, *r))


def _with_layer(state: Any) -> Any:
    return tuple(part[None] for part in state) if isinstance(state, tuple) else state[None]


def _outputs(case: NetCase, y: torch.Tensor, state: Any) -> Outputs:
    states = state if case.cell == "lstm" else (state,)
    return Outputs(y.float().numpy(), *(part.float().numpy() for part in states))
