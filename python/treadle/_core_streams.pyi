# The classes of treadle._core for streams. This file has their types; there is no such module.
from typing import TypeAlias, final

import numpy as np
import numpy.typing as npt

_Float: TypeAlias = npt.NDArray[np.float32]
_Rows: TypeAlias = npt.NDArray[np.int64] | npt.NDArray[np.bool_]

@final
class Stream:
    """The state of B rows that advance together, and the buffers of one step."""

    def step(self, x: object, out: _Float | None = None) -> _Float: ...
    def run(self, x: object) -> _Float: ...
    def reset(
        self, rows: _Rows | None = None, h: _Float | None = None, c: _Float | None = None
    ) -> None: ...
    def get_state(self) -> tuple[_Float, _Float | None]: ...
    def set_state(self, h: _Float, c: _Float | None) -> None: ...

@final
class StreamSlots:
    """The places of ``capacity`` streams, and a state of ``width`` floats for each that is open."""

    def __init__(self, function: str, capacity: int, width: int) -> None: ...
    def open(self, state: _Float | None = None) -> int:
        """The id of a new stream, or -1 where all are open."""

    def close(self, id: int) -> bool:
        """Return whether the stream was open."""

    def evict(self, seconds: float, most: int) -> int:
        """Close at most ``most`` streams that were not used for so long; return how many."""

    def is_open(self, id: int) -> bool: ...
    def idle_seconds(self, id: int) -> float: ...
    def statistics(self) -> dict[str, int]: ...

@final
class HeldStreams:
    """Some streams that no other call uses until ``release``, and their states [N, width]."""

    def __init__(self, slots: StreamSlots, ids: npt.NDArray[np.int64]) -> None: ...
    def get(self) -> _Float: ...
    def set(self, states: _Float, frames: int = -1) -> None:
        """Replace the states. With ``frames`` >= 0 this is the end of a call of so many frames."""

    def release(self) -> None: ...

@final
class StreamPool:
    """A net and the slots of its streams."""

    def step(
        self,
        ids: npt.NDArray[np.int64],
        frames: object,
        lengths: npt.NDArray[np.int64] | None = None,
    ) -> _Float:
        """[N, I] -> [N, H], [N, T, I] -> [N, T, H], or with lengths [M, I] -> [M, H]."""

    def push(self, id: int, frame: object) -> _Float:
        """[I] -> [H], or [T, I] -> [T, H]."""
