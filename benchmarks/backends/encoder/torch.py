"""PyTorch: Transformers' BertModel, its SDPA attention, eval, under inference_mode.

In bfloat16 the whole model is; in int8 its Linear layers are quantised (quantize_dynamic, each engine).

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
from ..torch import engines, kept_in, quantized
from . import ROWS, by_rows, with_rows


def variants(case: EncoderCase, threads: int) -> tuple[str, ...]:
    """One way, in int8 the engines, or row by row."""
    return with_rows(case, *(engines() if case.dtype == "int8" else ("sdpa",)))


def release() -> None:
    """The model is kept for the next case."""


_loaded: dict[tuple[str, torch.dtype, str], Any] = {}


def _model(path: str, dtype: torch.dtype, engine: str) -> Any:
    key = (path, dtype, engine)
    if key not in _loaded:
        transformers.utils.logging.disable_progress_bar()
        made = transformers.AutoModel.from_pretrained(
            path, attn_implementation="sdpa", dtype=dtype, local_files_only=True
        ).eval()
        _loaded[key] = quantized(made, engine) if engine else made
    return _loaded[key]


def prepare(case: EncoderCase, model: Model, inputs: Any, threads: int, variant: str) -> Prepared:
    """A call of the module."""
    if case.sentences:
        raise Unsupported("as sentence_transformers")
    if variant == ROWS:
        return by_rows(prepare, case, model, inputs, threads, variants(case, threads)[0])
    engine = variant if case.dtype == "int8" else ""
    module = _model(str(model.path), kept_in(case), engine)
    given = {"input_ids": torch.from_numpy(inputs)}
    if case.lengths:
        mask = np.arange(case.S) < np.array(case.lengths)[:, None]
        given["attention_mask"] = torch.from_numpy(mask.astype(np.int64))
    return Prepared(
        lambda: module(**given), lambda result: result.last_hidden_state.float().numpy()
    )
