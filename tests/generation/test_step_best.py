"""Decodings that return only the best of their logits."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from support.decodings import BestTable, Table
from treadle.generation import GenerationConfig, search

OPTIONS = {
    "max_length": st.integers(6, 12),
    "eos_token_id": st.sampled_from([None, (0,), (0, 3, 5)]),
    "length_penalty": st.sampled_from([-1.0, 1.0]),
    "early_stopping": st.sampled_from([False, True, "never"]),
    "num_beams": st.integers(1, 4),
}
PROMPTS = st.lists(st.lists(st.integers(0, 10), min_size=1, max_size=5), min_size=1, max_size=4)


def run(prompts, table, **options):
    return search(table, table.start(prompts), prompts, GenerationConfig(**options))


@hypothesis.given(st.fixed_dictionaries(OPTIONS), PROMPTS, st.integers(4, 30))
def test_the_best_are_enough(options, prompts, vocabulary):
    """The tokens are those of all logits; the bits are those of the sentence alone."""
    prompts = [[token % vocabulary for token in prompt] for prompt in prompts]
    if options["eos_token_id"] is not None:
        options["eos_token_id"] = [token for token in options["eos_token_id"] if token < vocabulary]
    expected = run(prompts, Table(vocabulary), **options)
    found = run(prompts, BestTable(vocabulary), **options)
    np.testing.assert_array_equal(found.sequences, expected.sequences)
    if options["num_beams"] > 1:
        # Twelve log-probabilities of four roundings each, of numbers below 32.
        error = np.abs(found.sequences_scores - expected.sequences_scores)
        assert error.max() <= 12 * 4 * 32 * 2.0**-24 * 12
    alone = run(prompts[-1:], BestTable(vocabulary), **options)
    assert (alone.sequences[0] == found.sequences[-1, : alone.lengths[0]]).all()
    if options["num_beams"] > 1:
        assert alone.sequences_scores[0] == found.sequences_scores[-1]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(
    "options",
    [{"repetition_penalty": 2.0}, {"output_scores": True}, {"output_logits": True}],
    ids=lambda options: next(iter(options)),
)
def test_all_logits_are_read_where_they_count(beams, options):
    with pytest.raises(AssertionError, match="all logits were asked for"):
        run([[1]], BestTable(11), num_beams=beams, **options)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda ids, values, lse: (ids + 11, values, lse), ValueError, "expected them in 0..10"),
        (lambda ids, values, lse: (ids, values[:, :-1], lse), ValueError, "returned shapes"),
        (lambda ids, values, lse: (ids, values, lse[:, None]), ValueError, "returned shapes"),
        (lambda ids, values, lse: (ids * 1.0, values, lse), TypeError, "ids of"),
        (lambda ids, values, lse: (ids, values * np.float32(np.nan), lse), ValueError, "nan"),
    ],
    ids=["ids", "values", "lse", "dtype", "nan"],
)
def test_results_that_do_not_fit(beams, change, error, message):
    class Wrong(BestTable):
        def step_best(self, tokens, k):
            return change(*super().step_best(tokens, k))

    with pytest.raises(error, match=message):
        run([[1], [2]], Wrong(11), num_beams=beams)
