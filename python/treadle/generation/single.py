"""One hypothesis for each sequence: the best token at every step, or one that is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle.generation import sampling
from treadle.generation.results import Record, SearchResult, padded
from treadle.generation.rows import Rows
from treadle.generation.task import refuse_scores

if TYPE_CHECKING:
    from treadle._inputs.types import Float, Int
    from treadle.generation.task import Task


def search_single(task: Task, logits: Float) -> SearchResult:
    """Extend every sequence token by token until it ends."""
    each = task.config.num_return_sequences
    rows = Rows(task.prompts, task.limits)
    if each > 1:
        copies = np.repeat(np.arange(len(rows)), each)
        rows.take(copies)
        task.decoding.reorder(copies)
        logits = logits[copies]
    live = np.arange(len(rows))
    sequences: list[Int] = [np.empty(0, np.int64)] * len(rows)
    scores_of = Record(task.config.output_scores, len(rows))
    logits_of = Record(task.config.output_logits, len(rows))
    task.stream.put(np.where(rows.tokens < 0, task.filler, rows.tokens))
    streamed = np.full(len(rows), task.filler)
    best: Int | None = None
    while len(live):
        if best is None:
            logits_of.add(live, logits)
            scores = task.constrained(rows, logits)
            tokens = _choose(task, rows, scores, live, scores_of)
        else:
            tokens = best
        rows.append(tokens)
        if task.stream.wanted:
            streamed[:] = task.filler
            streamed[live] = tokens
            task.stream.put(streamed.copy())
        ended = task.ended(tokens) | (rows.lengths >= rows.limits)
        if ended.any():
            for row in np.flatnonzero(ended):
                sequences[live[row]] = rows.tokens[row, -rows.lengths[row] :].copy()
            kept = np.flatnonzero(~ended)
            live, tokens = live[kept], tokens[kept]
            rows.take(kept)
            if len(live):
                task.decoding.reorder(kept)
        if len(live) and task.sees_all:
            logits = task.step(tokens)
        elif len(live):
            best = _best(task, rows, tokens, live)
    found, lengths = padded(sequences, task.filler)
    return SearchResult(found, lengths, scores=scores_of.steps, logits=logits_of.steps)


def _best(task: Task, rows: Rows, tokens: Int, live: Int) -> Int:
    """Return the token [R] with the largest logit, where nothing has to see the others."""
    ids, values, _ = task.step_best(rows, tokens, 1)
    ids, values = task.constrained_best(rows, ids, values, 1)
    refuse_scores(values[:, 0], live // task.config.num_return_sequences, rows.count)
    return ids[:, 0]


def _choose(task: Task, rows: Rows, scores: Float, live: Int, record: Record) -> Int:
    """Return the next token [R] of every row."""
    sentences = live // task.config.num_return_sequences
    if task.uniform is not None:
        refuse_scores(scores.max(axis=1), sentences, rows.count)
        scores = sampling.warp(task.config, scores, 1)
    scores = task.renormalised(scores)
    record.add(live, scores)
    if task.uniform is not None:
        return sampling.draw(scores, task.uniform.draw(live, rows.count))
    tokens: Int = np.argmax(scores, axis=1)
    refuse_scores(np.take_along_axis(scores, tokens[:, None], axis=1)[:, 0], sentences, rows.count)
    return tokens
