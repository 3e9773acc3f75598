"""The kinds of cases. A kind is a module or package that answers the same questions about its cases:

- ``GROUPS``: group -> title, in the order of the tables; ``PEERS``: who can run them;
- ``grid()``: its cases in float32, each with name, kind, dtype, group, reason, quick;
- ``narrow()``: those that also run in bfloat16 and int8; ``missing()``: why it cannot run;
- ``describe()``: what the JSON should say beside the cases;
- ``arguments(case)``: what ``prepare`` of a backend gets (weights, inputs);
- ``expected(case, arguments)``: the reference, with a ``tolerance``;
- ``answer(case, prepared)`` and ``error(want, got, prepared)``: what to hold against it;
- ``flops``, ``bytes_read``, ``buffer_sizes``, ``limit_seconds``, ``tightest``, ``bar``: see limits.py;
- ``backend(name)``: the module that runs its cases on a peer.
"""

from __future__ import annotations

import dataclasses
import importlib
from types import ModuleType
from typing import Any

from .dtypes import FLOAT32

KINDS = ("recurrent", "attention", "encoder", "training")


def load(name: str) -> ModuleType:
    """The kind with that name."""
    return importlib.import_module(f".{name}", __package__)


def of(case: Any) -> ModuleType:
    """The kind of a case."""
    return load(case.kind)


def grid(names: tuple[str, ...] = KINDS, dtypes: tuple[str, ...] = (FLOAT32,)) -> list[Any]:
    """Every case of these kinds, one dtype after the other."""
    found: list[Any] = []
    for name in names:
        kind = load(name)
        for dtype in dtypes:
            if dtype == FLOAT32:
                found += kind.grid()
            else:
                found += [dataclasses.replace(case, dtype=dtype) for case in kind.narrow()]
    return found


def only_float32(names: tuple[str, ...], dtypes: tuple[str, ...]) -> dict[str, str]:
    """What a run leaves out, and why."""
    asked = [dtype for dtype in dtypes if dtype != FLOAT32]
    without = [name for name in names if asked and not load(name).narrow()]
    return {f"{name} cases in {' and '.join(asked)}": "only float32 is timed" for name in without}


def about(case: Any) -> dict[str, Any]:
    """A case as data, for the JSON: every field."""
    return dataclasses.asdict(case) | {"lengths": list(case.lengths), "dtype": case.dtype}


def peers(names: tuple[str, ...] = KINDS) -> tuple[str, ...]:
    """Peers of any of these kinds, each once."""
    return tuple(dict.fromkeys(peer for name in names for peer in load(name).PEERS))
