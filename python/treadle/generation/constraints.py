"""Rules that change the scores of the next token, each for all live rows at a time.

They run in Transformers' order, work in place on scores [R, V] and do for a row what they would do
for it alone. Scores are logits, or log-probabilities in a beam search, as in Transformers. Rules of
the class `TokenRule` also apply where a search has only the best tokens of each row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from treadle.generation.config import GenerationConfig, as_tuple
from treadle.generation.rows import NO_TOKEN, Rows
from treadle.generation.token_rules import MOST_TOKENS, Forbidden, ForbiddenNext, Forced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle._inputs.types import Bool, Float, Int

Constraint: TypeAlias = "Callable[[Rows, Float], None]"

_NONE = np.empty(0, np.int64)


def constraints(config: GenerationConfig) -> list[Constraint]:
    """Return the rules that the options ask for, in the order of Transformers 5."""
    rules: list[Constraint] = []
    if config.repetition_penalty != 1:
        rules.append(repetition_penalty(config.repetition_penalty))
    if config.no_repeat_ngram_size > 0:
        rules.append(no_repeat_ngram(config.no_repeat_ngram_size))
    ends = list(config.end_tokens)
    if config.bad_words_ids is not None:
        rules.extend(bad_words([w for w in config.bad_words_ids if not _is_end(w, ends)]))
    if ends:
        rules.extend(least_lengths(config, ends))
    if config.forced_bos_token_id is not None:
        rules.append(forced_first(config.forced_bos_token_id))
    if config.forced_eos_token_id is not None:
        rules.append(forced_last(list(as_tuple(config.forced_eos_token_id))))
    if config.remove_invalid_values:
        rules.append(replace_invalid)
    if config.suppress_tokens:
        rules.append(Forbidden(config.suppress_tokens))
    if config.begin_suppress_tokens:
        forced = config.forced_bos_token_id is not None
        rules.append(suppressed_at_begin(list(config.begin_suppress_tokens), forced))
    return rules


def _is_end(word: tuple[int, ...], ends: list[int]) -> bool:
    return len(word) == 1 and word[0] in ends


def repetition_penalty(penalty: float) -> Constraint:
    """Divide positive scores of tokens that the row has by the penalty, multiply negative ones."""
    factor = np.float32(penalty)

    def apply(rows: Rows, scores: Float) -> None:
        tokens = rows.tokens
        row, column = np.nonzero((tokens != NO_TOKEN) & (tokens < scores.shape[1]))
        token = tokens[row, column]
        before = scores[row, token]
        # A token that occurs twice is read twice before it is written: it is penalised once.
        with np.errstate(over="ignore"):
            scores[row, token] = np.where(before < 0, before * factor, before / factor)

    return apply


def no_repeat_ngram(size: int) -> Constraint:
    """Forbid each token that would complete a sequence of ``size`` tokens that the row has."""

    def find(rows: Rows) -> tuple[Int, Int]:
        tokens = rows.tokens
        if tokens.shape[1] < size:
            return _NONE, _NONE
        prefix = tokens[:, tokens.shape[1] + 1 - size :]
        windows = np.lib.stride_tricks.sliding_window_view(tokens, size, axis=1)
        # A window whose beginning is shorter than it should be, behind a short prompt, matches the
        # end of its row only there, where no token follows it.
        matches = (windows[:, :, :-1] == prefix[:, None]).all(axis=2)
        last = windows[:, :, -1]
        row, column = np.nonzero(matches & (last != NO_TOKEN))
        return row, last[row, column]

    # With a size of 1 every token of the row is forbidden, and these may be many.
    return ForbiddenNext(find, few=size > 1)


def bad_words(words: Sequence[tuple[int, ...]]) -> list[Constraint]:
    """Forbid the last token of each word where the row ends with the tokens before it."""
    single = sorted({word[0] for word in words if len(word) == 1})
    rules: list[Constraint] = [Forbidden(single)] if single else []
    for length in sorted({len(word) for word in words} - {1}):
        group = np.array([word for word in words if len(word) == length], np.int64)
        rules.append(_forbidden_ends(group))
    return rules


def _forbidden_ends(words: Int) -> Constraint:
    length = words.shape[1]

    def find(rows: Rows) -> tuple[Int, Int]:
        tokens = rows.tokens
        if tokens.shape[1] < length - 1:
            return _NONE, _NONE
        ends = tokens[:, tokens.shape[1] + 1 - length :]
        row, word = np.nonzero((ends[:, None] == words[None, :, :-1]).all(axis=2))
        return row, words[word, -1]

    return ForbiddenNext(find, few=len(words) <= MOST_TOKENS)


def least_lengths(config: GenerationConfig, ends: list[int]) -> list[Constraint]:
    """Forbid the end tokens where a row is shorter than min_length or min_new_tokens say."""
    rules: list[Constraint] = []
    if config.min_new_tokens is not None:
        least_new = config.min_new_tokens
        rules.append(Forbidden(ends, lambda rows: np.full(len(rows), rows.count < least_new)))
    elif config.min_length > 0:
        least = config.min_length
        rules.append(Forbidden(ends, lambda rows: rows.lengths < least))
    return rules


def suppressed_at_begin(tokens: list[int], forced: bool) -> Constraint:
    """Forbid tokens as the first new one, or as the second where a first one is forced."""

    def here(rows: Rows) -> Bool:
        later = (rows.prompt_lengths <= 1) & forced
        return np.asarray(rows.count == later.astype(np.int64))

    return Forbidden(tokens, here)


def forced_first(token: int) -> Constraint:
    """Leave only one token behind a prompt of one token."""
    return Forced([token], lambda rows: rows.lengths == 1)


def forced_last(tokens: list[int]) -> Constraint:
    """Leave only these tokens at the last place that a row has."""
    return Forced(tokens, lambda rows: rows.lengths == rows.limits - 1)


def replace_invalid(rows: Rows, scores: Float) -> None:
    """Replace NaN by 0 and infinities by the largest numbers."""
    np.nan_to_num(scores, copy=False)
