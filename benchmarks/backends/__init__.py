"""One file per peer, all with the same five names.

- ``configure(threads)``: called once before the peer is imported (environment variables);
- ``version()``: imports the peer and returns its version;
- ``variants(case, threads)``: the ways worth trying, the run keeps the fastest;
- ``prepare(case, weights, x, threads, variant)``: a `Prepared`;
- ``release()``: called after each case, drops what the peer would keep.

``prepare`` does everything a user can do once: packing, compiling, allocating, converting arrays to
the peer's own type and layout. What is timed is only `Prepared.run`. A case of one step carries its
state from one `run` to the next and starts from zero. Nothing here slows a peer down on purpose;
a setting that makes one faster is welcome.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ..data import Outputs

OURS = "weft"
PEERS = ("torch", "onnxruntime", "openvino", "jax")


class Unsupported(Exception):
    """The peer has no operator for this case."""


@dataclass(frozen=True)
class Prepared:
    """A case made ready on one backend."""

    run: Callable[[], Any]
    outputs: Callable[[Any], Outputs]  # what `run` returned, as NumPy in PyTorch's layout
    beyond_lengths: bool = True  # y beyond a row's length is zero, as it should be


def load(name: str, threads: int) -> tuple[ModuleType, str]:
    """The backend module and the peer's version. ImportError when the peer is not installed."""
    module = importlib.import_module(f".{name}", __package__)
    module.configure(threads)
    return module, module.version()
