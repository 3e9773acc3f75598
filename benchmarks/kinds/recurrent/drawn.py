"""The drawn cases of the recurrent grid are shapes that nobody has chosen or tuned for.

T, B, I and H are drawn log-uniformly, each from 1 to its largest, so that small and large sizes are
as likely as each other. Calls of more than 50 GFLOP, half a second of a core, are drawn again.
"""

from __future__ import annotations

import random

from ...core.models.recurrent.case import NetCase
from ...core.models.recurrent.work import flops

COUNT = 25
MOST = {"T": 1000, "B": 256, "I": 2048, "H": 2048}
MOST_FLOPS = 5e10
CELLS = ("rnn", "lstm", "gru")


def drawn() -> list[NetCase]:
    """Return the same cases in every run: RNN, LSTM and GRU in turn."""
    numbers = random.Random(COUNT)
    found: list[NetCase] = []
    while len(found) < COUNT:
        t, b, i, h = (round(most ** numbers.random()) for most in MOST.values())
        cell, quick = CELLS[len(found) % len(CELLS)], len(found) == 0
        case = NetCase(cell, "drawn", t, b, i, h, "drawn at random", quick=quick)
        if flops(case) <= MOST_FLOPS:
            found.append(case)
    return found
