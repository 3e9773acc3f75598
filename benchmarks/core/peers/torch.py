"""PyTorch runs in inference mode, with a pool of the wanted size.

The format int8 is its dynamic quantisation.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch

from ..kind import Case

INFERENCE = torch.inference_mode()


def configure(threads: int) -> None:
    """Set the size of the pool, and enter inference mode for good, which saves a microsecond."""
    torch.set_num_threads(threads)
    if not torch.is_inference_mode_enabled():  # sentence-transformers asks for it, too
        INFERENCE.__enter__()


def version() -> str:
    """Return PyTorch's version."""
    return str(torch.__version__)


def kept_in(case: Case) -> torch.dtype:
    """Return the dtype of x, the states and the answer.

    The format int8 is quantised where it is multiplied.
    """
    return torch.bfloat16 if case.dtype == "bfloat16" else torch.float32


def engines() -> tuple[str, ...]:
    """Return the engines of quantised products, without "none" and without QNNPACK, made for
    phones.
    """
    found = [name for name in torch.backends.quantized.supported_engines if name != "none"]
    return tuple(name for name in found if name != "qnnpack") or tuple(found)


def quantized(module: Any, engine: str) -> Any:
    """Return the module with its nn.LSTM, GRU, their cells and Linear in int8.

    Activations are quantised as they come.
    """
    before = torch.backends.quantized.engine
    # The engine is set while the weights are packed; later calls follow them.
    torch.backends.quantized.engine = engine
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is to move to another package
            return torch.ao.quantization.quantize_dynamic(module.eval())
    finally:
        torch.backends.quantized.engine = before
