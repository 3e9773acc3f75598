"""PyTorch runs Transformers' generate with SDPA attention, in eval and inference mode.

torch.compile was not tried: with a cache that grows it compiles anew for each length.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers

from ....core.dtypes import Array
from ....core.kind import Prepared, Unsupported
from ..cases import GenerationCase
from ..files import directory, model_class
from ..reference import Inputs, generate


def variants(case: GenerationCase, threads: int) -> tuple[str, ...]:
    """Return the only way."""
    return ("sdpa",)


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def prepare(case: GenerationCase, inputs: Inputs, threads: int, variant: str) -> Prepared[Array]:
    """Return a call of generate."""
    if case.dtype != "float32":
        raise Unsupported(f"no {case.dtype}")
    transformers.utils.logging.disable_progress_bar()
    model: Any = model_class(case).from_pretrained(directory(case), dtype=torch.float32).eval()
    mask = None
    if case.lengths:
        mask = (np.arange(case.S) < np.array(case.rows)[:, None]).astype(np.int64)
    return Prepared(lambda: generate(model, case, inputs, mask), lambda tokens: tokens.numpy())
