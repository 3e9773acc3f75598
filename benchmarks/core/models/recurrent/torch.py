"""This module makes PyTorch's recurrent modules, or those of a library with the same classes."""

from __future__ import annotations

from typing import Any

import torch

from .case import NetCase
from .data import Weights, state_dict


def module_of(case: NetCase, weights: list[Weights], library: Any = torch.nn) -> Any:
    """Return nn.LSTM, GRU or RNN with these weights, or the class of another library."""
    kind: Any = {"rnn": library.RNN, "lstm": library.LSTM, "gru": library.GRU}[case.cell]
    more: dict[str, Any] = {"proj_size": case.P} if case.P else {}
    if case.cell == "rnn":
        more["nonlinearity"] = case.nonlinearity
    module = kind(case.I, case.H, num_layers=case.L, bidirectional=case.D == 2, **more)
    named = state_dict(case, weights)
    module.load_state_dict({name: torch.from_numpy(value) for name, value in named.items()})
    module.flatten_parameters()
    return module
