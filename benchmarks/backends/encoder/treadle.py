"""treadle itself: AutoModel on ids, SentenceTransformer on sentences."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from treadle.transformers import AutoModel, SentenceTransformer

from ...encoder import PROBE
from ...encoder.cases import EncoderCase
from ...encoder.checkpoint import Model
from .. import Prepared


def variants(case: EncoderCase, threads: int) -> tuple[str, ...]:
    """One way only: what a user would write."""
    return ("SentenceTransformer",) if case.sentences else ("AutoModel",)


def release() -> None:
    """Nothing outlives what `prepare` returned."""


def prepare(case: EncoderCase, model: Model, inputs: Any, threads: int, variant: str) -> Prepared:
    """A call of the model with NumPy arrays, or of encode."""
    if case.sentences:
        encode = functools.partial(
            SentenceTransformer(str(model.path), dtype=case.dtype).encode,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        return Prepared(lambda: encode(inputs), np.asarray, probe=lambda: encode(inputs[:PROBE]))
    made = AutoModel.from_pretrained(str(model.path), dtype=case.dtype)
    call = functools.partial(made, input_ids=inputs)
    if case.lengths:
        mask = np.arange(case.S) < np.array(case.lengths)[:, None]
        call = functools.partial(call, attention_mask=mask.astype(np.int64))
    return Prepared(call, lambda result: np.asarray(result.last_hidden_state))
