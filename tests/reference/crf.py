"""A linear-chain CRF by its definition: every sequence of tags is scored, one after the other."""

import itertools

import numpy as np


def score(emissions, tags, transitions, start, end):
    """The score of the tags of one sequence, emissions [T, K]; 0 if it has no steps."""
    if len(tags) == 0:
        return 0.0
    sums = start[tags[0]] + end[tags[-1]]
    sums += sum(emissions[step, tag] for step, tag in enumerate(tags))
    return sums + sum(transitions[pair] for pair in itertools.pairwise(tags))


def all_scores(emissions, transitions, start, end):
    """{tags: their score} of all K^T sequences of tags."""
    steps, tags = emissions.shape
    return {
        found: score(emissions, found, transitions, start, end)
        for found in itertools.product(range(tags), repeat=steps)
    }


def log_likelihood(emissions, tags, transitions, start, end):
    """The logarithm of the share that these tags have of the sum of exp(score)."""
    every = np.array(list(all_scores(emissions, transitions, start, end).values()))
    largest = every.max()
    normalizer = largest + np.log(np.exp(every - largest).sum())
    return score(emissions, tags, transitions, start, end) - normalizer


def decode(emissions, transitions, start, end):
    """The best tags, the first of them in the order of numbers, and their score."""
    every = all_scores(emissions, transitions, start, end)
    best = max(every.values())
    return next(tags for tags, value in every.items() if value == best), best
