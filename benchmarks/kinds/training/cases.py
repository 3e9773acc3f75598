"""The training grid lists every shape that is timed forward and backward, and why it is there.

The letters are those of the other kinds. A call is one step of training without its optimizer: from
the inputs, the weights and the gradient dy of a loss with respect to the result y, to the gradients
of the inputs and of every weight and bias.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

from ...core.dtypes import Array
from ...core.lengths import uniform_lengths
from ...core.models.attention.case import AttentionCase
from ...core.models.recurrent.case import NetCase

GOAL = "a figure of the speed goal"


@dataclass(frozen=True)
class TrainingCase(NetCase):
    """One shape of a recurrent net. The loss sees the steps within `lengths` alone."""

    kind = "training"


@dataclass(frozen=True)
class AttentionTrainingCase(AttentionCase):
    """One shape of attention."""

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


def _attention() -> list[AttentionTrainingCase]:
    def case(
        b: int, n: int, s: int, e: int, reason: str, causal: bool = False, quick: bool = False
    ) -> AttentionTrainingCase:
        return AttentionTrainingCase(
            "train-attention", b, n, s, s, e, reason, causal=causal, quick=quick
        )

    return [
        case(1, 12, 128, 64, GOAL + ": BERT-base, one sentence", quick=True),
        case(1, 12, 512, 64, GOAL + ": BERT-base at its longest"),
        case(1, 12, 2048, 64, GOAL + ": a long document"),
        case(1, 12, 512, 64, "GPT-2", causal=True),
        case(1, 12, 2048, 64, "GPT-2 at twice its longest", causal=True),
        case(32, 12, 128, 32, "MiniLM, a batch of paragraphs"),
        case(4, 16, 256, 80, "a vision encoder: E = 80"),
    ]


def missing() -> str:
    """Say whether PyTorch is missing: treadle trains through its autograd here, as its users do."""
    return "" if importlib.util.find_spec("torch") else "no torch: pip install treadle[torch]"


AnyCase = TrainingCase | AttentionTrainingCase
# The inputs are (weights, x) of a net or (q, k, v) of attention; then comes dy, the gradient of a
# loss.
TrainingInputs = tuple[Any, Array]


def grid() -> list[AnyCase]:
    """Return every case."""
    return [*_padded(), *_ragged(), *_attention()]


def words(case: AnyCase) -> str:
    """Name a case in plain words, as the subject of a sentence."""
    if isinstance(case, AttentionTrainingCase):
        return f"Attention of {case.S} queries forward and backward"
    rows = "one row" if case.B == 1 else f"{case.B} rows"
    article = "A" if case.cell == "gru" else "An"
    cell = f"{article} {case.cell.upper()} of {case.H} units"
    return f"{cell} forward and backward over {case.T} steps of {rows}"
