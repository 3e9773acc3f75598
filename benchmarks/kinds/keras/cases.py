"""The grid of Keras runs the programs of its tutorials, in Keras and from a file without it.

A call of a `fit` is one epoch of `STEPS` batches, with Adam and the mean squared error; of a
`predict` or `call` it is `model.predict(x)` or `model(x)` of one sample. In the cases of a `file`,
treadle runs the model that Keras has saved, and Keras itself the model in its process.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...core.dtypes import FLOAT32
from ...core.lengths import uniform_lengths
from ...core.models.recurrent.case import GATES, NetCase

FIT, PREDICT, CALL, FILE = "fit", "predict", "call", "file"
STEPS = 32
MASKING, EMBEDDING = "masking", "embedding"
WORDS = 1000  # of the embedding
CALL_US, STEP_US = 60.0, 5.0
EMPTY = "empty"  # a layer in the place of the recurrent one that does nearly nothing


@dataclass(frozen=True)
class KerasCase:
    """One program. The letters are those of the other kinds."""

    group: str
    cell: str
    B: int
    T: int
    reason: str
    I: int = 1
    H: int = 50
    L: int = 1
    D: int = 1
    activation: str = "tanh"
    mask: str = ""  # the layer that makes it
    stateful: bool = False
    steps: int = 1  # batches of a fit
    target_us: float = 0.0
    quick: bool = False
    lengths: tuple[int, ...] = field(default=(), repr=False)
    dtype: str = FLOAT32

    kind = "keras"

    @property
    def name(self) -> str:
        """``keras/fit/lstm-50-relu``: the group, the layer, and what is special."""
        text = f"keras/{self.group}/{self.cell}-{self.H}"
        if self.L > 1:
            text += f"-{self.L}layers"
        if self.D > 1:
            text += "-bi"
        if self.activation != "tanh":
            text += f"-{self.activation}"
        if self.mask:
            text += f"-{self.mask}"
        if self.stateful:
            text += "-stateful"
        return text + ("-step" if self.T == 1 else "")

    @property
    def carried(self) -> bool:
        """Tell whether the layers keep their states from call to call."""
        return self.stateful or self.T == 1

    @property
    def net(self) -> NetCase:
        """The recurrent layers of one batch."""
        return NetCase(
            self.cell,
            self.group,
            self.T,
            self.B,
            self.I,
            self.H,
            self.reason,
            L=self.L,
            D=self.D,
            nonlinearity=self.activation,
            lengths=self.lengths,
        )

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the weights in the order of Keras' `get_weights`."""
        cell = "lstm" if self.cell == EMPTY else self.cell
        outer = GATES[cell] * self.H
        bias = (2, outer) if cell == "gru" else (outer,)  # reset_after is the default
        found: list[tuple[int, ...]] = [(WORDS, self.I)] if self.mask == EMBEDDING else []
        for layer in range(self.L):
            fed = self.I if layer == 0 else self.D * self.H
            found += [(fed, outer), (self.H, outer), bias] * self.D
        return [*found, (self.D * self.H, 1), (1,)]


def _fits() -> list[KerasCase]:
    def case(cell: str, reason: str, t: int = 100, i: int = 1, **more: object) -> KerasCase:
        return KerasCase(FIT, cell, 32, t, reason, i, steps=STEPS, **more)  # type: ignore[arg-type]

    masked = uniform_lengths(32, 100)
    return [
        case("lstm", "the tutorial's program: LSTM(50, activation='relu')", activation="relu"),
        case("gru", "the same with GRU(50)"),
        case("rnn", "the same with SimpleRNN(50)"),
        case("lstm", "rows of all lengths behind Masking", mask=MASKING, lengths=masked),
        case("lstm", "words behind Embedding(mask_zero)", i=16, mask=EMBEDDING, lengths=masked),
        case("lstm", "the state goes on from batch to batch", stateful=True),
        case("lstm", "both directions", D=2),
        case("lstm", "two layers", L=2),
    ]


def _alone(group: str) -> list[KerasCase]:
    reason = {
        PREDICT: "model.predict of one sample: a question at a time",
        CALL: "model(x) of one sample",
    }[group]
    return [
        KerasCase(group, "lstm", 1, 100, reason, activation="relu"),
        KerasCase(group, "gru", 1, 100, reason),
        KerasCase(group, "lstm", 1, 100, reason, D=2),
    ]


def grid() -> list[KerasCase]:
    """Return every case."""
    one, step = "one prediction, and no Keras", "one time step, the state carried, and no Keras"
    files = [
        KerasCase(FILE, "lstm", 1, 100, one, activation="relu", target_us=CALL_US, quick=True),
        KerasCase(FILE, "lstm", 1, 1, step, activation="relu", target_us=STEP_US, quick=True),
        KerasCase(FILE, "gru", 1, 100, one),
    ]
    return [*_fits(), *_alone(PREDICT), *_alone(CALL), *files]


def low_precision() -> list[KerasCase]:
    """Return nothing: the programs are run as they are."""
    return []


def words(case: KerasCase) -> str:
    """Name a case in plain words, as the subject of a sentence."""
    layer = f"{'SimpleRNN' if case.cell == 'rnn' else case.cell.upper()}({case.H})"
    article = "An" if case.cell == "lstm" else "A"
    if case.group == FIT:
        return f"A fit of Keras with {layer}, {case.steps} batches of {case.B} rows,"
    if case.group == FILE:
        what = "step" if case.T == 1 else "prediction"
        return f"A {what} of Keras' {layer} from a file"
    return f"{article} {layer} of Keras on one sample of {case.T} steps"
