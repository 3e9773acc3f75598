"""This module makes the answer that every peer is held to.

It is ONNX Runtime's, without its optimisations, and for the captured module PyTorch's in float64.
The answer of a model that carries a state is that of its first calls, one behind the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.dtypes import Array
from .cases import CAPTURED, CHARACTERS, HIDDEN, LAYERS, File, ModelCase
from .files import find

CARRIED_CALLS = 4
# A run in float32 may be off by 1e-4 of the largest output, the error of some hundred layers (or
# steps) of sums of some hundred terms. ONNX Runtime's answer, the reference of all cases but the
# captured module, is such a run too, so the tolerance allows for the rounding of both.
TOLERANCE = 2 * 1e-4
LEAST_SCALE = 1e-3


@dataclass(frozen=True)
class ModelInputs:
    """The path of each file of a case and its inputs, zeros for its states; or the module."""

    paths: tuple[str, ...]
    feeds: tuple[dict[str, Array], ...]
    module: Any = None


@dataclass(frozen=True)
class Expected:
    """The outputs of all files in order, without states, for each of the calls."""

    values: tuple[Array, ...]
    tolerance: float = TOLERANCE


def calls(case: ModelCase) -> int:
    """Return how many calls make the answer."""
    carried = case.group == CAPTURED or any(file.carried for file in case.files)
    return CARRIED_CALLS if carried else 1


def arguments(case: ModelCase) -> ModelInputs:
    """Return random inputs of the size that signals and pictures have."""
    rng = np.random.default_rng(16)
    if case.group == CAPTURED:
        return ModelInputs((), (_character_feed(),), character_module())
    paths = tuple(str(find(case.package, file.name)) for file in case.files)
    return ModelInputs(paths, tuple(_feed(file, rng) for file in case.files))


def _feed(file: File, rng: np.random.Generator) -> dict[str, Array]:
    feed: dict[str, Array] = {}
    for name, shape in file.inputs:
        feed[name] = (0.1 * rng.standard_normal(shape)).astype(np.float32)
    for name, shape in file.states:
        feed[name] = np.zeros(shape, np.float32)
    for name, number in file.integers:
        feed[name] = np.array(number, np.int64)
    return feed


def _character_feed() -> dict[str, Array]:
    state = np.zeros((LAYERS, 1, HIDDEN), np.float32)
    return {"x": np.array([[7]], np.int64), "h": state, "c": state.copy()}


def character_module() -> Any:
    """Return the character model as an nn.Module: (x [B, T], h, c) -> (logits [B, T, 96], h, c)."""
    import torch
    from torch import nn

    class CharacterModel(nn.Module):  # type: ignore[misc]  # a class of no known type
        """An embedding, two LSTM layers, and a linear layer over the characters."""

        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(CHARACTERS, HIDDEN)
            self.lstm = nn.LSTM(HIDDEN, HIDDEN, LAYERS, batch_first=True)
            self.linear = nn.Linear(HIDDEN, CHARACTERS)

        def forward(self, x: Any, h: Any, c: Any) -> Any:
            y, (h_n, c_n) = self.lstm(self.embedding(x), (h, c))
            return self.linear(y), h_n, c_n

    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(16)
        return CharacterModel().eval()


def expected(case: ModelCase, inputs: ModelInputs) -> Expected:
    """Return the outputs of the first calls."""
    if case.group == CAPTURED:
        return Expected(_captured(inputs))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    sessions = [
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for path in inputs.paths
    ]
    feeds = [dict(feed) for feed in inputs.feeds]
    values: list[Array] = []
    for _ in range(calls(case)):
        for file, session, feed in zip(case.files, sessions, feeds, strict=True):
            names = [output.name for output in session.get_outputs()]
            found = dict(zip(names, session.run(None, feed), strict=True))
            values += without_states(file, found)
            feed.update({name: found[output] for name, output in file.carried})
    return Expected(tuple(values))


def without_states(file: File, found: dict[str, Array]) -> list[Array]:
    """Return copies of the outputs that are no state, in order."""
    states = {output for _, output in file.carried}
    return [np.array(value) for name, value in found.items() if name not in states]


def _captured(inputs: ModelInputs) -> tuple[Array, ...]:
    import copy

    import torch

    exact = copy.deepcopy(inputs.module).double()
    x, h, c = (torch.from_numpy(value) for value in inputs.feeds[0].values())
    values: list[Array] = []
    h, c = h.double(), c.double()
    with torch.no_grad():
        for _ in range(CARRIED_CALLS):
            y, h, c = exact(x, h, c)
            values.append(y.numpy().copy())
    return tuple(values)


def worst_error(want: Expected, got: list[Array]) -> float:
    """Return the largest difference, relative to the largest element of its output.

    It is infinite for a missing output, a wrong shape, or a value that is not finite.
    """
    if len(got) != len(want.values):
        return float("inf")
    worst = 0.0
    for mine, right in zip(got, want.values, strict=True):
        if mine.shape != right.shape or not np.isfinite(mine).all():
            return float("inf")
        scale = max(float(np.abs(right).max(initial=0)), LEAST_SCALE)
        worst = max(worst, float(np.abs(mine - right).max(initial=0)) / scale)
    return worst
