"""This module decides which axes of the inputs have sizes of any number, and checks what came out.

PyTorch takes a size of 1 for a fixed one while it records. Examples are therefore recorded with
larger sizes where an axis shall have any size; numbers are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from treadle.torch.capture_builder import FUNCTION
from treadle.torch.capture_sizes import expression

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from treadle.torch.capture_signature import Inputs
    from treadle.torch.tensors import TensorLike

Place = tuple[int, int]
"""The number of an input, and an axis of it."""


class Trial(NamedTuple):
    """A Trial has examples to record with.

    tensors  the examples
    marked   which axes of each input may become free
    must     the axes that must become free for the trial to count
    names    names of sizes, the same name for equal ones
    """

    tensors: list[TensorLike]
    marked: list[list[bool]]
    must: list[Place]
    names: dict[Place, str]


class Axes:
    """These are the axes that shall have sizes of any number.

    names  of sizes that the caller named
    wanted  the axes that the caller named, each of which must become free
    marked  the axes that may become free, for each input
    """

    def __init__(self, inputs: Inputs, dynamic: Any) -> None:
        self.inputs = inputs
        self.names: dict[Place, str] = {}
        self.wanted: list[Place] = []
        self._batch: list[Place] = []  # of the guess that is being tried
        self.default = dynamic is None or dynamic is True
        every = [[self.default] * tensor.dim() for tensor in inputs.tensors]
        self.marked = every
        if isinstance(dynamic, Mapping):
            for name, axes in dynamic.items():
                self._add(name, axes)
        elif not isinstance(dynamic, bool | None):
            raise TypeError(
                f"{FUNCTION}: dynamic is {type(dynamic).__name__}, expected None, a bool or a dict "
                'such as {"x": {0: "batch", 1: "time"}}'
            )

    def _add(self, name: str, axes: Any) -> None:
        """Add the axes of one input, or of all inputs of a parameter."""
        inputs = self.inputs
        found = [i for i, own in enumerate(inputs.names) if own == name]
        found = found or [i for i, own in enumerate(inputs.groups) if own == name]
        if not found:
            raise ValueError(
                f"{FUNCTION}: dynamic names {name!r}, which is no input; the inputs are "
                f"{', '.join(inputs.names)}"
            )
        for number in found:
            rank = inputs.tensors[number].dim()
            if axes is None or isinstance(axes, bool):
                axes_here: dict[Any, Any] = dict.fromkeys(range(rank), bool(axes))
                must = False
            elif isinstance(axes, Mapping):
                axes_here, must = dict(axes), True
            elif isinstance(axes, tuple | list | set | int) and not isinstance(axes, bool):
                axes_here = dict.fromkeys([axes] if isinstance(axes, int) else axes, True)
                must = True
            else:
                raise TypeError(
                    f"{FUNCTION}: dynamic[{name!r}] is {type(axes).__name__}, expected a dict of "
                    "axes to names, a tuple of axes or a bool"
                )
            for axis, label in axes_here.items():
                self._mark(name, (number, axis), label, must)

    def _mark(self, name: str, place: tuple[int, Any], label: Any, must: bool) -> None:
        number, axis = place
        rank = self.inputs.tensors[number].dim()
        if isinstance(axis, bool) or not isinstance(axis, int) or not -rank <= axis < rank:
            raise ValueError(
                f"{FUNCTION}: dynamic[{name!r}] names axis {axis!r}, expected one of {rank} axes"
            )
        if label is None or label is False:
            return
        if label is not True and (not isinstance(label, str) or not label):
            raise TypeError(
                f"{FUNCTION}: dynamic[{name!r}][{axis}] is {label!r}, expected a name or True"
            )
        axis %= rank
        self.marked[number][axis] = True
        if must:
            self.wanted.append((number, axis))
        if isinstance(label, str):
            self.names[number, axis] = label

    def trials(self) -> Iterator[Trial]:
        """Go through examples to record with, the likeliest first.

        By default all axes may become free; where the module cannot have that, those of the batch;
        and where no guess of them is right, none.
        """
        plain = [tuple(tensor.shape) for tensor in self.inputs.tensors]
        if not self.default:
            yield self._trial(self._by_name(plain), self.marked, self.wanted)
            return
        guesses = list(self._batches(plain))
        for marked in (self.marked, None):
            seen: list[list[Place]] = []
            for places in guesses:
                small = [(n, a) for n, a in places if plain[n][a] < 2]
                if (small if marked else places) in seen:
                    continue
                seen.append(small if marked else places)
                self._batch = list(places)
                shapes = [list(shape) for shape in plain]
                for number, axis in small:
                    shapes[number][axis] = 2
                yield self._trial(shapes, marked or self._only(places), small)
        yield self._trial(plain, self._only(()), [])

    def _only(self, places: Sequence[Place]) -> list[list[bool]]:
        """Return marks at some axes alone."""
        return [
            [(number, axis) in places for axis in range(tensor.dim())]
            for number, tensor in enumerate(self.inputs.tensors)
        ]

    def named(self, trial: Trial) -> dict[Place, str]:
        """Return the names of sizes: the caller's, or "batch" where a guess has come true."""
        guessed = dict.fromkeys(trial.must, "batch") if self.default else {}
        return guessed | self.names

    def _batches(self, shapes: Sequence[tuple[int, ...]]) -> Iterator[list[Place]]:
        """Go through guesses of which axes count the rows of a batch.

        States of recurrent layers, [L, B, H], have them on the second axis.
        """
        ranks = [len(shape) for shape in shapes]
        states = [n > 0 and rank == 3 for n, rank in enumerate(ranks)]
        if any(states):
            yield [(n, int(states[n])) for n, rank in enumerate(ranks) if rank]
        yield [(n, 0) for n, rank in enumerate(ranks) if rank]
        yield [(n, 1 if rank > 1 else 0) for n, rank in enumerate(ranks) if rank]

    def _by_name(self, shapes: Sequence[tuple[int, ...]]) -> list[list[int]]:
        """Return the shapes with at least 2 for each axis that is named; names have one size."""
        found = [list(shape) for shape in shapes]
        sizes: dict[str, tuple[int, Place]] = {}
        for (number, axis), label in self.names.items():
            size = found[number][axis]
            known, (first, first_axis) = sizes.setdefault(label, (size, (number, axis)))
            if known != size:
                names = self.inputs.names
                raise ValueError(
                    f"{FUNCTION}: dynamic calls two axes {label!r}, of sizes {known} (axis "
                    f"{first_axis} of {names[first]}) and {size} (axis {axis} of {names[number]})"
                )
        for number, row in enumerate(self.marked):
            for axis, on in enumerate(row):
                if on:
                    found[number][axis] = max(found[number][axis], 2)
        return found

    def _trial(
        self, shapes: Sequence[Sequence[int]], marked: list[list[bool]], must: Sequence[Place]
    ) -> Trial:
        tensors = [
            torch.zeros(tuple(shape), dtype=tensor.dtype)
            for shape, tensor in zip(shapes, self.inputs.tensors, strict=True)
        ]
        names = dict.fromkeys(self._batch, "batch") if self.default else {}
        return Trial(tensors, marked, list(must), names | self.names)

    def fixed(self, program: Any, places: Sequence[Place]) -> list[tuple[Place, int]]:
        """Return those of some axes that a recorded program fixes, with their sizes."""
        fakes = user_inputs(program)
        sizes = [(place, expression(fakes[place[0]].shape[place[1]])) for place in places]
        return [(place, size) for place, size in sizes if isinstance(size, int)]

    def check(self, program: Any, trial: Trial) -> None:
        """Raise ValueError if the module fixes an axis that must be free."""
        for (number, axis), size in self.fixed(program, trial.must):
            label = self.names.get((number, axis))
            label = f" ({label!r})" if label else ""
            raise ValueError(
                f"{FUNCTION}: axis {axis} of {self.inputs.names[number]}{label} shall have any "
                f"size, but the module works for {size} alone{reason(program, size)}"
            )


def user_inputs(program: Any) -> list[Any]:
    """Return the fake tensors of a program's inputs."""
    kinds = torch.export.graph_signature.InputKind
    holders = [node for node in program.graph.nodes if node.op == "placeholder"]
    specs = program.graph_signature.input_specs
    return [
        node.meta["val"]
        for node, spec in zip(holders, specs, strict=True)
        if spec.kind == kinds.USER_INPUT
    ]


def reason(program: Any, size: int) -> str:
    """Return which line of the source fixes a size, where PyTorch tells it."""
    fakes = user_inputs(program)
    env = getattr(getattr(fakes[0], "fake_mode", None), "shape_env", None)
    for guard in getattr(env, "guards", ()):
        if str(guard.expr).startswith("Eq(") and str(guard.expr).endswith(f" {size})"):
            place = getattr(getattr(guard, "sloc", None), "user_loc", None)
            if place is not None:
                return f": {place}"
    return ""
