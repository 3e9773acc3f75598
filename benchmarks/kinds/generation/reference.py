"""This module holds the tokens of an answer against the model in float64, by Transformers.

Two implementations that round differently may choose different tokens where two are nearly as good,
and go on differently then. So the answer's own tokens are given to the model in float64. A greedy
answer is as wrong as its worst token is below the best one, in logits. The answer of a beam search
is as wrong as its score, the sum of its log-probabilities, is below that of the answer in float64.

How wrong it may be follows from the logits of the same model with the errors of the dtype: PyTorch
runs it in float32, in bfloat16, or in float32 with both factors of every product rounded as
core/errors.py says.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from ...core.dtypes import FLOAT32, Array
from ...core.errors import errors_of, tolerance
from .cases import SEQ2SEQ, GenerationCase
from .files import configuration, directory, model_class, padding

ROWS = 2  # of a batch that are checked

Inputs: TypeAlias = Array
"""Token ids [B, S]; what lies behind the length of a row is the padding of the model."""


@dataclass(frozen=True)
class Expected:
    """The scores of some rows in float64, and what judges an answer."""

    case: GenerationCase
    ids: Array
    rows: tuple[int, ...]
    scores: tuple[float, ...]
    tolerance: float


def arguments(case: GenerationCase) -> Inputs:
    """Return token ids [B, S]."""
    rng = np.random.default_rng(5)
    # Padding is one of the first two tokens or the last one.
    ids = rng.integers(2, configuration(case.model).vocab_size - 1, (case.B, case.S))
    ids[np.arange(case.S) >= np.array(case.rows)[:, None]] = padding(case.model)
    return ids


def expected(case: GenerationCase, ids: Inputs) -> Expected:
    """Search in float64, and see how far the dtype is off on what is found."""
    import torch

    rows = tuple(int(r) for r in np.unique(np.linspace(0, case.B - 1, ROWS).round()))
    exact, rounded = _model(case, torch.float64), _rounded(case)
    scores, error, scale = [], 0.0, 0.0
    for row in rows:
        text = ids[row : row + 1, : case.rows[row]]
        found = _found(dataclasses.replace(case, dtype=FLOAT32), row)
        logits = _logits(exact, case, text, found)
        error = max(error, float(np.abs(_logits(rounded, case, text, found) - logits).max()))
        scale = max(scale, float(np.abs(logits).max()))
        scores.append(_score(logits, _new(case, found)))
    # Two logits are compared, and of a beam search as many as there are new tokens.
    terms = 2 * (case.T if case.beams > 1 else 1)
    allowed = terms * tolerance(error, scale, errors_of(case.dtype))
    return Expected(case, ids, rows, tuple(scores), allowed)


@cache
def _found(case: GenerationCase, row: int) -> Array:
    """Return the tokens that the search in float64 finds for a row, which no dtype changes."""
    import torch

    text = arguments(case)[row : row + 1, : case.rows[row]]
    tokens: Array = np.asarray(generate(_model(case, torch.float64), case, text))[0]
    return tokens


def worst_error(want: Expected, got: Array) -> float:
    """Return how far the worst row is from the reference; infinity for a malformed answer."""
    import torch

    case, worst = want.case, 0.0
    length = case.T + (1 if case.group == SEQ2SEQ else case.S)
    if got.shape != (case.B, length):
        return float("inf")
    exact = _model(case, torch.float64)
    for row, best in zip(want.rows, want.scores, strict=True):
        text = want.ids[row : row + 1, : case.rows[row]]
        logits, new = _logits(exact, case, text, got[row]), _new(case, got[row])
        if case.beams > 1:
            worst = max(worst, best - _score(logits, new))
        else:
            worst = max(worst, float((logits.max(axis=1) - logits[np.arange(case.T), new]).max()))
    return worst


def generate(
    model: Any, case: GenerationCase, ids: Array, mask: Array | None = None, **options: Any
) -> Any:
    """Run Transformers' generate, which returns the tokens [B, ...]."""
    import torch

    if mask is None:
        mask = np.ones(ids.shape, np.int64)
    return model.generate(
        torch.from_numpy(ids),
        attention_mask=torch.from_numpy(mask),
        num_beams=case.beams,
        max_new_tokens=case.T,
        **options,
    )


def _model(case: GenerationCase, dtype: Any) -> Any:
    return model_class(case).from_pretrained(directory(case), dtype=dtype).eval()


def _rounded(case: GenerationCase) -> Any:
    """Return the model with the errors of the dtype of a case."""
    import torch
    import transformers

    if case.dtype == "bfloat16":
        return _model(case, torch.bfloat16)
    model = _model(case, torch.float32)
    if case.dtype == FLOAT32:
        return model
    errors = errors_of(case.dtype)

    def round_inputs(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (torch.from_numpy(errors.inputs(inputs[0].numpy())), *inputs[1:])

    for module in model.modules():
        if isinstance(module, torch.nn.Linear | transformers.Conv1D):
            weights = errors.weights(module.weight.detach().numpy())
            module.weight = torch.nn.Parameter(torch.from_numpy(weights), requires_grad=False)
            module.register_forward_pre_hook(round_inputs)
    return model


def _new(case: GenerationCase, tokens: Array) -> Array:
    return tokens[-case.T :]


def _logits(model: Any, case: GenerationCase, text: Array, tokens: Array) -> Array:
    """Return the logits [T, V] that each new token of a row was chosen from."""
    import torch

    before = torch.from_numpy(tokens[None, :-1].copy())
    with torch.inference_mode():
        if case.group == SEQ2SEQ:
            out = model(input_ids=torch.from_numpy(text), decoder_input_ids=before)
        else:
            out = model(input_ids=before)
    logits: Array = out.logits[0, -case.T :].double().numpy()
    return logits


def _score(logits: Array, new: Array) -> float:
    top = logits.max(axis=1)
    sums = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return float((logits[np.arange(len(new)), new] - sums).sum())
