"""treadle itself runs generate on NumPy arrays."""

from __future__ import annotations

import numpy as np

from treadle.transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from ....core.dtypes import Array
from ....core.kind import Prepared
from ..cases import SEQ2SEQ, GenerationCase
from ..files import directory
from ..reference import Inputs


def variants(case: GenerationCase, threads: int) -> tuple[str, ...]:
    """Return the only way, which is what a user would write."""
    return ("generate",)


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def prepare(case: GenerationCase, inputs: Inputs, threads: int, variant: str) -> Prepared[Array]:
    """Return a call of generate."""
    kind = AutoModelForSeq2SeqLM if case.group == SEQ2SEQ else AutoModelForCausalLM
    model = kind.from_pretrained(str(directory(case)), dtype=case.dtype)
    mask = (np.arange(case.S) < np.array(case.rows)[:, None]).astype(np.int64)
    return Prepared(
        lambda: model.generate(inputs, mask, num_beams=case.beams, max_new_tokens=case.T),
        np.asarray,
    )
