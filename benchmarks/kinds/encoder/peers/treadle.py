"""treadle itself runs AutoModel on ids and SentenceTransformer on sentences."""

from __future__ import annotations

import functools

import numpy as np

from treadle.transformers import AutoModel, SentenceTransformer

from ....core.dtypes import Array
from ....core.kind import Prepared
from ....core.models.minilm.case import EncoderCase
from ....core.models.minilm.checkpoint import EncoderInputs
from ..cases import PROBE


def variants(case: EncoderCase, threads: int) -> tuple[str, ...]:
    """Return the only way, which is what a user would write."""
    return ("SentenceTransformer",) if case.sentences else ("AutoModel",)


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def prepare(
    case: EncoderCase, inputs: EncoderInputs, threads: int, variant: str
) -> Prepared[Array]:
    """Return a call of the model with NumPy arrays, or of encode."""
    model, rows = inputs
    if case.sentences:
        encode = functools.partial(
            SentenceTransformer(str(model.path), dtype=case.dtype).encode,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        return Prepared(lambda: encode(rows), np.asarray, probe=lambda: encode(rows[:PROBE]))
    made = AutoModel.from_pretrained(str(model.path), dtype=case.dtype)
    call = functools.partial(made, input_ids=rows)
    if case.lengths:
        mask = np.arange(case.S) < np.array(case.lengths)[:, None]
        call = functools.partial(call, attention_mask=mask.astype(np.int64))
    return Prepared(call, lambda result: np.asarray(result.last_hidden_state))
