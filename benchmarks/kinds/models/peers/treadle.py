"""treadle reads each file with treadle.onnx.load.

The variants of a model with a state: `stream`, which carries it (`Model.stream`), and `call`, which
gets it as an input. Several streams are a treadle.StreamPool.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

import treadle
import treadle.onnx

from ....core.dtypes import Array
from ....core.kind import Prepared
from ..cases import CAPTURED, File, ModelCase
from ..reference import ModelInputs, without_states

STATES: tuple[tuple[str, str], ...] = (("h", "h_out"), ("c", "c_out"))  # of the captured module


def variants(case: ModelCase, threads: int) -> tuple[str, ...]:
    """Return what a user would write."""
    if case.pool:
        return ("StreamPool",)
    carried = case.group == CAPTURED or any(file.carried for file in case.files)
    return ("stream", "call") if carried else ("call",)


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def loaded(path: str) -> Any:
    """Return the model of a file, without warnings about how it was written."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return treadle.onnx.load(path)


def captured(inputs: ModelInputs) -> tuple[Any, File]:
    """Return the captured character model, and how its state is carried."""
    import torch

    import treadle.torch

    example = tuple(torch.from_numpy(value) for value in inputs.feeds[0].values())
    with torch.inference_mode(False):
        model = treadle.torch.capture(
            inputs.module, example, dynamic=False, output_names=["y", "h_out", "c_out"]
        )
    return model, File("", (), carried=STATES)


class _Called:
    def __init__(self, model: Any, file: File, feed: dict[str, Array]) -> None:
        self.model, self.file, self.feed = model, file, dict(feed)
        self.found: dict[str, Array] = {}

    def __call__(self) -> None:
        self.found = found = self.model(**self.feed)
        for name, output in self.file.carried:
            self.feed[name] = found[output]

    def outputs(self) -> list[Array]:
        return without_states(self.file, self.found)


class _Streamed:
    def __init__(self, model: Any, file: File, feed: dict[str, Array]) -> None:
        states = dict(file.carried)
        self.step = model.stream(1, state=states).step
        self.feed = {name: value for name, value in feed.items() if name not in states}
        self.found: Any = None

    def __call__(self) -> None:
        self.found = self.step(**self.feed)

    def outputs(self) -> list[Array]:
        found = self.found
        return [np.array(v) for v in (found.values() if isinstance(found, dict) else [found])]


class _Pooled:
    def __init__(self, model: Any, file: File, feed: dict[str, Array]) -> None:
        fixed = dict(file.integers)
        pool = treadle.StreamPool(
            model, len(feed[file.inputs[0][0]]), state=dict(file.carried), fixed=fixed
        )
        self.ids = np.array([pool.open().id for _ in feed[file.inputs[0][0]]], np.int64)
        self.step, self.frames = pool.step, feed[file.inputs[0][0]]
        self.found: Any = None

    def __call__(self) -> None:
        self.found = self.step(self.ids, self.frames)

    def outputs(self) -> list[Array]:
        found = self.found
        return [np.array(v) for v in (found.values() if isinstance(found, dict) else [found])]


_WAYS: dict[str, Any] = {"call": _Called, "stream": _Streamed, "StreamPool": _Pooled}


def prepare(
    case: ModelCase, inputs: ModelInputs, threads: int, variant: str
) -> Prepared[list[Array]]:
    """Load each file."""
    if case.group == CAPTURED:
        parts = [_WAYS[variant](*captured(inputs), inputs.feeds[0])]
    else:
        parts = [
            _WAYS[variant](loaded(path), file, feed)
            for file, path, feed in zip(case.files, inputs.paths, inputs.feeds, strict=True)
        ]

    def run() -> None:
        for part in parts:
            part()

    run_one = parts[0] if len(parts) == 1 else run
    return Prepared(run_one, lambda _: [value for part in parts for value in part.outputs()])
