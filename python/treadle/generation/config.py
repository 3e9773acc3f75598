"""This module has the options of a search, in Transformers' names, and checks their values."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from treadle._inputs import checks
from treadle._public import published
from treadle.generation import entries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAME = "treadle.generation.GenerationConfig"
# Transformers generates so many tokens where neither max_length nor max_new_tokens is set.
DEFAULT_NEW_TOKENS = 20


@published("treadle.generation")
@dataclass(frozen=True)
class GenerationConfig:
    """The options of a search. Names, defaults and meanings are those of Transformers.

    A sentence is a row of the batch, its length that of its prompt and its new tokens together.
    None stands for the default, except where it is one. Nothing depends on other rows: a limit of
    lengths counts the sentence's own tokens, without padding.

    Parameters
    ----------
    max_length, max_new_tokens
        The largest length, or the largest number of new tokens, which counts if both are there.
        Without both, 20 new tokens.
    min_length, min_new_tokens
        An end token cannot be chosen before.
    do_sample
        Whether tokens are drawn instead of chosen.
    num_beams
        The number of hypotheses that a beam search keeps; 1 for none.
    num_return_sequences
        The number of sequences that are returned for a prompt, at most num_beams.
    length_penalty
        A hypothesis of n new tokens has the score (sum of its log-probabilities) /
        n^length_penalty.
    early_stopping
        True: a beam search ends with num_beams hypotheses that have ended. False: it ends when its
        best open hypothesis, as long as it now is, would not get among them. "never": the same with
        the length that is best for it.
    temperature, top_k, top_p, min_p
        For do_sample. The scores are divided by temperature; of the tokens remain the top_k best
        (0: all), of these the fewest whose probabilities sum to top_p, and those that are at least
        min_p times as probable as the best.
    seed
        Where the numbers for sampling come from: an integer, one for each sentence, or None for
        numbers that are new each time. A sentence gets the same numbers at each place in a batch,
        and each of its returned sequences others. Transformers has no such option.
    repetition_penalty
        Scores of tokens that the sentence has are divided by it if positive, else multiplied.
    no_repeat_ngram_size
        No sequence of so many tokens occurs twice in a sentence; 0 for no such rule.
    bad_words_ids
        Sequences of tokens that must not occur among the new ones.
    forced_bos_token_id, forced_eos_token_id
        The token behind a prompt of one token, and the one (or several) at the largest length.
    suppress_tokens, begin_suppress_tokens
        Tokens that are never chosen, and tokens that are not chosen at the beginning.
    remove_invalid_values, renormalize_logits
        Replace NaN and infinity; take the log-softmax of what the other options left.
    bos_token_id, decoder_start_token_id
        For who makes the prompts: a search does not look at them.
    eos_token_id, pad_token_id
        The token, or tokens, that end a sentence, and what stands behind its end (an end token
        where it is None).
    output_scores, output_logits, return_dict_in_generate
        Whether the scores and logits of every step are returned; the third is for
        ``generate``.

    Raises
    ------
    TypeError, ValueError
        For values that have no meaning. Those of sampling are judged only with do_sample, as real
        files have others beside do_sample = False.

    References
    ----------
    Transformers 5, generation/configuration_utils.py. Length penalty: Wu et al., arXiv:1609.08144.
    top_k: Fan et al., arXiv:1805.04833; top_p: Holtzman et al., arXiv:1904.09751; min_p: Nguyen et
    al., arXiv:2407.01082; repetition_penalty: Keskar et al., arXiv:1909.05858.

    Examples
    --------
    >>> import treadle.generation
    >>> config = treadle.generation.GenerationConfig(num_beams=4, max_new_tokens=60)
    >>> config.merged(num_beams=2).num_beams
    2
    """

    max_length: int | None = None
    max_new_tokens: int | None = None
    min_length: int = 0
    min_new_tokens: int | None = None
    do_sample: bool = False
    num_beams: int = 1
    num_return_sequences: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float | None = None
    seed: int | tuple[int, ...] | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words_ids: tuple[tuple[int, ...], ...] | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | tuple[int, ...] | None = None
    suppress_tokens: tuple[int, ...] | None = None
    begin_suppress_tokens: tuple[int, ...] | None = None
    remove_invalid_values: bool = False
    renormalize_logits: bool = False
    bos_token_id: int | None = None
    decoder_start_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None
    output_scores: bool = False
    output_logits: bool = False
    return_dict_in_generate: bool = False

    def __post_init__(self) -> None:
        """Check every value, and store it in its plain form."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                value = field.default
            if value is not None:
                value = entries.CHECKS[field.name](_NAME, field.name, value)
            object.__setattr__(self, field.name, value)
        if self.do_sample:
            checks.number(_NAME, "temperature", self.temperature, above=0)
            checks.integer(_NAME, "top_k", self.top_k, least=0)
            checks.number(_NAME, "top_p", self.top_p, 0, most=1)
            if self.min_p is not None:
                checks.number(_NAME, "min_p", self.min_p, 0, most=1)
        self._check_together()

    def _check_together(self) -> None:
        """Raise ValueError for values that contradict each other."""
        most = entries.MOST_ROWS if self.do_sample and self.num_beams == 1 else self.num_beams
        if self.num_return_sequences > most:
            raise ValueError(
                f"{_NAME}: num_return_sequences is {self.num_return_sequences}, expected at most "
                f"{most}, as many as num_beams; set num_beams, or do_sample=True"
            )
        suppressed = set(self.suppress_tokens or ())
        for name in ("forced_bos_token_id", "forced_eos_token_id"):
            forced = set(as_tuple(getattr(self, name)))
            if forced and forced <= suppressed:
                raise ValueError(
                    f"{_NAME}: {name} {sorted(forced)} is among suppress_tokens, so that no token "
                    "would remain; remove it from one of them"
                )

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> GenerationConfig:
        """Make the options of a generation_config.json that has been read.

        Entries that no search looks at are passed over, as by Transformers.

        Raises
        ------
        TypeError, ValueError
            For values that have no meaning, and for entries that would change the tokens and that
            treadle does not have.

        Examples
        --------
        >>> import treadle.generation
        >>> file = {"eos_token_id": [1, 2], "transformers_version": "5.0.0"}
        >>> treadle.generation.GenerationConfig.from_dict(file).eos_token_id
        (1, 2)
        """
        known = {field.name for field in fields(cls)}
        entries.refuse_unsupported(_NAME, content)
        return cls(**{name: value for name, value in content.items() if name in known})

    def merged(self, **overrides: Any) -> GenerationConfig:
        """Return these options with some of them replaced, as arguments of ``generate`` do.

        None switches an option off, also where its default does not (top_k).

        Raises
        ------
        TypeError, ValueError
            For a name that is no option, and as for `from_dict`.

        Examples
        --------
        >>> import treadle.generation
        >>> treadle.generation.GenerationConfig(eos_token_id=2).merged(top_k=None).top_k
        0
        """
        known = {field.name for field in fields(self)}
        entries.refuse_unsupported(_NAME, overrides)
        entries.refuse_unknown(_NAME, overrides, known)
        changes = {name: value for name, value in overrides.items() if name in known}
        if "top_k" in changes and changes["top_k"] is None:
            changes["top_k"] = 0
        return replace(self, **changes)

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """The tokens that end a sentence."""
        return as_tuple(self.eos_token_id)

    def limits(self, prompt_lengths: Sequence[int]) -> list[int]:
        """Return the largest length of every sentence.

        Raises
        ------
        ValueError
            For a prompt that has no room for a new token, and for a length_penalty that leaves the
            range of float32.
        """
        limits = []
        for i, length in enumerate(prompt_lengths):
            if self.max_new_tokens is not None:
                limit = length + self.max_new_tokens
            elif self.max_length is not None:
                limit = self.max_length
            else:
                limit = length + DEFAULT_NEW_TOKENS
            if limit <= length:
                raise ValueError(
                    f"treadle.generation.search: prompt {i} has {length} tokens and max_length is "
                    f"{limit}, which counts them; raise it, or set max_new_tokens"
                )
            self._check_penalty(limit - length)
            limits.append(limit)
        return limits

    def _check_penalty(self, count: int) -> None:
        """Raise ValueError unless count^length_penalty is a float32 beside 0 and infinity."""
        if self.num_beams > 1 and abs(self.length_penalty) * math.log(count) > 87:
            raise ValueError(
                f"treadle.generation.search: length_penalty is {self.length_penalty:g}, and "
                f"{count} new tokens to that power leave the range of float32; bring it nearer to 0"
            )


def as_tuple(tokens: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """Return one token, several or none as a tuple."""
    if tokens is None:
        return ()
    return (tokens,) if isinstance(tokens, int) else tokens
