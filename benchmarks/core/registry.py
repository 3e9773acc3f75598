"""This module finds the kinds of cases by their names, and the cases of several kinds."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any, cast

from .dtypes import FLOAT32
from .kind import Case, Kind

KINDS = (
    *("recurrent", "attention", "conv", "encoder", "training", "models", "keras", "generation"),
)

AnyKind = Kind[Any, Any, Any, Any]
AnyCase = Any  # a case of some kind; `Case` says what all of them have


def load(name: str) -> AnyKind:
    """Return the kind of that name."""
    return cast(AnyKind, importlib.import_module(f"..kinds.{name}", __package__))


def of(case: Case) -> AnyKind:
    """Return the kind of a case."""
    return load(case.kind)


def grid(names: tuple[str, ...] = KINDS, dtypes: tuple[str, ...] = (FLOAT32,)) -> list[AnyCase]:
    """Return every case of these kinds, one dtype after the other."""
    found: list[AnyCase] = []
    for name in names:
        kind = load(name)
        for dtype in dtypes:
            if dtype == FLOAT32:
                found += kind.grid()
            else:
                found += [dataclasses.replace(case, dtype=dtype) for case in kind.low_precision()]
    return found


def only_float32(names: tuple[str, ...], dtypes: tuple[str, ...]) -> dict[str, str]:
    """Say what a run in these dtypes leaves out, and why."""
    asked = [dtype for dtype in dtypes if dtype != FLOAT32]
    without = [name for name in names if asked and not load(name).low_precision()]
    return {f"{name} cases in {' and '.join(asked)}": "only float32 is timed" for name in without}


def about(case: AnyCase) -> dict[str, Any]:
    """Return every field of a case, for the JSON."""
    return dataclasses.asdict(case) | {"lengths": list(case.lengths), "dtype": case.dtype}


def peers(names: tuple[str, ...] = KINDS) -> tuple[str, ...]:
    """Return the peers of any of these kinds, each once."""
    return tuple(dict.fromkeys(peer for name in names for peer in load(name).PEERS))
