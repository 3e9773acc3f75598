"""ONNX Runtime runs a file as it is, with every optimisation.

The variants: `run` with a dict, as most programs call it, and `binding`, with inputs, outputs and
states bound to memory once; the state goes from one of two buffers to the other, so that nothing is
copied. A pool of streams is one batch.
"""

from __future__ import annotations

from typing import Any

import onnxruntime

from ....core.dtypes import Array
from ....core.kind import Prepared
from ....core.peers.onnxruntime import settings
from ..cases import File, ModelCase
from ..reference import ModelInputs, without_states
from . import check_has_files


def variants(case: ModelCase, threads: int) -> tuple[str, ...]:
    """Return both ways."""
    return ("run", "binding")


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


class _Called:
    """A session that is run with a dict."""

    def __init__(self, session: Any, file: File, feed: dict[str, Array]) -> None:
        self.session, self.file, self.feed = session, file, dict(feed)
        self.names = [output.name for output in session.get_outputs()]
        self.places = [(name, self.names.index(output)) for name, output in file.carried]
        self.found: list[Array] = []

    def __call__(self) -> None:
        self.found = found = self.session.run(None, self.feed)
        for name, place in self.places:
            self.feed[name] = found[place]

    def outputs(self) -> list[Array]:
        return without_states(self.file, dict(zip(self.names, self.found, strict=True)))


class _Bound:
    """A session that is run on fixed memory."""

    def __init__(self, session: Any, file: File, feed: dict[str, Array]) -> None:
        self.session, self.file = session, file
        self.names = [output.name for output in session.get_outputs()]
        share = onnxruntime.OrtValue.ortvalue_from_numpy
        sizes = dict(zip(self.names, session.run(None, feed), strict=True))
        self.results = {name: value.copy() for name, value in sizes.items()}
        self.kept: list[Any] = [feed]
        first = {name: feed[name].copy() for name, _ in file.carried}
        second = {name: feed[name].copy() for name, _ in file.carried}
        self.bindings = []
        turns = [(first, second), (second, first)] if file.carried else [(first, second)]
        for reads, writes in turns:
            binding = session.io_binding()
            for name, value in {**feed, **reads}.items():
                self.kept.append(share(value))
                binding.bind_ortvalue_input(name, self.kept[-1])
            targets = {output: writes[name] for name, output in file.carried}
            for name in self.names:
                self.kept.append(share(targets.get(name, self.results[name])))
                binding.bind_ortvalue_output(name, self.kept[-1])
            self.bindings.append(binding)
        self.kept += [first, second]
        self.turn = 0

    def __call__(self) -> None:
        self.session.run_with_iobinding(self.bindings[self.turn])
        self.turn = (self.turn + 1) % len(self.bindings)

    def outputs(self) -> list[Array]:
        return without_states(self.file, self.results)


def prepare(
    case: ModelCase, inputs: ModelInputs, threads: int, variant: str
) -> Prepared[list[Array]]:
    """Make a session for each file."""
    check_has_files(case)
    ways: dict[str, Any] = {"run": _Called, "binding": _Bound}
    parts: list[Any] = []
    for file, path, feed in zip(case.files, inputs.paths, inputs.feeds, strict=True):
        options = settings(threads)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        parts.append(ways[variant](session, file, feed))

    def run() -> None:
        for part in parts:
            part()

    run_one = parts[0] if len(parts) == 1 else run
    return Prepared(run_one, lambda _: [value for part in parts for value in part.outputs()])
