"""sentence-transformers runs encode, with each of its back ends that is installed.

Its ONNX and OpenVINO back ends need Optimum, which follows Transformers at a distance: where the
two do not go together only PyTorch is left, and the runtimes stand for themselves (pipeline.py).
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from ....core.dtypes import Array
from ....core.kind import Prepared, Unsupported
from ....core.models.minilm.case import EncoderCase
from ....core.models.minilm.checkpoint import EncoderInputs
from ..cases import PROBE

BACKENDS = {"onnx": "optimum.onnxruntime", "openvino": "optimum.intel"}


def variants(case: EncoderCase, threads: int) -> tuple[str, ...]:
    """Return the back ends that are installed."""
    found = ["torch"]
    if importlib.util.find_spec("optimum") is not None:
        found += [name for name, needed in BACKENDS.items() if importlib.util.find_spec(needed)]
    return tuple(found)


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def prepare(
    case: EncoderCase, inputs: EncoderInputs, threads: int, variant: str
) -> Prepared[Array]:
    """Return a call of encode."""
    model, rows = inputs
    if not case.sentences or case.dtype != "float32":
        raise Unsupported("as torch")
    more: dict[str, Any] = {}
    if variant == "onnx":
        from ....core.peers.onnxruntime import settings

        more = {"session_options": settings(threads), "provider": "CPUExecutionProvider"}
    if variant == "openvino":
        from ....core.peers.openvino import settings as openvino_settings

        more = {"ov_config": openvino_settings(threads)}
    made = SentenceTransformer(
        str(model.path), backend=variant, device="cpu", local_files_only=True, model_kwargs=more
    )

    def encode(sentences: list[str]) -> Any:
        return made.encode(sentences, normalize_embeddings=True, show_progress_bar=False)

    return Prepared(lambda: encode(rows), np.asarray, probe=lambda: encode(rows[:PROBE]))
