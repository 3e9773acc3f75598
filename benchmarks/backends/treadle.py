"""treadle itself: a stream for single steps, the module for sequences."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

import treadle

from ..cases import Case
from ..data import Array, Outputs, Weights, state_dict
from . import Prepared


def configure(threads: int) -> None:
    """The pool's size."""
    treadle.set_num_threads(threads)


def version() -> str:
    """Version and instruction set."""
    return f"{treadle.__version__} ({treadle.isa()})"


def variants(case: Case, threads: int) -> tuple[str, ...]:
    """One way only: what a user would write."""
    return ("stream",) if case.carried else ("module",)


def module_of(case: Case, weights: list[Weights]) -> Any:
    """The module with these weights loaded."""
    if case.cell == "lstm":
        more: dict[str, Any] = {"proj_size": case.P}
    elif case.cell == "rnn":
        more = {"nonlinearity": case.nonlinearity}
    else:
        more = {}
    more["dtype"] = case.dtype
    kind = {"rnn": treadle.RNN, "lstm": treadle.LSTM, "gru": treadle.GRU}[case.cell]
    made = kind(case.I, case.H, num_layers=case.L, bidirectional=case.D == 2, **more)
    made.load_state_dict(state_dict(case, weights))
    return made


def release() -> None:
    """Nothing outlives what `prepare` returned."""


def prepare(case: Case, weights: list[Weights], x: Array, threads: int, variant: str) -> Prepared:
    """Stream.step into a given array, or a call of the module."""
    made = module_of(case, weights)
    if case.carried:
        out = np.empty((case.B, case.output_size), np.float32)
        step = functools.partial(made.stream(case.B).step, x[0], out)
        return Prepared(step, lambda y: Outputs(y[None].copy()))
    if case.lengths:
        call = functools.partial(made, x, lengths=np.array(case.lengths, np.int64))
    else:
        call = functools.partial(made, x)
    return Prepared(call, lambda result: _outputs(case, result))


def _outputs(case: Case, result: Any) -> Outputs:
    y, state = result
    return Outputs(y, *state) if case.cell == "lstm" else Outputs(y, state)
