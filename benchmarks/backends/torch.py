"""PyTorch: modules under inference_mode, cells for single steps.

Variants: `module` is nn.LSTM / GRU / RNN; `cell` is the function behind nn.LSTMCell and its kin
(no weights are reordered per call, so it wins for single steps); `loop` runs that cell over a short
sequence in Python; `no-onednn` keeps an nn.LSTM off oneDNN, which reorders the weights in every
call. Ragged batches: `packed` is pack_padded_sequence, run and pad_packed_sequence; `padded` runs
every row to the end and leaves what follows a length as it is, which is wrong for a user who does
not mask, and impossible for the reverse direction, but quick.
torch.compile does not take recurrent modules, and a compiled cell was twice as slow (2.13).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..cases import Case
from ..data import Array, Outputs, Weights, state_dict
from . import Prepared

LOOP_LIMIT = 32
INFERENCE = torch.inference_mode()


def configure(threads: int) -> None:
    """One pool of that size; inference mode for good, entering it costs a microsecond."""
    torch.set_num_threads(threads)
    if not torch.is_inference_mode_enabled():  # sentence-transformers asks for it, too
        INFERENCE.__enter__()


def version() -> str:
    """PyTorch's version."""
    return str(torch.__version__)


def variants(case: Case, threads: int) -> tuple[str, ...]:
    """Ways that give the right answer and might be fastest."""
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
    """Nothing outlives what `prepare` returned."""


def prepare(case: Case, weights: list[Weights], x: Array, threads: int, variant: str) -> Prepared:
    """One of `variants`."""
    if variant in ("cell", "loop"):
        return _cells(case, weights, torch.from_numpy(x))
    return _module(case, weights, torch.from_numpy(x), variant)


def _cells(case: Case, weights: list[Weights], x: torch.Tensor) -> Prepared:
    lstm = case.cell == "lstm"
    step: Any = {
        "lstm": torch.lstm_cell,
        "gru": torch.gru_cell,
        "rnn": torch.rnn_relu_cell if case.nonlinearity == "relu" else torch.rnn_tanh_cell,
    }[case.cell]
    layers = [tuple(torch.from_numpy(part) for part in w[:4]) for w in weights]
    zero = torch.zeros(case.B, case.H)
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

    return Prepared(carried, lambda y: Outputs(y.numpy()[None].copy()))


def module_of(case: Case, weights: list[Weights], library: Any = torch.nn) -> Any:
    """nn.LSTM, GRU or RNN with these weights, or a library's class of that name."""
    kind: Any = {"rnn": library.RNN, "lstm": library.LSTM, "gru": library.GRU}[case.cell]
    more: dict[str, Any] = {"proj_size": case.P} if case.P else {}
    if case.cell == "rnn":
        more["nonlinearity"] = case.nonlinearity
    module = kind(case.I, case.H, num_layers=case.L, bidirectional=case.D == 2, **more)
    named = state_dict(case, weights)
    module.load_state_dict({name: torch.from_numpy(value) for name, value in named.items()})
    module.flatten_parameters()
    return module


def _module(case: Case, weights: list[Weights], x: torch.Tensor, variant: str) -> Prepared:
    module = module_of(case, weights).eval()
    call: Callable[..., Any] = module
    if variant == "no-onednn":
        flags = torch.backends.mkldnn.flags

        def without(*arguments: Any) -> Any:
            with flags(enabled=False):
                return module(*arguments)

        call = without

    if case.carried:
        h = torch.zeros(case.L, case.B, case.output_size)
        state: Any = (h, torch.zeros(case.L, case.B, case.H)) if case.cell == "lstm" else h

        def carried() -> Any:
            nonlocal state
            y, state = call(x, state)
            return y

        return Prepared(carried, lambda y: Outputs(y.numpy().copy()))
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
        return Prepared(lambda: call(x), lambda r: Outputs(r[0].numpy()), beyond_lengths=False)
    return Prepared(lambda: call(x), lambda r: _outputs(case, *r))


def _with_layer(state: Any) -> Any:
    return tuple(part[None] for part in state) if isinstance(state, tuple) else state[None]


def _outputs(case: Case, y: torch.Tensor, state: Any) -> Outputs:
    if case.cell == "lstm":
        return Outputs(y.numpy(), state[0].numpy(), state[1].numpy())
    return Outputs(y.numpy(), state.numpy())
