"""treadle itself runs single steps as a stream, those of many streams as a pool, and sequences as
a module.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

import treadle

from ....core.kind import Prepared
from ....core.models.recurrent.case import NetCase
from ....core.models.recurrent.data import NetInputs, Outputs, Weights, state_dict


def variants(case: NetCase, threads: int) -> tuple[str, ...]:
    """Return the only way, which is what a user would write."""
    if case.group == "pool":
        return ("pool",)
    return ("stream",) if case.carried else ("module",)


def module_of(case: NetCase, weights: list[Weights]) -> Any:
    """Return the module with these weights."""
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
    """Do nothing: nothing outlives what `prepare` returned."""


def prepare(case: NetCase, inputs: NetInputs, threads: int, variant: str) -> Prepared[Outputs]:
    """Return Stream.step into an array that stays the same, or a call of the module."""
    weights, x = inputs
    made = module_of(case, weights)
    if case.group == "pool":
        # Other streams are open, too, and those of the call are in no order.
        pool = treadle.StreamPool(made, 2 * case.B)
        opened = np.array([pool.open().id for _ in range(2 * case.B)], np.int64)
        ids = np.random.default_rng(0).permutation(opened)[: case.B]
        return Prepared(functools.partial(pool.step, ids, x[0]), lambda y: Outputs(y[None]))
    if case.carried:
        out = np.empty((case.B, case.output_size), np.float32)
        step = functools.partial(made.stream(case.B).step, x[0], out)
        return Prepared(step, lambda y: Outputs(y[None].copy()))
    if case.lengths:
        call = functools.partial(made, x, lengths=np.array(case.lengths, np.int64))
    else:
        call = functools.partial(made, x)
    return Prepared(call, lambda result: _outputs(case, result))


def _outputs(case: NetCase, result: Any) -> Outputs:
    y, state = result
    return Outputs(y, *state) if case.cell == "lstm" else Outputs(y, state)
