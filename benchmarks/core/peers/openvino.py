"""OpenVINO compiles each model for its threads and precision.

The settings are the latency hint, one stream, and the precision asked for, since the default is
bfloat16 on a processor that has it. The other hints and pinning options changed nothing.
"""

from __future__ import annotations

from typing import Any

import openvino


def configure(threads: int) -> None:
    """Do nothing: threads are an option of the compiled model."""


def version() -> str:
    """Return OpenVINO's version without the build."""
    return str(openvino.__version__).split("-", maxsplit=1)[0]


PRECISION = {"float32": "f32", "bfloat16": "bf16"}


def settings(threads: int, precision: str = "f32") -> dict[str, Any]:
    """Return the settings that compile_model gets."""
    return {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
