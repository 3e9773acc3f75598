"""ONNX Runtime gets its threads with each session; int8 is its quantize_dynamic."""

from __future__ import annotations

import logging
import platform
import tempfile
from pathlib import Path

import onnx
import onnxruntime
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic

from ..kind import Case, Unsupported


def configure(threads: int) -> None:
    """Silence warnings about unusual graphs; threads are an option of the session."""
    onnxruntime.set_default_logger_severity(3)


def version() -> str:
    """Return ONNX Runtime's version."""
    return str(onnxruntime.__version__)


def settings(threads: int, spinning: bool = False) -> onnxruntime.SessionOptions:
    """Ask for every graph optimisation, and for a pool that stops spinning after a run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def saturates() -> bool:
    """Return whether the CPU may multiply bytes by an x86 instruction that overflows."""
    x86, linux = platform.machine().lower() in ("x86_64", "amd64"), Path("/proc/cpuinfo")
    return x86 and not (linux.exists() and "vnni" in linux.read_text(encoding="utf-8"))


def quantized(model: bytes, per_channel: bool, operators: tuple[str, ...]) -> bytes:
    """Return the model with the weights of these operators in int8.

    The activations are quantised as they come. Weights have seven bits where the CPU has no VNNI,
    whose forerunner saturates.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        level = logging.root.level
        # quantize_dynamic recommends to pre-process the model, but nothing is left to fuse.
        logging.root.setLevel(logging.ERROR)
        try:
            quantize_dynamic(
                onnx.load_from_string(model),
                path,
                op_types_to_quantize=list(operators),
                per_channel=per_channel,
                reduce_range=saturates(),
                weight_type=QuantType.QInt8,
                extra_options={"DefaultTensorType": TensorProto.FLOAT},
            )
        finally:
            logging.root.setLevel(level)
        return path.read_bytes()


def check_dtype(case: Case) -> None:
    """Raise Unsupported for bfloat16, which no operator of the CPU has."""
    if case.dtype == "bfloat16":
        raise Unsupported("ONNX Runtime has no bfloat16 on the CPU")
