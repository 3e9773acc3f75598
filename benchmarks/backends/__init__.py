"""One file per peer: how to start it, and the recurrent nets on it.

- ``configure(threads)``: called once before the peer is imported (environment variables);
- ``version()``: imports the peer and returns its version.

What runs the cases of a kind on a peer has three more; for the recurrent nets they are in the same
file, for the other kinds in a folder of that name:

- ``variants(case, threads)``: the ways worth trying, the run keeps the fastest;
- ``prepare(case, *arguments, threads, variant)``: a `Prepared`; the arguments are those of the kind;
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

OURS = "treadle"
PEERS = ("torch", "onnxruntime", "openvino", "jax", "ctranslate2", "sentence_transformers")


class Unsupported(Exception):
    """The peer has no operator for this case."""


@dataclass(frozen=True)
class Prepared:
    """A case made ready on one backend."""

    run: Callable[[], Any]
    outputs: Callable[[Any], Any]  # what `run` returned, as NumPy in PyTorch's layout
    beyond_lengths: bool = True  # y beyond a row's length is zero, as it should be
    probe: Callable[[], Any] | None = None  # a shorter call to check where `run` takes many seconds


def load(name: str, threads: int) -> tuple[ModuleType, str]:
    """The peer's module and version. ImportError when the peer is not installed."""
    module = importlib.import_module(f".{name}", __package__)
    module.configure(threads)
    return module, module.version()
