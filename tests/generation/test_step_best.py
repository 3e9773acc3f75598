"""Decodings that return only the best of their logits."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from support import generating
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


def tokens_below(vocabulary, least, most):
    token = st.integers(0, vocabulary - 1)
    return st.lists(token, min_size=least, max_size=most, unique=True).map(tuple)


@st.composite
def rules(draw, vocabulary):
    """Options that forbid or force tokens, in nearly all cases several."""
    words = st.lists(tokens_below(vocabulary, 1, 3), min_size=1, max_size=4).map(tuple)
    optional = {
        "min_length": st.integers(0, 12),
        "min_new_tokens": st.integers(0, 7),
        "no_repeat_ngram_size": st.integers(2, 3),
        "bad_words_ids": words,
        "forced_bos_token_id": st.integers(0, vocabulary - 1),
        "forced_eos_token_id": tokens_below(vocabulary, 1, 2),
        "suppress_tokens": tokens_below(vocabulary, 1, 3),
        "begin_suppress_tokens": tokens_below(vocabulary, 1, 3),
    }
    names = st.lists(st.sampled_from(sorted(optional)), min_size=1, max_size=5, unique=True)
    options = {name: draw(optional[name]) for name in draw(names)}
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        forced = np.atleast_1d(options.get(name, -1)).tolist()
        hypothesis.assume(not {*forced} & {*options.get("suppress_tokens", ())})
    return options


def found_or_refused(prompts, table, options):
    """The result of a search, or what it says if no token is left."""
    try:
        return run(prompts, table, **options)
    except ValueError as error:
        if "every token is forbidden" not in str(error):
            raise
        return str(error)


@hypothesis.settings(max_examples=300)
@hypothesis.given(st.fixed_dictionaries(OPTIONS), PROMPTS, st.integers(6, 30), st.data())
def test_the_best_are_enough_for_rules(options, prompts, vocabulary, data):
    """Forbidden and forced tokens give what all logits give, and the sentence's bits alone."""
    prompts = [[token % vocabulary for token in prompt] for prompt in prompts]
    options = {**options, **data.draw(rules(vocabulary))}
    expected = found_or_refused(prompts, Table(vocabulary), options)
    found = found_or_refused(prompts, BestTable(vocabulary), options)
    if isinstance(expected, str):
        assert found == expected
        return
    np.testing.assert_array_equal(found.sequences, expected.sequences)
    if options["num_beams"] > 1:
        # Twelve log-probabilities of four roundings each, of numbers below 32.
        error = np.abs(found.sequences_scores - expected.sequences_scores)
        assert error.max() <= 12 * 4 * 32 * 2.0**-24 * 12 * 12
    alone = run(prompts[-1:], BestTable(vocabulary), **options)
    assert (alone.sequences[0] == found.sequences[-1, : alone.lengths[0]]).all()
    if options["num_beams"] > 1:
        assert alone.sequences_scores[0] == found.sequences_scores[-1]


class Flat(BestTable):
    """A table whose logits are -inf for most tokens, and equal for the others."""

    def of(self, row):
        logits = np.full(self.vocabulary, -np.inf, np.float32)
        logits[[sum(row) % 7, 2, 9]] = 1
        return logits


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_tokens_without_probability_are_taken_in_order(beams):
    """Where fewer tokens remain than are chosen, those of -inf follow in the order of their ids."""

    class All(Flat):
        step_best = None

        def step(self, tokens):
            return Table.step(self, tokens)

        def __getattribute__(self, name):
            if name == "step_best":
                raise AttributeError(name)
            return super().__getattribute__(name)

    options = {"suppress_tokens": (9, 1), "max_new_tokens": 5, "num_beams": beams}
    options |= {"forced_eos_token_id": (3, 12), "eos_token_id": 3}
    expected = run([[4], [1, 2]], All(13), **options)
    found = run([[4], [1, 2]], Flat(13), **options)
    np.testing.assert_array_equal(found.sequences, expected.sequences)


class Fast:
    """A model of Transformers as a decoding that returns the best of its logits."""

    def __init__(self, decoding):
        self.decoding, self.reorder, self.widths = decoding, decoding.reorder, []

    def step(self, tokens):
        raise AssertionError("all logits were asked for")

    def step_best(self, tokens, k):
        self.widths.append(k)
        logits = self.decoding.step(tokens)
        ids = np.argsort(-logits, axis=1, kind="stable")[:, :k]
        lse = np.log(np.exp(logits.astype(np.float64)).sum(axis=1)).astype(np.float32)
        return ids, np.take_along_axis(logits, ids, axis=1), lse


@pytest.mark.parametrize("beams", [1, 4])
def test_the_options_of_marian_and_bart_as_transformers_has_them(beams):
    """Their searches take the best k, and have the tokens and scores of Transformers."""
    model, prompts = generating.bart(), np.zeros((2, 1), np.int64)
    sources = np.random.default_rng(0).integers(3, generating.VOCABULARY, (2, 6))
    base = {"num_beams": beams, "max_new_tokens": 9, "eos_token_id": (2,), "pad_token_id": 1}
    marian = {"bad_words_ids": ((1,),), "forced_eos_token_id": 2}
    bart = {"forced_bos_token_id": 0, "min_length": 5, "no_repeat_ngram_size": 2}
    for own, widest in ((marian, 2), (bart, 8)):
        options = base | own
        decoding, logits = generating.decoding_of(model, prompts, sources)
        fast = Fast(decoding)
        found = search(fast, logits, prompts, GenerationConfig(**options))
        assert 0 < max(fast.widths) <= (3 * beams if beams > 1 else 1) + widest
        expected = generating.expected(model, prompts, options, sources=sources)
        np.testing.assert_array_equal(found.sequences, expected.sequences.numpy())
        if beams > 1:
            scores = expected.sequences_scores.numpy()
            # Nine log-probabilities, each with some 16 roundings of a number below 32.
            np.testing.assert_allclose(found.sequences_scores, scores, 0, 9 * 16 * 32 * 2.0**-24)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"no_repeat_ngram_size": 1},
        {"suppress_tokens": tuple(range(257))},
        {"bad_words_ids": tuple((1, token) for token in range(2, 260))},
        {"remove_invalid_values": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_rules_about_many_tokens_read_all_logits(beams, options):
    with pytest.raises(AssertionError, match="all logits were asked for"):
        run([[1]], BestTable(300), num_beams=beams, **options)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_forbidden_token_hides_no_nan(beams):
    class Nan(BestTable):
        def step_best(self, tokens, k):
            ids, values, lse = super().step_best(tokens, k)
            values[:, -1] = np.nan
            return ids, values, lse

    with pytest.raises(ValueError, match="the scores have nan"):
        run([[1]], Nan(11), num_beams=beams, suppress_tokens=(1, 3, 4, 5, 6, 7, 8))


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
