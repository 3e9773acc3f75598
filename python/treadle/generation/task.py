"""A search as its loops see it: the decoding, the options, and the scores of the next token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from treadle.functional import log_softmax
from treadle.generation.decoding import (
    Decoding,
    LogitsHook,
    checked_best,
    checked_logits,
    checked_step,
)
from treadle.generation.token_rules import TokenRule, first_of

if TYPE_CHECKING:
    from treadle._inputs.types import Bool, Float, Int
    from treadle.generation.config import GenerationConfig
    from treadle.generation.constraints import Constraint
    from treadle.generation.rows import Rows
    from treadle.generation.sampling import Uniform
    from treadle.generation.streaming import Stream

_NAME = "treadle.generation.search"


@dataclass(frozen=True)
class Task:
    """A checked call of a search."""

    decoding: Decoding
    config: GenerationConfig
    prompts: list[Int]
    limits: list[int]
    vocabulary: int
    rules: list[Constraint]
    hook: LogitsHook | None
    stream: Stream
    uniform: Uniform | None

    @property
    def filler(self) -> int:
        """The token behind the ends of sequences."""
        if self.config.pad_token_id is not None:
            return self.config.pad_token_id
        return self.config.end_tokens[0] if self.config.end_tokens else -1

    def constrained(self, rows: Rows, scores: Float) -> Float:
        """Apply the rules and the hook to scores [R, V], in place where it can be."""
        for rule in self.rules:
            rule(rows, scores)
        if self.hook is None:
            return scores
        found = self.hook(rows.tokens.copy(), scores)
        checked = checked_logits("logits_hook(ids, logits)", found, len(rows), self.vocabulary)
        # The hook may keep what it returns, and scores are written to.
        scores = scores if checked is scores else checked.copy()
        if np.isnan(scores.max(axis=1)).any():
            raise ValueError(f"{_NAME}: logits_hook returned NaN, expected numbers or -inf")
        return scores

    def step(self, tokens: Int) -> Float:
        """Return the logits that follow the tokens of the live rows."""
        return checked_step(self.decoding, tokens, self.vocabulary)

    @property
    def sees_all(self) -> bool:
        """True if anything has to see the logits of all tokens, or the decoding has no others.

        That depends on nothing but the call, so that a sentence goes the same way in any batch.
        """
        config = self.config
        return (
            len(self._token_rules) < len(self.rules)
            or self.hook is not None
            or self.uniform is not None
            or config.output_scores
            or config.output_logits
            or config.renormalize_logits
            or not hasattr(self.decoding, "step_best")
        )

    @property
    def _token_rules(self) -> list[TokenRule]:
        """The rules that need no more than the best tokens of each row."""
        return [rule for rule in self.rules if isinstance(rule, TokenRule) and rule.few]

    def step_best(self, rows: Rows, tokens: Int, k: int) -> tuple[Int, Float, Float]:
        """Return ids and logits [R, K] of the best next tokens, and all logits' lse [R].

        There are as many as the rules may forbid beyond k, or as the vocabulary has.
        """
        wanted = k + sum(rule.most(rows) for rule in self._token_rules)
        return checked_best(self.decoding, tokens, min(wanted, self.vocabulary), self.vocabulary)

    def constrained_best(self, rows: Rows, ids: Int, scores: Float, k: int) -> tuple[Int, Float]:
        """Apply the rules to the best tokens ``ids`` [R, K] and return the k best that remain.

        They are those that `constrained` and a look at all scores would find.
        """
        if self.rules:
            ids, scores = ids.copy(), scores.copy()
            changed = [rule.narrow(rows, ids, scores) for rule in self._token_rules]
            if any(changed):
                return first_of(ids, scores, min(k, self.vocabulary))
        return ids[:, :k], scores[:, :k]

    def ended(self, tokens: Int) -> Bool:
        """Say which of the tokens end a sentence."""
        return np.isin(tokens, self.config.end_tokens)

    def renormalised(self, scores: Float) -> Float:
        """Take the log-softmax of scores if the options ask for it."""
        return log_softmax(scores) if self.config.renormalize_logits else scores


def refuse_scores(best: Float, sentences: Int, count: int) -> None:
    """Raise ValueError where the best score of a row is no number: no token can be chosen."""
    wrong = np.flatnonzero(~np.isfinite(best))
    if len(wrong) == 0:
        return
    row = wrong[0]
    where = f"{_NAME}: prompt {sentences[row]}, new token {count + 1}"
    if best[row] == -np.inf:
        raise ValueError(
            f"{where}: every token is forbidden; loosen bad_words_ids, no_repeat_ngram_size, "
            "suppress_tokens, min_length or logits_hook"
        )
    raise ValueError(f"{where}: the scores have {best[row]}, expected numbers or -inf")
