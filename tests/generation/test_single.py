"""Searches that keep one hypothesis: greedy, and sampling."""

import numpy as np
import pytest

from support.decodings import Table
from treadle.generation import GenerationConfig, search


def run(prompts, table=None, **options):
    """Search over a table, and return the table with the result."""
    extra = {k: options.pop(k) for k in ("logits_hook", "streamer", "uniform") if k in options}
    table = Table(11) if table is None else table
    logits = table.start(prompts)
    return table, search(table, logits, prompts, GenerationConfig(**options), **extra)


def greedy(table, prompt, count, ends=()):
    row = tuple(prompt)
    for _ in range(count):
        row = (*row, int(np.argmax(table.of(row))))
        if row[-1] in ends:
            break
    return row


def test_greedy_takes_the_best_token():
    prompts = [[1, 2], [3], [4, 5, 6]]
    table, found = run(prompts, max_new_tokens=7, eos_token_id=(0, 9), pad_token_id=0)
    for i, prompt in enumerate(prompts):
        expected = greedy(table, prompt, 7, ends=(0, 9))
        assert tuple(found.sequences[i, : found.lengths[i]]) == expected
        assert (found.sequences[i, found.lengths[i] :] == 0).all()
    assert found.sequences_scores is None


def test_rows_leave_as_they_end():
    """A step extends the sentences that go on, and no other."""
    live = []

    class Counted(Table):
        def step(self, tokens):
            live.append(len(tokens))
            return super().step(tokens)

    _, found = run([[i] for i in range(20)], Counted(11), max_new_tokens=12, eos_token_id=(0, 5, 9))
    new = found.lengths - 1
    assert live == [(new > n).sum() for n in range(1, new.max())]


def test_defaults_are_twenty_new_tokens():
    assert run([[1, 2, 3]])[1].lengths.tolist() == [23]
    assert run([[1, 2, 3]], max_length=5)[1].lengths.tolist() == [5]
    assert run([[1, 2, 3], [1]], max_length=5)[1].lengths.tolist() == [5, 5]
    assert run([[1, 2, 3]], max_length=5, max_new_tokens=9)[1].lengths.tolist() == [12]


@pytest.mark.parametrize("sample", [False, True])
def test_alone_and_in_a_batch(sample):
    prompts = [[1, 2], [3], [4, 5, 6], [1, 2], [10, 9, 8, 7, 6]]
    options = {
        "max_length": 12,
        "eos_token_id": 0,
        "repetition_penalty": 1.3,
        "do_sample": sample,
        "seed": 5,
        "top_k": 7,
        "top_p": 0.9,
        "output_scores": True,
    }
    _, together = run(prompts, **options)
    for i, prompt in enumerate(prompts):
        _, alone = run([prompt], **options)
        length = alone.lengths[0]
        assert together.lengths[i] == length
        assert (together.sequences[i, :length] == alone.sequences[0]).all()
        for ours, theirs in zip(alone.scores, together.scores, strict=False):
            assert ours[0].tobytes() == theirs[i].tobytes()


def test_empty_batch():
    _, found = run([])
    assert found.sequences.shape == (0, 0)
    assert found.lengths.shape == (0,)
