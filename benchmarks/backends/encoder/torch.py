"""PyTorch: Transformers' BertModel, its SDPA attention, eval, under inference_mode.

No mask is given where nothing is padded. From sentences to embeddings: see sentence_transformers.py.
torch.compile was not tried: it compiles anew for each shape, for tens of seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers

from ...encoder.cases import EncoderCase
from ...encoder.checkpoint import Model
from .. import Prepared, Unsupported
from . import ROWS, by_rows, with_rows


def variants(case: EncoderCase, threads: int) -> tuple[str, ...]:
    """One way, or row by row."""
    return with_rows(case, "sdpa")


def release() -> None:
    """The model is kept for the next case."""


_loaded: dict[str, Any] = {}


def _model(path: str) -> Any:
    if path not in _loaded:
        transformers.utils.logging.disable_progress_bar()
        _loaded[path] = transformers.AutoModel.from_pretrained(
            path, attn_implementation="sdpa", dtype=torch.float32, local_files_only=True
        ).eval()
    return _loaded[path]


def prepare(case: EncoderCase, model: Model, inputs: Any, threads: int, variant: str) -> Prepared:
    """A call of the module."""
    if case.sentences:
        raise Unsupported("as sentence_transformers")
    if variant == ROWS:
        return by_rows(prepare, case, model, inputs, threads, "sdpa")
    module = _model(str(model.path))
    given = {"input_ids": torch.from_numpy(inputs)}
    if case.lengths:
        mask = np.arange(case.S) < np.array(case.lengths)[:, None]
        given["attention_mask"] = torch.from_numpy(mask.astype(np.int64))
    return Prepared(lambda: module(**given), lambda result: result.last_hidden_state.numpy())
