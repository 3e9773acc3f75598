"""This module checks the arguments of `SentenceTransformer.encode` and gives its results a form."""

from __future__ import annotations

from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np

from treadle._inputs.checks import flag, integer, shown
from treadle.transformers.embeddings import Form, check_precision
from treadle.transformers.encoding import check_text
from treadle.transformers.modules import normalize
from treadle.transformers.sentence_model import check_device, refuse_pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from treadle._inputs.types import Float, Int

_VALUES = ("sentence_embedding", "token_embeddings", None)


class EncodeOptions(TypedDict, total=False):
    """The options of `SentenceTransformer.encode` that are given by name."""

    output_value: str | None
    precision: str
    convert_to_numpy: bool
    convert_to_tensor: bool
    device: Any
    normalize_embeddings: bool
    truncate_dim: int | None
    inputs: Any
    task: str | None
    processing_kwargs: dict[str, Any] | None
    pool: None
    chunk_size: None


class Batch(NamedTuple):
    """This class holds what the model returns for the sentences ``rows`` of a block."""

    rows: Int
    ids: Int
    """[M], the tokens of the sentences one behind the other."""
    offsets: Int
    tokens: Float
    """[M, H]"""
    vectors: Float
    """[len(rows), D]"""


class EncodeCall:
    """The checked options of a call of encode."""

    def __init__(self, function: str, options: EncodeOptions, truncate_dim: int | None) -> None:
        for name in options:
            if name not in EncodeOptions.__annotations__:
                raise TypeError(
                    f"{function}: there is no argument {name}, expected some of "
                    f"{', '.join(EncodeOptions.__annotations__)}"
                )
        check_device(function, options.get("device"))
        refuse_pool(function, options.get("pool"), options.get("chunk_size"))
        self.value = options.get("output_value", "sentence_embedding")
        if self.value not in _VALUES:
            raise ValueError(
                f"{function}: output_value is {shown(self.value)}, expected one of "
                f"{', '.join(map(repr, _VALUES))}"
            )
        self.precision = check_precision(function, options.get("precision"))
        if self.precision != "float32" and self.value != "sentence_embedding":
            raise ValueError(
                f"{function}: precision is {self.precision!r} for output_value {self.value!r}, "
                "expected 'float32': vectors of sentences are quantized, tokens are not"
            )
        normalized = options.get("normalize_embeddings", False)
        self._normalized = flag(function, "normalize_embeddings", normalized)
        given = options.get("truncate_dim")
        self._kept = truncate_dim if given is None else integer(function, "truncate_dim", given)
        self.form = Form(
            function,
            options.get("convert_to_numpy", True),
            options.get("convert_to_tensor", False),
        )

    def size(self, size: int) -> int:
        """Return how many numbers of a vector are kept."""
        return size if self._kept is None else min(size, self._kept)

    def finish(self, vectors: Float) -> Float:
        """Cut vectors off, then scale them, as the call asks."""
        kept = np.ascontiguousarray(vectors[:, : self._kept])
        return normalize(kept) if self._normalized else kept

    def items(self, batch: Batch) -> Iterator[Any]:
        """Yield what the call asks of each sentence: its tokens' vectors, or all there is."""
        vectors = batch.vectors[:, : self._kept]
        for row, (start, stop) in enumerate(pairwise(batch.offsets.tolist())):
            tokens = batch.tokens[start:stop].copy()
            if self.value == "token_embeddings":
                yield tokens
            else:
                yield {
                    "input_ids": batch.ids[start:stop].copy(),
                    "attention_mask": np.ones(stop - start, np.int64),
                    "token_embeddings": tokens,
                    "sentence_embedding": vectors[row].copy(),
                }


def one_of(function: str, sentences: Any, inputs: Any) -> Any:
    """Return the argument that has two names: that of version 5 and that of version 6."""
    if sentences is not None and inputs is not None:
        raise TypeError(f"{function}: sentences and inputs are two names of one argument")
    return sentences if inputs is None else inputs


def blocks(function: str, sentences: object, size: int) -> Iterator[list[str]]:
    """Check the sentences and yield them in lists of at most ``size``."""
    try:
        items = iter(sentences)  # type: ignore[call-overload]
    except TypeError:
        raise TypeError(
            f"{function}: sentences is {shown(sentences)}, expected a text or several"
        ) from None
    while block := list(islice(items, size)):
        yield [_text(function, item) for item in block]


def _text(function: str, item: object) -> str:
    """Return a sentence, which is a text or the only entry "text" of a dict."""
    if isinstance(item, dict) and list(item) == ["text"]:
        item = item["text"]
    if not isinstance(item, str):
        raise TypeError(
            f"{function}: sentences holds {shown(item)}, expected texts or dicts {{'text': text}}"
        )
    check_text(function, "sentences", item)
    return item
