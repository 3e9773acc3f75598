"""The training grid: every shape that is timed forward and backward, and why it is there.

Letters as in ../cases.py. A call is one step of training without its optimizer: from x, the weights and
the gradient dy of a loss with respect to y, to the gradients of x and of every weight and bias.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..cases import Case, uniform_lengths

GOAL = "a figure of the speed goal"


@dataclass(frozen=True)
class TrainingCase(Case):
    """One shape of a recurrent net. `lengths`: the loss sees the steps within them alone."""

    kind = "training"


def _padded() -> list[TrainingCase]:
    def case(cell: str, t: int, b: int, i: int, h: int, reason: str, **more: int) -> TrainingCase:
        return TrainingCase(cell, "train", t, b, i, h, reason, **more)  # type: ignore[arg-type]

    return [
        case("lstm", 100, 32, 64, 128, GOAL, quick=True),
        case("lstm", 50, 32, 256, 256, GOAL),
        case("lstm", 25, 64, 512, 512, GOAL),
        case("lstm", 100, 1, 64, 128, GOAL + ": one sequence at a time", quick=True),
        case("gru", 100, 32, 64, 128, GOAL),
        case("gru", 50, 32, 256, 256, GOAL),
        case("gru", 25, 64, 512, 512, "weights beyond L2"),
        case("gru", 100, 1, 64, 128, "the same for a GRU"),
        case("rnn", 50, 32, 256, 256, GOAL),
        case("lstm", 20, 8, 32, 32, "small: what surrounds the kernels counts"),
        case("gru", 8, 64, 8, 96, "examples/train_digits.py", quick=True),
        case("lstm", 50, 16, 128, 128, "a tagger, both directions", L=2, D=2),
    ]


def _ragged() -> list[TrainingCase]:
    steps, rows = 200, 32
    lengths = uniform_lengths(rows, steps)

    def case(cell: str, reason: str, quick: bool = False) -> TrainingCase:
        return TrainingCase(
            cell,
            "train-ragged",
            steps,
            rows,
            64,
            128,
            reason,
            lengths=lengths,
            label="uniform",
            quick=quick,
        )

    return [
        case("lstm", GOAL + ": lengths uniform on [1, T]", quick=True),
        case("gru", GOAL + ": the same lengths"),
    ]


def grid() -> list[TrainingCase]:
    """Every case. Another group, such as one of attention, is another function here."""
    return [*_padded(), *_ragged()]
