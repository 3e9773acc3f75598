"""The encoder of a T5, which AutoModel reads alone: token ids to hidden states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from treadle._inputs import checks
from treadle.transformers.checkpoint import Checkpoint
from treadle.transformers.directory import read_json, resolve
from treadle.transformers.generating import open_encoder, read_description
from treadle.transformers.generator import make_stack, requested
from treadle.transformers.loaded import LoadedModel
from treadle.transformers.outputs import BaseModelOutput
from treadle.transformers.seq2seq_families import TEXT_ENCODERS
from treadle.transformers.sequences import check_sequences

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike
    from treadle._storage.files import Path
    from treadle.layers.decoder_stack import DecoderStack
    from treadle.transformers.stack_shapes import StackShape

_NAMES = ("input_ids", "attention_mask")


class TextEncoder(LoadedModel):
    """The encoder of a T5 or an mT5, made by AutoModel.from_pretrained."""

    _shape: StackShape
    _stack: DecoderStack

    @property
    def _most_tokens(self) -> int:
        # Distances beyond the last bucket are all the same to a T5.
        return checks.MAX_SIZE

    @classmethod
    def from_pretrained(cls, directory: Path, *, dtype: Any = "float32") -> Any:
        """Load the encoder of a directory, as ``AutoModel.from_pretrained`` does."""
        function = "treadle.transformers.AutoModel.from_pretrained"
        return open_text_encoder(function, resolve(function, directory), dtype)

    def __call__(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        *,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return last_hidden_state [B, S, H] of token ids [B, S].

        Tokens where ``attention_mask`` is 0 are padding, wherever they lie; they are not computed,
        and the output is 0 there. ``output_hidden_states`` asks for the hidden states before the
        first layer and after each one, of the last after the final norm, ``output_attentions`` for
        the probabilities [B, N, S, S] of each layer. The flags are config.json's by default.

        Raises
        ------
        TypeError, ValueError
            For numbers out of range and shapes that do not fit.
        """
        function = "treadle.transformers.AutoModel"
        asked = requested(
            function, self.config, output_hidden_states, output_attentions, return_dict
        )
        found = check_sequences(function, self._shape, _NAMES, input_ids, attention_mask)
        hidden = self._stack.encode(
            found.ids, found.lengths, states=asked.states, attentions=asked.attentions
        )
        output = BaseModelOutput(
            last_hidden_state=found.places.scatter(hidden),
            hidden_states=asked.hidden_states(found.places, hidden),
            attentions=asked.probabilities(found.places),
        )
        return output if asked.as_dict else output.to_tuple()


def is_text_encoder(function: str, directory: str) -> bool:
    """Tell whether a directory has a model whose encoder AutoModel reads alone."""
    kind = read_json(function, directory, "config.json").get("model_type")
    return isinstance(kind, str) and kind in TEXT_ENCODERS


def open_text_encoder(function: str, directory: str, dtype: object = "float32") -> TextEncoder:
    """Load the encoder of a directory, of which `is_text_encoder` is true."""
    model = TextEncoder.__new__(TextEncoder)
    model._dtype = checks.dtype(function, "dtype", dtype)
    model._directory = directory
    description = read_description(function, directory, TEXT_ENCODERS)
    shape = description.shapes.encoder
    assert shape is not None
    model.config, model._shape = description.config, shape
    with Checkpoint(function, directory) as checkpoint:
        weights = open_encoder(checkpoint, description.family, shape, model._dtype)
        model._stack = make_stack(function, weights, model._dtype)
    return model
