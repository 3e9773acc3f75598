"""This module lets threads that use one object take turns."""

from __future__ import annotations

import numpy as np

from treadle import _core


class Turns:
    """A lock for the calls of one object, which Python makes.

    A thread that waits hears Ctrl-C. RuntimeError is raised where waiting would never end: in a
    signal handler that calls the object within a call that it interrupted, and in the child of a
    process that forked while another thread had its turn.
    """

    __slots__ = ("_id", "_slots")

    def __init__(self, function: str) -> None:
        self._slots = _core.StreamSlots(function, 1, 0)  # whose stream is in one call at a time
        self._id = np.array([self._slots.open()], np.int64)

    def take(self) -> _core.HeldStreams:
        """Wait for a turn, which lasts until its ``release``."""
        return _core.HeldStreams(self._slots, self._id)
