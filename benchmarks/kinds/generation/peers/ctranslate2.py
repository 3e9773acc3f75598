"""CTranslate2 runs a Translator or a Generator on the model that its own converter makes.

The models have no tokenizer, so the converter gets one whose tokens are the numbers' own names.
There is no end token to reach: the shortest and the longest answer have the same length. Batches
are run whole, or sorted by length and cut into smaller ones (`max_batch_size`), which spares
padding in attention.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np

from ....core.dtypes import Array
from ....core.kind import Prepared, Unsupported
from ..cases import SEQ2SEQ, GenerationCase
from ..files import configuration, directory, padding, start
from ..reference import Inputs

WHOLE, CUT = "whole", "batches of 8"
PADDING = "<pad>"  # Marian's converter looks for this name


class _Tokenizer:
    """Answers what the converter asks a tokenizer: the token of an id is the id's decimal name.

    CTranslate2 never chooses the end token before the shortest answer is complete, so the end is
    the padding, which the model does not choose either. Marian's converter drops the padding; the
    end is token 0 there.
    """

    def __init__(self, size: int, unused: int) -> None:
        self._names = [str(i) for i in range(size)]
        last = unused == size - 1
        if last:
            self._names[unused] = PADDING
        self.pad_token = self._names[unused]
        self.bos_token = self.eos_token = self.unk_token = self._names[0 if last else unused]
        self.special_tokens_map: dict[str, Any] = {}

    def get_vocab(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self._names)}

    def convert_ids_to_tokens(self, token: int) -> str:
        return self._names[token]


def variants(case: GenerationCase, threads: int) -> tuple[str, ...]:
    """Return the batch as it is, and cut where it is large."""
    return (WHOLE, CUT) if case.B > 8 else (WHOLE,)


def release() -> None:
    """Drop the model, which may take gigabytes."""
    _model.cache_clear()


@cache
def _model(path: Path, size: int, unused: int, threads: int, dtype: str, runner: str) -> Any:
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):  # type: ignore[misc]
        def load_tokenizer(self, *args: Any, **kwargs: Any) -> Any:
            return _Tokenizer(size, unused)

    with tempfile.TemporaryDirectory() as folder:
        Converter(str(path)).convert(folder, force=True)
        return getattr(ctranslate2, runner)(
            folder, device="cpu", inter_threads=1, intra_threads=threads, compute_type=dtype
        )


def prepare(case: GenerationCase, inputs: Inputs, threads: int, variant: str) -> Prepared[Array]:
    """Return a call of translate_batch or generate_batch."""
    if case.dtype not in ctranslate2.get_supported_compute_types("cpu"):
        raise Unsupported(f"CTranslate2 has no {case.dtype} on this CPU")
    size = configuration(case.model).vocab_size
    runner = "Translator" if case.group == SEQ2SEQ else "Generator"
    model = _model(directory(case), size, padding(case.model), threads, case.dtype, runner)
    texts = [
        [str(token) for token in row[:length]]
        for row, length in zip(inputs.tolist(), case.rows, strict=True)
    ]
    options = {"beam_size": case.beams, "max_batch_size": 8 if variant == CUT else 0}
    if case.group == SEQ2SEQ:
        return Prepared(*_translation(model, texts, case, start(case.model), options))
    return Prepared(*_continuation(model, texts, case, inputs, options))


def _translation(
    model: Any, texts: list[list[str]], case: GenerationCase, begin: int, options: dict[str, int]
) -> tuple[Callable[[], Any], Callable[[Any], Array]]:
    def run() -> Any:
        return model.translate_batch(
            texts,
            min_decoding_length=case.T,
            max_decoding_length=case.T,
            max_input_length=0,
            **options,
        )

    def tokens(results: Any) -> Array:
        return np.array([[begin, *map(int, result.hypotheses[0])] for result in results])

    return run, tokens


def _continuation(
    model: Any, texts: list[list[str]], case: GenerationCase, ids: Inputs, options: dict[str, int]
) -> tuple[Callable[[], Any], Callable[[Any], Array]]:
    def run() -> Any:
        return model.generate_batch(
            texts,
            min_length=case.T,
            max_length=case.T,
            include_prompt_in_result=False,
            **options,
        )

    def tokens(results: Any) -> Array:
        return np.concatenate([ids, [result.sequences_ids[0] for result in results]], axis=1)

    return run, tokens
