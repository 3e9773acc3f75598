"""treadle itself is started like a peer."""

from __future__ import annotations

import treadle


def configure(threads: int) -> None:
    """Set the size of the pool."""
    treadle.set_num_threads(threads)


def version() -> str:
    """Return the version and the instruction set."""
    return f"{treadle.__version__} ({treadle.isa()})"
