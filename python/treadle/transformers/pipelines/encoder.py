"""This module runs rows of tokens through the encoders of pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.transformers.batches import padded
from treadle.transformers.pipelines.base import Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from treadle._inputs.types import AnyArray
    from treadle.transformers.batches import Padded
    from treadle.transformers.encoding import Encoding
    from treadle.transformers.model import PretrainedModel
    from treadle.transformers.sequence_classifier import SequenceClassifier
    from treadle.transformers.text_encoder import TextEncoder

# So many rows go through the model together; batch_size may ask for more.
_MOST_ROWS = 32
# The options that are passed to the tokenizer.
TOKENIZER: dict[str, Any] = {
    "truncation": None,
    "max_length": None,
    "add_special_tokens": True,
    "split_special_tokens": None,
    "padding": False,
}


class EncoderPipeline(Pipeline):
    """The base of the tasks that need one pass through an encoder and its head."""

    model: PretrainedModel | SequenceClassifier | TextEncoder

    @property
    def _most_tokens(self) -> int:
        """The longest row that both the tokenizer's files and the model's positions allow."""
        return min(self.tokenizer._most(None), self._positions)

    @property
    def _positions(self) -> int:
        """The longest row that the model has positions for."""
        return self.model._most_tokens

    def _tokens(self, texts: list[Any], options: Mapping[str, Any]) -> Encoding:
        """Tokenize texts, without padding, cut at the model's length where they are to be cut."""
        given = {name: value for name, value in options.items() if name != "padding"}
        if given.get("truncation") and given.get("max_length") is None:
            given["max_length"] = self._most_tokens
        return self.tokenizer(texts, **given)

    def _batches(
        self, fields: Mapping[str, Any], settings: dict[str, Any]
    ) -> Iterator[tuple[slice, Padded]]:
        """Yield the rows of a tokenizer's result as arguments of the model, a few at a time."""
        rows = fields["input_ids"]
        longest, most = max(map(len, rows), default=0), self._positions
        if longest > most:
            raise ValueError(
                f"{self._name()}: inputs has a text of {longest} tokens, expected at most {most}, "
                f"for which the model has positions{self._advice}"
            )
        names = [name for name in ("input_ids", "token_type_ids") if name in fields]
        size = max(settings["batch_size"] or 0, _MOST_ROWS)
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            yield part, padded({name: fields[name][part] for name in names})

    _advice = ": truncation=True cuts it off"

    def _finite(self, what: str, array: AnyArray) -> None:
        """Raise ValueError for what no answer can be made of."""
        if not np.isfinite(array).all():
            raise ValueError(
                f"{self._name()}: the model's {what} are not all finite, expected finite numbers: "
                "its weights are damaged, or too large"
            )
