"""PyTorch runs Transformers' BertModel with SDPA attention, in eval and inference mode.

In bfloat16 the whole model is bfloat16; in int8 its Linear layers are quantised (quantize_dynamic,
with each engine).

No mask is given where nothing is padded. From sentences to embeddings: see
sentence_transformers.py. torch.compile was not tried: it compiles anew for each shape, for tens of
seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers

from ....core.dtypes import Array
from ....core.kind import Prepared, Unsupported
from ....core.models.minilm.case import ROWS, EncoderCase
from ....core.models.minilm.checkpoint import EncoderInputs
from ....core.peers.torch import engines, kept_in, quantized
from . import by_rows, with_rows


def variants(case: EncoderCase, threads: int) -> tuple[str, ...]:
    """Return one way, in int8 the engines, and row by row."""
    return with_rows(case, *(engines() if case.dtype == "int8" else ("sdpa",)))


def release() -> None:
    """Do nothing: the model is kept for the next case."""


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


def prepare(
    case: EncoderCase, inputs: EncoderInputs, threads: int, variant: str
) -> Prepared[Array]:
    """Return a call of the module."""
    model, rows = inputs
    if case.sentences:
        raise Unsupported("as sentence_transformers")
    if variant == ROWS:
        return by_rows(prepare, case, inputs, threads, variants(case, threads)[0])
    engine = variant if case.dtype == "int8" else ""
    module = _model(str(model.path), kept_in(case), engine)
    given = {"input_ids": torch.from_numpy(rows)}
    if case.lengths:
        mask = np.arange(case.S) < np.array(case.lengths)[:, None]
        given["attention_mask"] = torch.from_numpy(mask.astype(np.int64))
    return Prepared(
        lambda: module(**given), lambda result: result.last_hidden_state.float().numpy()
    )
