"""The kinds of cases. A kind is a module or package that answers the same questions about its cases:

- ``GROUPS``: group -> title, in the order of the tables; ``PEERS``: who can run them;
- ``grid()``: its cases, each with name, kind, group, reason, quick; ``missing()``: why it cannot run;
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

KINDS = ("recurrent", "attention", "encoder", "training")


def load(name: str) -> ModuleType:
    """The kind with that name."""
    return importlib.import_module(f".{name}", __package__)


def of(case: Any) -> ModuleType:
    """The kind of a case."""
    return load(case.kind)


def grid(names: tuple[str, ...] = KINDS) -> list[Any]:
    """Every case of these kinds."""
    return [case for name in names for case in load(name).grid()]


def about(case: Any) -> dict[str, Any]:
    """A case as data, for the JSON: every field."""
    return dataclasses.asdict(case) | {"lengths": list(case.lengths)}


def peers(names: tuple[str, ...] = KINDS) -> tuple[str, ...]:
    """Peers of any of these kinds, each once."""
    return tuple(dict.fromkeys(peer for name in names for peer in load(name).PEERS))
