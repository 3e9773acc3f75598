"""CTranslate2 runs an Encoder on the model that its own converter makes, once per run and dtype.

It leaves padding out of every product but those of attention. The converter needs Transformers.
CT2_USE_MKL and CT2_FORCE_CPU_ISA changed nothing beyond the noise on an AMD EPYC (4.8).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from typing import Any

import ctranslate2
import numpy as np

from ....core.dtypes import Array
from ....core.kind import Prepared, Unsupported
from ....core.models.minilm.case import ROWS, EncoderCase
from ....core.models.minilm.checkpoint import EncoderInputs
from . import by_rows, pipeline, with_rows


def variants(case: EncoderCase, threads: int) -> tuple[str, ...]:
    """Return the only way, and row by row."""
    return with_rows(case, "encoder")


def release() -> None:
    """Do nothing: the model is kept for the next case."""


@cache
def _encoder(path: str, threads: int, dtype: str) -> Any:
    import transformers
    from ctranslate2.converters import TransformersConverter

    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        TransformersConverter(path).convert(folder, force=True)
        return ctranslate2.Encoder(
            folder, device="cpu", inter_threads=1, intra_threads=threads, compute_type=dtype
        )


def _call(encoder: Any) -> Callable[[Array, Array], Any]:
    view = ctranslate2.StorageView.from_array

    def call(ids: Array, lengths: Array) -> Any:
        return encoder.forward_batch(view(ids), view(lengths)).last_hidden_state

    return call


def prepare(
    case: EncoderCase, inputs: EncoderInputs, threads: int, variant: str
) -> Prepared[Array]:
    """Return a call of forward_batch."""
    model, rows = inputs
    if case.dtype not in ctranslate2.get_supported_compute_types("cpu"):
        raise Unsupported(f"CTranslate2 has no {case.dtype} on this CPU")
    if variant == ROWS:
        return by_rows(prepare, case, inputs, threads, "encoder")
    call = _call(_encoder(str(model.path), threads, case.dtype))
    if case.sentences:

        def run(ids: Array, lengths: Array) -> Array:
            return np.asarray(call(ids.astype(np.int32), lengths.astype(np.int32)))

        return pipeline.prepared(run, rows)
    ids, lengths = rows.astype(np.int32), np.array(case.rows, np.int32)
    return Prepared(lambda: call(ids, lengths), lambda y: np.array(y))
