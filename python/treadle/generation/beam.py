"""Beam search, and beam sampling: several hypotheses for every sentence.

The arithmetic is that of Transformers 5 (generation/utils.py, `_beam_search`), number by number:
sums of log-probabilities in float32, -1e9 added where a hypothesis must not be chosen, K = (1 + the
number of end tokens, at least 1) num_beams candidates, of which only the first num_beams may end.
A sentence stops by itself, as it would alone; in Transformers it waits for the others, but nothing
is added to what it has found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from treadle.functional import log_softmax
from treadle.generation import sampling
from treadle.generation.best import best
from treadle.generation.hypotheses import IMPOSSIBLE, Hypotheses, Hypothesis
from treadle.generation.prefixes import Prefixes
from treadle.generation.results import Record, SearchResult, padded
from treadle.generation.rows import Rows
from treadle.generation.task import refuse_scores

if TYPE_CHECKING:
    from treadle._inputs.types import Bool, Float, Int
    from treadle.generation.config import GenerationConfig
    from treadle.generation.task import Task

_NO_TRAIL = np.empty(0, np.int64)
_NAME = "treadle.generation.search"


def candidates_of(config: GenerationConfig) -> int:
    """Return K, the number of continuations of a sentence that a step of a beam search keeps."""
    return (1 + max(len(config.end_tokens), 1)) * config.num_beams


def search_beams(task: Task, logits: Float) -> SearchResult:
    """Extend the best hypotheses of every sentence until no better one can come."""
    search = _BeamSearch(task)
    if len(search.live) == 0:
        return search.result()
    candidates = search.candidates(logits)
    while True:
        search.advance(candidates)
        if len(search.live) == 0:
            return search.result()
        tokens = search.rows.tokens[:, -1].copy()
        if task.sees_all:
            candidates = search.candidates(task.step(tokens))
        else:
            k = candidates_of(task.config)
            candidates = search.best_candidates(*task.step_best(search.rows, tokens, k))


@dataclass(frozen=True)
class _Candidates:
    """The K continuations [S, K] of every live sentence, in the order in which they were chosen."""

    scores: Float
    beams: Int
    tokens: Int
    ended: Bool
    """True where a continuation ends, with an end token or at its largest length."""

    def taken(self, places: Int) -> _Candidates:
        """Return the candidates at these places of each sentence."""
        return _Candidates(
            np.take_along_axis(self.scores, places, axis=1),
            np.take_along_axis(self.beams, places, axis=1),
            np.take_along_axis(self.tokens, places, axis=1),
            np.take_along_axis(self.ended, places, axis=1),
        )


class _BeamSearch:
    """The state of a beam search.

    S sentences are live. Each has one row of the decoding before the first step, and num_beams rows
    after it, the best first.
    """

    def __init__(self, task: Task) -> None:
        config, sentences = task.config, len(task.prompts)
        self._task = task
        self._beams = config.num_beams
        self._kept = candidates_of(config)
        if sentences and self._kept > self._beams * task.vocabulary:
            raise ValueError(
                f"{_NAME}: a beam search with {len(config.end_tokens)} end tokens keeps "
                f"{self._kept // self._beams} tokens for each beam, but there are only "
                f"{task.vocabulary}; set fewer in eos_token_id"
            )
        self.rows = Rows(task.prompts, task.limits)
        self.live: Int = np.arange(sentences)
        self._width = 1
        self._scores: Float = np.full((sentences, self._beams), IMPOSSIBLE, np.float32)
        self._scores[:, 0] = 0
        self._hypotheses = Hypotheses(sentences, self._beams)
        self._trail: Int | None = None
        if config.output_scores or config.return_dict_in_generate:
            self._trail = np.empty((sentences, 0), np.int64)
        self._found: list[list[Hypothesis | None]] = [[]] * sentences
        self._found_scores = np.zeros((sentences, self._beams), np.float32)
        self._scores_of = Record(config.output_scores, sentences * self._beams)
        self._logits_of = Record(config.output_logits, sentences * self._beams)
        self._prefixes = Prefixes(task.stream, sentences) if task.stream.wanted else None
        if sentences:
            task.stream.put(np.where(self.rows.tokens < 0, task.filler, self.rows.tokens))

    def candidates(self, logits: Float) -> _Candidates:
        """Choose the continuations of every sentence by the sums of their log-probabilities."""
        task, vocabulary = self._task, self._task.vocabulary
        self._record(self._logits_of, logits)
        scores = task.constrained(self.rows, log_softmax(logits))
        if task.uniform is not None:
            refuse_scores(scores.max(axis=1), self._sentences(), self.rows.count)
            least = max(len(task.config.end_tokens), 1) + 1
            scores = sampling.warp(task.config, scores, least)
        scores = task.renormalised(scores)
        self._record(self._scores_of, scores)
        sums = self._sums(scores).reshape(len(self.live), -1)
        if task.uniform is not None:
            numbers = task.uniform.draw(self.live, self.rows.count)
            places, values = sampling.draw_several(sums, numbers)
        else:
            places, values = best(sums, self._kept)
            self._refuse(values[:, 0])
        return self._chosen(values, places // vocabulary, places % vocabulary)

    def best_candidates(self, ids: Int, logits: Float, lse: Float) -> _Candidates:
        """Choose among the best tokens [R, K] of each beam, which are those of its sentence.

        No candidate is missing: the rules leave as many as are chosen, or the vocabulary.
        """
        refuse_scores(lse, self._sentences(), self.rows.count)
        scores = logits - lse[:, None]
        ids, scores = self._task.constrained_best(self.rows, ids, scores, self._kept)
        sums = self._sums(scores).reshape(len(self.live), -1)
        places, values = best(sums, self._kept)
        self._refuse(values[:, 0])
        tokens = np.take_along_axis(ids.reshape(sums.shape), places, axis=1)
        return self._chosen(values, places // ids.shape[1], tokens)

    def _chosen(self, values: Float, beams: Int, tokens: Int) -> _Candidates:
        """Return chosen continuations [S, K], and say which of them end."""
        full = self._first(self.rows.lengths) + 1 >= self._first(self.rows.limits)
        ended = self._task.ended(tokens) | full[:, None]
        return _Candidates(values, beams, tokens, ended)

    # The lowest float32, which remove_invalid_values puts for -inf, may be added to itself.
    @np.errstate(over="ignore")
    def _sums(self, scores: Float) -> Float:
        """Add the scores [R, V] of the next tokens to those of the rows; [S, num_beams, V]."""
        sums = scores.reshape(len(self.live), self._width, -1)
        if self._width == 1:
            return sums + self._scores[:, :, None]
        sums += self._scores[:, :, None]
        return sums

    def _refuse(self, scores: Float) -> None:
        """Raise ValueError unless the best continuation of each sentence can be chosen.

        A sentence that has no continuation left ends with what it has found, if it has.
        """
        over = (scores == -np.inf) & self._hypotheses.ended.any(axis=1)
        refuse_scores(np.where(over, 0, scores), self.live, self.rows.count)

    def advance(self, candidates: _Candidates) -> None:
        """Sort out what has ended, and continue with the best of the others."""
        count = self.rows.count + 1
        power = np.float32(float(count) ** self._task.config.length_penalty)
        with np.errstate(over="ignore"):
            final = candidates.scores / power
        may_end = candidates.ended & (np.arange(self._kept) < self._beams)
        self._hypotheses.add(final, may_end, lambda s, k: self._hypothesis(candidates, s, k))
        running = candidates.scores + np.where(candidates.ended, IMPOSSIBLE, np.float32(0))
        places, scores = best(running, self._beams)
        over = self._over(scores[:, 0], count) | candidates.ended.all(axis=1)
        finished = {}
        for s in np.flatnonzero(over):
            finished[int(self.live[s])] = self._finish(int(s))
        self._continue(candidates.taken(places), scores, np.flatnonzero(~over))
        if self._prefixes is not None:
            self._stream(self._prefixes, finished)

    @np.errstate(over="ignore")
    def _over(self, running: Float, count: int) -> Bool:
        """Say which sentences cannot find anything better, or need not."""
        config, ended = self._task.config, self._hypotheses.ended
        lengths = np.full(len(self.live), count)
        if config.early_stopping == "never" and config.length_penalty > 0:
            lengths = self._first(self.rows.limits - self.rows.prompt_lengths)
        powers = [float(length) ** config.length_penalty for length in lengths]
        possible = running / np.array(powers, np.float32)
        worst = self._hypotheses.scores.min(axis=1, keepdims=True)
        worst = np.where(ended, worst, IMPOSSIBLE)
        better: Bool = np.asarray((possible[:, None] > worst).any(axis=1))
        return ~better | ended.all(axis=1) if config.early_stopping is True else ~better

    def _finish(self, s: int) -> Int:
        """Keep what live sentence s has found, and return the new tokens of the best."""
        sentence = self.live[s]
        found = self._hypotheses.of(s)
        if found[0] is None:
            raise ValueError(
                f"{_NAME}: prompt {sentence}: no hypothesis has ended, as all have scores below "
                f"{IMPOSSIBLE:g}; expected log-probabilities from logits_hook"
            )
        self._found[sentence] = found
        self._found_scores[sentence] = self._hypotheses.scores[s]
        return found[0].tokens[len(self._task.prompts[sentence]) :]

    def _continue(self, chosen: _Candidates, scores: Float, kept: Int) -> None:
        """Give the rows of the sentences that go on to the chosen continuations."""
        parents = self._parents(chosen.beams)[kept].reshape(-1)
        extended = (self.live[:, None] * self._beams + chosen.beams)[kept].reshape(-1)
        unchanged = len(parents) == len(self.rows) and (parents == np.arange(len(parents))).all()
        if len(kept) and not unchanged:
            self._task.decoding.reorder(parents)
        self.rows.take(parents)
        self.rows.append(chosen.tokens[kept].reshape(-1))
        if self._trail is not None:
            self._trail = np.concatenate([self._trail[parents], extended[:, None]], axis=1)
        self._hypotheses.take(kept)
        self.live, self._scores, self._width = self.live[kept], scores[kept], self._beams

    def _parents(self, beams: Int) -> Int:
        """Return the rows that belong to these beams [S, ...] of the live sentences."""
        first = np.arange(len(self.live))[:, None] * self._width
        return first + np.minimum(beams, self._width - 1)

    def _hypothesis(self, candidates: _Candidates, s: int, k: int) -> Hypothesis:
        """Return the k-th candidate of live sentence s as a sequence that has ended."""
        row = s * self._width + min(int(candidates.beams[s, k]), self._width - 1)
        tokens = self.rows.tokens[row]
        tokens = tokens[len(tokens) - self.rows.lengths[row] :]
        trail = self._trail
        if trail is not None:
            extended = self.live[s] * self._beams + candidates.beams[s, k]
            trail = np.append(trail[row], extended)
        return Hypothesis(np.append(tokens, candidates.tokens[s, k]), trail)

    def _stream(self, prefixes: Prefixes, finished: dict[int, Int]) -> None:
        """Put what has become certain into the stream."""
        new = self.rows.new_tokens.reshape(len(self.live), self._beams, self.rows.count)
        ended: list[Int | None] = []
        for s, sentence in enumerate(self.live):
            first = self._hypotheses.of(s)[0]
            length = len(self._task.prompts[sentence])
            ended.append(None if first is None else first.tokens[length:])
        prefixes.update(finished, self.live, list(new), ended)

    def _first(self, values: Int) -> Int:
        """Return a value of each row for each sentence, whose rows agree on it."""
        return values[:: self._width]

    def _sentences(self) -> Int:
        """Return the sentence of each row."""
        return np.repeat(self.live, self._width)

    def _record(self, record: Record, values: Float) -> None:
        """Record an array [R, V]; the first one has a row for each sentence."""
        live = (self.live[:, None] * self._beams + np.arange(self._beams)).reshape(-1)
        record.add(live, values if self._width > 1 else np.repeat(values, self._beams, axis=0))

    def result(self) -> SearchResult:
        """Return the best hypotheses of every sentence."""
        task, each = self._task, self._task.config.num_return_sequences
        sequences, trails = [], []
        for prompt, found in zip(task.prompts, self._found, strict=True):
            for one in found[:each]:
                sequences.append(prompt if one is None else one.tokens)
                trails.append(_NO_TRAIL if one is None or one.trail is None else one.trail)
        ends = task.config.end_tokens
        # Transformers takes 0 for no pad_token_id here.
        filler = ends[0] if ends and task.filler == 0 else task.filler
        found_tokens, lengths = padded(sequences, filler)
        return SearchResult(
            found_tokens,
            lengths,
            self._found_scores[:, :each].reshape(-1),
            self._scores_of.steps,
            self._logits_of.steps,
            None if self._trail is None else padded(trails, -1)[0],
        )
