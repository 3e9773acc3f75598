"""Beam searches over tables: exhaustive search, single rows and batches, streams."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from reference.attention import softmax
from support.decodings import Table
from treadle.generation import GenerationConfig, search


def run(prompts, vocabulary=11, table_seed=0, **options):
    table = Table(vocabulary, table_seed)
    extra = {k: options.pop(k) for k in ("logits_hook", "streamer", "uniform") if k in options}
    config = GenerationConfig(**options)
    return table, search(table, table.start(prompts), prompts, config, **extra)


def every_sequence(table, prompt, count, end, penalty):
    """All continuations up to ``count`` tokens with their scores, in float64; the best first."""
    found = []
    for length in range(1, count + 1):
        for tokens in itertools.product(range(table.vocabulary), repeat=length):
            inside = tokens[:-1]
            if end in inside or (length < count and tokens[-1] != end):
                continue
            row, total = tuple(prompt), 0.0
            for token in tokens:
                total += np.log(softmax(table.of(row))[token])
                row = (*row, token)
            found.append((total / length**penalty, row))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize(("vocabulary", "count"), [(3, 4), (4, 3), (6, 2), (5, 1)])
def test_enough_beams_find_the_best_of_all(vocabulary, count, penalty):
    """With num_beams of vocabulary^count nothing is dropped, so that the search is exhaustive."""
    beams = vocabulary**count
    table, found = run(
        [[1, 2], [0]],
        vocabulary,
        table_seed=count,
        num_beams=beams,
        num_return_sequences=4,
        max_new_tokens=count,
        eos_token_id=1,
        pad_token_id=2,
        length_penalty=penalty,
        early_stopping="never",
    )
    for i, prompt in enumerate(([1, 2], [0])):
        best = every_sequence(table, prompt, count, 1, penalty)[:4]
        for j, (score, row) in enumerate(best):
            place = 4 * i + j
            assert tuple(found.sequences[place, : found.lengths[place]]) == row
            # The sum of `count` log-probabilities of four roundings each, of numbers below 32.
            assert abs(found.sequences_scores[place] - score) <= count * 4 * 32 * 2.0**-24


OPTIONS = {
    "max_length": st.integers(6, 12),
    "eos_token_id": st.sampled_from([None, (0,), (0, 3, 5)]),
    "length_penalty": st.sampled_from([-1.0, 0.0, 1.0, 2.0]),
    "early_stopping": st.sampled_from([False, True, "never"]),
    "num_beams": st.integers(2, 4),
    "do_sample": st.booleans(),
    "repetition_penalty": st.sampled_from([1.0, 1.3]),
    "no_repeat_ngram_size": st.sampled_from([0, 2]),
}
PROMPTS = st.lists(st.lists(st.integers(0, 10), min_size=1, max_size=5), min_size=1, max_size=5)


class Words:
    """A streamer of a batch that notes what it gets."""

    def __init__(self):
        self.calls, self.ends = [], 0

    def put(self, tokens):
        assert not self.ends
        self.calls.append(tokens)

    def end(self):
        self.ends += 1

    def sentence(self, i):
        """The new tokens of a sentence, in the order in which they came."""
        calls = [call if call.ndim == 2 else call[None] for call in self.calls[1:]]
        return [token for call in calls for token in call[i].tolist() if token != -1]


@hypothesis.given(st.fixed_dictionaries(OPTIONS), PROMPTS)
def test_alone_and_in_a_batch(options, prompts):
    """A sentence has the same tokens, scores and stream, bit for bit."""
    options = {**options, "seed": 3, "output_scores": True, "pad_token_id": 7}
    words = Words()
    _, together = run(prompts, streamer=words, **options)
    beams = options["num_beams"]
    for i, prompt in enumerate(prompts):
        single = Words()
        _, alone = run([prompt], streamer=single, **options)
        length = alone.lengths[0]
        assert together.lengths[i] == length
        assert (together.sequences[i, :length] == alone.sequences[0]).all()
        assert together.sequences_scores[i] == alone.sequences_scores[0]
        for ours, theirs in zip(alone.scores, together.scores, strict=False):
            assert ours.tobytes() == theirs[i * beams : (i + 1) * beams].tobytes()
        new = alone.sequences[0, len(prompt) : length].tolist()
        assert single.sentence(0) == words.sentence(i) == new
        assert single.ends == words.ends == 1


@pytest.mark.parametrize("table_seed", range(4))
def test_beams_are_streamed_as_soon_as_they_agree(table_seed):
    """Where none can end, at each step all has come that the open hypotheses share, and no more."""
    words, came, shared = Words(), [], []

    def hook(ids, scores):
        came.append(len(words.sentence(0)))
        new = ids[:, 1:]
        agree = (new == new[:1]).all(axis=0)
        shared.append(int(np.argmin([*agree, False])) if came[1:] else 0)
        return scores

    options = {"num_beams": 3, "max_new_tokens": 40, "logits_hook": hook, "streamer": words}
    _, found = run([[1]], 6, table_seed, **options)
    assert came == shared
    assert came[-1] > 0, "nothing came before the end"
    assert words.sentence(0) == found.sequences[0, 1:].tolist()


def test_no_row_stays_behind():
    """After the first step each sentence has num_beams rows, and none when it is over."""
    live = []

    class Counted(Table):
        def step(self, tokens):
            live.append(len(tokens))
            return super().step(tokens)

    table = Counted(11)
    prompts = [[i] for i in range(8)]
    config = GenerationConfig(num_beams=3, max_new_tokens=14, eos_token_id=(0, 5), pad_token_id=1)
    search(table, table.start(prompts), prompts, config)
    assert live[0] == 24
    assert live == sorted(live, reverse=True)
    assert live[-1] < 24
    assert all(count % 3 == 0 for count in live)


def test_padding_is_that_of_transformers():
    """Where pad_token_id is 0, a beam search pads with the end token, as in Transformers."""
    for pad, expected in ((0, 5), (2, 2), (None, 5)):
        _, found = run(
            [[1], [2], [3]], num_beams=2, max_new_tokens=12, eos_token_id=5, pad_token_id=pad
        )
        assert len(set(found.lengths)) > 1
        for row, length in zip(found.sequences, found.lengths, strict=True):
            assert set(row[length:]) <= {expected}


def test_empty_batch():
    _, found = run([], num_beams=3)
    assert found.sequences.shape == (0, 0)
    assert found.sequences_scores.shape == (0,)
