"""This module says in types what a case, a kind of cases and a peer have to offer.

A case is one shape that is timed. A kind is a package in `kinds/` whose functions answer the same
questions about each of its cases (`Kind`). A peer is a library that runs the same cases; treadle is
run in the same way. Starting a peer is one thing (`Library`, `core/peers/`), and running the cases
of a kind on it is another (`Peer`, `kinds/*/peers/`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from .limits import Limit, Rates
from .target import Result, Target

OURS = "treadle"
PEERS = (
    *("torch", "onnxruntime", "openvino", "jax", "ctranslate2", "sentence_transformers"),
    *("keras_torch", "keras_jax", "keras_tensorflow"),
)


class Unsupported(Exception):
    """The peer has no operator for this case."""


class Case(Protocol):
    """One shape that is timed. A case is a frozen dataclass; its fields go into the JSON."""

    @property
    def name(self) -> str:
        """The name is unique and ends with the dtype unless that is float32."""

    @property
    def kind(self) -> str:
        """The name of the kind that answers the questions about this case."""

    @property
    def group(self) -> str:
        """The group whose table shows the case."""

    @property
    def dtype(self) -> str:
        """The format of the weights."""

    @property
    def reason(self) -> str:
        """The reason for which the case is in the grid."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """The length of each row; an empty tuple means that all rows are full."""

    @property
    def quick(self) -> bool:
        """Tell whether ``--quick`` runs the case."""


class Expected(Protocol):
    """A reference answer."""

    @property
    def tolerance(self) -> float:
        """The largest error that is allowed."""


CaseT = TypeVar("CaseT", bound=Case)
InputsT = TypeVar("InputsT")
ExpectedT = TypeVar("ExpectedT", bound=Expected)
AnswerT = TypeVar("AnswerT")
Case_contra = TypeVar("Case_contra", bound=Case, contravariant=True)
Inputs_contra = TypeVar("Inputs_contra", contravariant=True)


@dataclass(frozen=True)
class Prepared(Generic[AnswerT]):
    """A case that is ready to run on one peer; only `run` is timed.

    A peer that needs a process of its own has a `Remote` of core/measure.py as its `run`.
    """

    run: Callable[[], Any]
    outputs: Callable[[Any], AnswerT]  # makes the answer from what `run` returned
    beyond_lengths: bool = True  # whether y beyond the length of a row is zero, as it should be
    probe: Callable[[], Any] | None = None  # a shorter call to check where `run` takes seconds


class Library(Protocol):
    """A module in `core/peers/`: it starts a peer."""

    def configure(self, threads: int) -> None:
        """Set the number of threads. This comes before the import where a peer needs that."""

    def version(self) -> str:
        """Import the peer and return its version."""


class Peer(Protocol[Case_contra, Inputs_contra, AnswerT]):
    """A module in `peers/` of a kind: it runs the cases of that kind on one peer.

    `prepare` does everything that a user can do once: packing, compiling, allocating, converting
    arrays to the peer's own type and layout. A case of one step carries its state from one
    `Prepared.run` to the next and starts from zero. Nothing slows a peer down on purpose; a setting
    that makes one faster is welcome.
    """

    def variants(self, case: Case_contra, threads: int) -> tuple[str, ...]:
        """Return the ways that are worth trying; the benchmark keeps the fastest."""

    def prepare(
        self, case: Case_contra, inputs: Inputs_contra, threads: int, variant: str
    ) -> Prepared[AnswerT]:
        """Make a case ready to run in one of the ways."""

    def release(self) -> None:
        """Drop what the peer would keep. This is called after each case."""


class Kind(Protocol[CaseT, InputsT, ExpectedT, AnswerT]):
    """A package in `kinds/`: it answers the questions of the benchmark about its cases."""

    PEERS: tuple[str, ...]  # the peers that can run cases of this kind
    GROUPS: dict[str, str]  # the title of the table of each group, in the order of the tables
    NOTE: str  # what a table says about the names of its cases and about the limit
    UNIT: str  # the unit of the tables, "us" or "ms"

    def grid(self) -> list[CaseT]:
        """Return every case in float32."""

    def words(self, case: CaseT) -> str:
        """Name a case in plain words, as the subject of a sentence."""

    def low_precision(self) -> list[CaseT]:
        """Return the cases that also run in bfloat16 and int8, in float32."""

    def missing(self) -> str:
        """Say why the cases cannot run here; an empty text means that they can."""

    def absent(self, case: CaseT) -> str:
        """Say what one case needs that is not here, such as a file; an empty text: nothing."""

    def describe(self) -> dict[str, Any]:
        """Return what the JSON should say beside the cases."""

    def arguments(self, case: CaseT) -> InputsT:
        """Return the inputs and weights of a case."""

    def expected(self, case: CaseT, inputs: InputsT) -> ExpectedT:
        """Return the reference answer."""

    def answer(self, case: CaseT, prepared: Prepared[AnswerT]) -> AnswerT:
        """Run a prepared case and return its answer."""

    def error(self, want: ExpectedT, got: AnswerT, prepared: Prepared[AnswerT]) -> float:
        """Return how far an answer is from the reference; infinity for a malformed answer."""

    def flops(self, case: CaseT) -> int:
        """Return the floating-point operations of the products of one call."""

    def bytes_read(self, case: CaseT) -> int:
        """Return the bytes that one call has to read."""

    def buffer_sizes(self, case: CaseT) -> list[int]:
        """Return the sizes for which `limit` asks the bandwidth."""

    def limit(self, case: CaseT, rates: Rates) -> Limit:
        """Return the time below which the case cannot go, and what it is spent on."""

    def target(self, case: CaseT, limit: Limit, rates: Rates) -> Target | None:
        """Return the target of a case that has one."""

    def measure_targets(self, result: dict[str, Any], dtype: str) -> Iterator[Result]:
        """Measure the targets that are no comparison of one case with the machine.

        `result` holds the cases that have been timed before.
        """

    def peer(self, name: str) -> Peer[CaseT, InputsT, AnswerT]:
        """Import the module that runs the cases of this kind on a peer."""
