"""sentence-transformers: encode, with each of its back ends that can be had.

Its ONNX and OpenVINO back ends need Optimum, which follows Transformers at a distance: where the two
do not go together only PyTorch is left, and the runtimes stand for themselves (pipeline.py).
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from ...encoder import PROBE
from ...encoder.cases import EncoderCase
from ...encoder.checkpoint import Model
from .. import Prepared, Unsupported

BACKENDS = {"onnx": "optimum.onnxruntime", "openvino": "optimum.intel"}


def variants(case: EncoderCase, threads: int) -> tuple[str, ...]:
    """Back ends that are installed."""
    found = ["torch"]
    if importlib.util.find_spec("optimum") is not None:
        found += [name for name, needed in BACKENDS.items() if importlib.util.find_spec(needed)]
    return tuple(found)


def release() -> None:
    """Nothing outlives what `prepare` returned."""


def prepare(case: EncoderCase, model: Model, inputs: Any, threads: int, variant: str) -> Prepared:
    """A call of encode."""
    if not case.sentences or case.dtype != "float32":
        raise Unsupported("as torch")
    more: dict[str, Any] = {}
    if variant == "onnx":
        from ..onnxruntime import settings

        more = {"session_options": settings(threads), "provider": "CPUExecutionProvider"}
    if variant == "openvino":
        from ..openvino import settings as openvino_settings

        more = {"ov_config": openvino_settings(threads)}
    made = SentenceTransformer(
        str(model.path), backend=variant, device="cpu", local_files_only=True, model_kwargs=more
    )

    def encode(sentences: list[str]) -> Any:
        return made.encode(sentences, normalize_embeddings=True, show_progress_bar=False)

    return Prepared(lambda: encode(inputs), np.asarray, probe=lambda: encode(inputs[:PROBE]))
