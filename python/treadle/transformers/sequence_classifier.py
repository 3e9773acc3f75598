"""A BART or mBART that classifies texts: its decoder reads the text again, a place later.

Lewis et al. 2020, arXiv:1910.13461, section 3.1: the output of the decoder for the last end token,
which has seen all others, goes through the head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs import checks
from treadle.transformers.checkpoint import Checkpoint
from treadle.transformers.config import Config, label_count, read_labels
from treadle.transformers.directory import read_json, resolve
from treadle.transformers.encoder import linear_shapes, read_linear
from treadle.transformers.encoder_decoder import EncoderDecoder
from treadle.transformers.generating import read_description, special_token
from treadle.transformers.generator import open_stacks, requested
from treadle.transformers.model import TANH
from treadle.transformers.outputs import Seq2SeqSequenceClassifierOutput
from treadle.transformers.seq2seq_families import CLASSIFIERS

if TYPE_CHECKING:
    from treadle import _core
    from treadle._inputs.types import ArrayLike, Int
    from treadle._storage.files import Path
    from treadle.transformers.sequences import Sequences

_FUNCTION = "treadle.transformers.AutoModelForSequenceClassification"
_DENSE, _OUT = "classification_head.dense", "classification_head.out_proj"


class SequenceClassifier(EncoderDecoder):
    """A BART or mBART with a head, made by AutoModelForSequenceClassification.from_pretrained."""

    _dense: _core.Linear
    _out: _core.Linear
    _end: int
    _start: int | None
    """The token before the text that the decoder reads; None stands for the text's last one."""

    @classmethod
    def from_pretrained(cls, directory: Path, *, dtype: Any = "float32") -> Any:
        """Load a model, as ``AutoModelForSequenceClassification.from_pretrained`` does."""
        function = f"{_FUNCTION}.from_pretrained"
        return open_classifier(function, resolve(function, directory), dtype)

    @property
    def _most_tokens(self) -> int:
        """The longest text that the model has positions for."""
        stacks = (self._shapes.encoder, self._shapes.decoder)
        return min(
            checks.MAX_SIZE if stack is None or stack.most_tokens is None else stack.most_tokens
            for stack in stacks
        )

    def __call__(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        token_type_ids: ArrayLike | None = None,
        *,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return the scores of each class: logits [B, num_labels].

        Parameters
        ----------
        input_ids
            [B, S], each row with config's eos_token_id in it. The decoder reads the same tokens.
        attention_mask
            [B, S], 1 for tokens and 0 for padding, which may lie anywhere. All are kept without it.
        token_type_ids
            Zeros, which some tokenizers give; they have no effect.
        output_hidden_states, output_attentions, return_dict
            As for `AutoModelForSeq2SeqLM`.

        Raises
        ------
        TypeError, ValueError
            For numbers out of range, more tokens than positions, shapes that do not fit, and a row
            without an end token.
        """
        function = _FUNCTION
        asked = requested(
            function, self.config, output_hidden_states, output_attentions, return_dict
        )
        read = asked.more()
        found = self._read(function, input_ids, attention_mask)
        self._check_types(token_type_ids, found.padded.shape)
        ends = self._ends(found)
        memory = self._encode(found, read)
        hidden, fields = self._decode(memory, self._shifted(found), read, asked)
        pooled = self._dense.run(function, np.ascontiguousarray(hidden[ends]), TANH, None)
        output = Seq2SeqSequenceClassifierOutput(
            logits=self._out.run(function, pooled, None, None), **fields
        )
        return output if asked.as_dict else output.to_tuple()

    def _check_types(self, types: ArrayLike | None, shape: tuple[int, ...]) -> None:
        if types is not None and (np.shape(types) != shape or np.any(np.asarray(types))):
            raise ValueError(
                f"{_FUNCTION}: token_type_ids is no array of {shape} zeros, expected None, or "
                "zeros, as the model has no types of tokens"
            )

    def _ends(self, found: Sequences) -> Int:
        """Return the places [B] of the last end token of each row among the M tokens."""
        offsets, places = found.places.offsets, np.flatnonzero(found.ids == self._end)
        last = np.searchsorted(places, offsets[1:]) - 1
        ends = places[np.maximum(last, 0)] if len(places) else np.full_like(last, -1)
        missing = np.flatnonzero((last < 0) | (ends < offsets[:-1]))
        if len(missing):
            raise ValueError(
                f"{_FUNCTION}: row {missing[0]} of input_ids has no end token {self._end}, "
                "expected one, whose place makes the scores"
            )
        return np.asarray(ends, np.int64)

    def _shifted(self, found: Sequences) -> Sequences:
        """Return the tokens that the decoder reads: a first one, and all of a row but its last."""
        ids, offsets = np.roll(found.ids, 1), found.places.offsets
        for first, last in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            ids[first] = self._first(found.ids[first:last])
        return found._replace(ids=ids)

    def _first(self, row: Int) -> int:
        """Return the token before a text: of an mBART its last one, where languages are named."""
        if self._start is not None:
            return self._start
        # Transformers counts the tokens that are no padding, and takes the one at that place.
        return int(row[np.count_nonzero(row != self.config.pad_token_id) - 1])


def is_classifier(function: str, directory: str) -> bool:
    """Tell whether a directory has a model of a family with a decoder that classifies texts."""
    kind = read_json(function, directory, "config.json").get("model_type")
    return isinstance(kind, str) and kind in CLASSIFIERS


def open_classifier(function: str, directory: str, dtype: object = "float32") -> SequenceClassifier:
    """Load the model of a directory, of which `is_classifier` is true."""
    model = SequenceClassifier.__new__(SequenceClassifier)
    model._dtype = checks.dtype(function, "dtype", dtype)
    model._directory = directory
    description = read_description(function, directory, CLASSIFIERS)
    where, entries = f"{function}: {directory}/config.json", description.config.to_dict()
    try:
        model.config = Config(entries | read_labels(where, entries))
    except TypeError as error:  # every fault of a file is a ValueError, also a wrong type
        raise ValueError(str(error)) from None
    model._shapes = description.shapes
    hidden, size = model.config.hidden_size, description.shapes.decoder.vocabulary
    model._end = special_token(where, "eos_token_id", entries["eos_token_id"], size)
    known = "pad_token_id" if description.family.begins_with_last else "decoder_start_token_id"
    token = special_token(where, known, entries[known], size)
    model._start = None if description.family.begins_with_last else token
    head = linear_shapes(_DENSE, hidden, hidden)
    head |= linear_shapes(_OUT, label_count(function, model.config), hidden)
    with Checkpoint(function, directory) as checkpoint:
        checkpoint.check(head, "it for a classifier of sequences, as config.json describes it")
        model._encoder, model._decoder = open_stacks(
            function, checkpoint, description, model._dtype, with_head=False
        )
        model._dense = read_linear(function, checkpoint, _DENSE)
        model._out = read_linear(function, checkpoint, _OUT)
    return model
