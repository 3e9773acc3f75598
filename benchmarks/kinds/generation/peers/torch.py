"""PyTorch runs Transformers' generate with SDPA attention, in eval and inference mode.

In bfloat16 the whole model has that format. In int8 torch.ao's quantize_dynamic takes the modules
Linear; GPT-2's projections are no such modules and stay in float32, all but the output's.
torch.compile is tried on one text without beams: a cache of fixed size, so that the step is
compiled once. Elsewhere a growing cache would compile anew for each length.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
import transformers

from ....core.dtypes import Array
from ....core.kind import Prepared
from ..cases import GenerationCase
from ..files import directory, model_class
from ..reference import Inputs, generate

EAGER, COMPILED = "sdpa", "compiled"


def variants(case: GenerationCase, threads: int) -> tuple[str, ...]:
    """Return Transformers as it is, and compiled where that is tried."""
    alone = case.B == case.beams == 1
    return (EAGER, COMPILED) if alone and case.dtype != "int8" else (EAGER,)


def release() -> None:
    """Drop what torch.compile keeps."""
    torch._dynamo.reset()


def prepare(case: GenerationCase, inputs: Inputs, threads: int, variant: str) -> Prepared[Array]:
    """Return a call of generate."""
    transformers.utils.logging.disable_progress_bar()
    dtype = torch.bfloat16 if case.dtype == "bfloat16" else torch.float32
    model: Any = model_class(case).from_pretrained(directory(case), dtype=dtype).eval()
    if case.dtype == "int8":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.ao is deprecated in favour of torchao
            model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, torch.qint8)
    options: dict[str, Any] = {}
    if variant == COMPILED:
        options["cache_implementation"] = "static"
        options["compile_config"] = transformers.CompileConfig(dynamic=False)
        options["compile_config"]._compile_all_devices = True
    mask = None
    if case.lengths:
        mask = (np.arange(case.S) < np.array(case.rows)[:, None]).astype(np.int64)

    def run() -> Any:
        return generate(model, case, inputs, mask, **options)

    if variant == COMPILED:
        run()  # compiles
    return Prepared(run, lambda tokens: tokens.numpy())
