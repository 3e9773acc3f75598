"""A model with an encoder and a decoder: one reads a text, the other goes on with it in view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from treadle.transformers.generator import Requested, scattered
from treadle.transformers.loaded import LoadedModel
from treadle.transformers.sequences import Sequences, check_sequences

if TYPE_CHECKING:
    from treadle._inputs.ragged import Ragged
    from treadle._inputs.types import ArrayLike, Float, Int
    from treadle.layers.decoder_stack import DecoderStack
    from treadle.transformers.stack_shapes import Shapes

NAMES = ("input_ids", "attention_mask")


class Memory(NamedTuple):
    """The output of the encoder for the M tokens that exist."""

    places: Ragged
    rows: Float
    """[M, H]"""
    lengths: Int


class EncoderDecoder(LoadedModel):
    """The base of the models that have both stacks."""

    _shapes: Shapes
    _encoder: DecoderStack | None
    _decoder: DecoderStack

    def _read(self, function: str, ids: ArrayLike | None, mask: ArrayLike | None) -> Sequences:
        """Check the tokens that the encoder is to read."""
        shape = self._shapes.encoder
        assert shape is not None
        return check_sequences(function, shape, NAMES, ids, mask)

    def _encode(self, found: Sequences, asked: Requested | None = None) -> Memory:
        """Run the encoder, which fills the lists of ``asked``."""
        stack = self._encoder
        assert stack is not None
        states, attentions = (None, None) if asked is None else asked[:2]
        rows = stack.encode(found.ids, found.lengths, states=states, attentions=attentions)
        return Memory(found.places, rows, found.lengths)

    def _decode(
        self, memory: Memory, found: Sequences, read: Requested, asked: Requested
    ) -> tuple[Float, dict[str, Any]]:
        """Run the decoder over tokens: its output [M, H], and the results that a call asks for.

        ``read`` has the lists that the encoder has filled, ``asked`` those for the decoder.
        """
        state = self._decoder.start(len(found.padded), (memory.rows, memory.lengths))
        cross: list[Float] | None = None if asked.attentions is None else []
        hidden = self._decoder.extend(
            state,
            found.ids,
            found.lengths,
            states=asked.states,
            attentions=asked.attentions,
            cross_attentions=cross,
        )
        seen = None
        if cross is not None:
            seen = tuple(scattered(found.places, memory.places, x) for x in cross)
        return hidden, {
            "decoder_hidden_states": asked.hidden_states(found.places, hidden),
            "decoder_attentions": asked.probabilities(found.places),
            "cross_attentions": seen,
            "encoder_last_hidden_state": memory.places.scatter(memory.rows),
            "encoder_hidden_states": read.hidden_states(memory.places, memory.rows),
            "encoder_attentions": read.probabilities(memory.places),
        }
