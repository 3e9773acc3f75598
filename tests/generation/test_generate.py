"""Searches over Transformers' models give what Transformers' generate gives."""

import hypothesis
import numpy as np
import pytest
import torch
import transformers
from hypothesis import strategies as st

from support import generating
from support.tolerance import EPS
from treadle.generation import GenerationConfig, search

MODELS = {"gpt2": generating.gpt2(), "t5": generating.t5(), "bart": generating.bart()}
TOKENS = st.integers(0, generating.VOCABULARY - 1)


def some_tokens(least, most):
    return st.lists(TOKENS, min_size=least, max_size=most, unique=True).map(tuple)


@st.composite
def searches(draw):
    """Options that leave some token at every step, in nearly every case."""
    options = {"pad_token_id": draw(TOKENS)}
    ends = draw(some_tokens(0, 3))
    options["eos_token_id"] = ends or None
    name = draw(st.sampled_from(["max_length", "max_new_tokens"]))
    options[name] = draw(st.integers(1, 9)) + 3 * (name == "max_length")
    optional = {
        "min_length": st.integers(0, 12),
        "min_new_tokens": st.integers(0, 7),
        "repetition_penalty": st.sampled_from([0.7, 1.0, 1.4]),
        "no_repeat_ngram_size": st.integers(0, 3),
        "bad_words_ids": st.lists(some_tokens(1, 3), min_size=1, max_size=3).map(tuple),
        "forced_bos_token_id": TOKENS,
        "forced_eos_token_id": st.one_of(TOKENS, some_tokens(1, 2)),
        "suppress_tokens": some_tokens(0, 3),
        "begin_suppress_tokens": some_tokens(0, 3),
        "renormalize_logits": st.booleans(),
        "remove_invalid_values": st.booleans(),
    }
    for name in draw(st.lists(st.sampled_from(sorted(optional)), max_size=4, unique=True)):
        options[name] = draw(optional[name])
    for name in ("forced_bos_token_id", "forced_eos_token_id"):  # refused by both if suppressed
        forced = np.atleast_1d(options.get(name, -1)).tolist()
        hypothesis.assume(not {*forced} & {*options.get("suppress_tokens", ())})
    beams = options["num_beams"] = draw(st.integers(1, 5))
    sample = options["do_sample"] = draw(st.booleans())
    if beams > 1 or sample:
        options["num_return_sequences"] = draw(st.integers(1, min(beams, 3) if beams > 1 else 3))
    if beams > 1:
        options["length_penalty"] = draw(st.sampled_from([-1.5, 0.0, 0.5, 1.0, 3.0]))
        options["early_stopping"] = draw(st.sampled_from([False, True, "never"]))
    if sample:
        options["temperature"] = draw(st.sampled_from([0.3, 1.0, 2.5]))
        options["top_k"] = draw(st.sampled_from([0, 1, 3, 50]))
        options["top_p"] = draw(st.sampled_from([0.0, 0.4, 0.9, 1.0]))
        options["min_p"] = draw(st.sampled_from([None, 0.0, 0.1, 0.7]))
    return options


def uniform_for(options, rows, seed):
    """Numbers for every draw that a search of these options can make."""
    generator = np.random.default_rng(seed)
    if options["num_beams"] > 1:
        ends = len(options["eos_token_id"] or ())
        size = (rows, 24, (1 + max(ends, 1)) * options["num_beams"])
    else:
        size = (rows * options.get("num_return_sequences", 1), 24)
    return generator.random(size)


def both(name, prompts, options, sources=None, seed=0):
    """Search with treadle and with Transformers; None where no token can be chosen."""
    model = MODELS[name]
    uniform = uniform_for(options, len(prompts), seed) if options["do_sample"] else None
    config = GenerationConfig(**options, output_scores=True)
    decoding, logits = generating.decoding_of(model, prompts, sources)
    try:
        ours = search(decoding, logits, prompts, config, uniform=uniform)
    except ValueError as error:
        if "every token is forbidden" not in str(error):
            raise
        return None
    return ours, generating.expected(model, prompts, options, uniform, sources)


def assert_same(ours, theirs, options):
    expected = theirs.sequences.numpy()
    if options["eos_token_id"] is None:  # Transformers then pads with -1, whatever pad_token_id is
        expected = np.where(expected == -1, options["pad_token_id"], expected)
    np.testing.assert_array_equal(ours.sequences, expected)
    assert len(ours.scores) == len(theirs.scores)
    for mine, reference in zip(ours.scores, theirs.scores, strict=True):
        live = ~np.isnan(mine).any(axis=1)
        assert_close(mine[live], reference.numpy()[live], 1)
    if options["num_beams"] > 1:
        assert_close(ours.sequences_scores, theirs.sequences_scores.numpy(), len(ours.scores))
        np.testing.assert_array_equal(ours.beam_indices, theirs.beam_indices.numpy())


def assert_close(ours, theirs, terms):
    """Both come from the same model, whose rows differ by roundings with the size of a batch: some
    16 of them, of the largest number, in each of the terms that are summed.
    """
    finite = np.isfinite(theirs)
    np.testing.assert_array_equal(ours[~finite], theirs[~finite])
    size = np.abs(theirs[finite & (np.abs(theirs) < 1e30)]).max(initial=1)
    np.testing.assert_allclose(ours[finite], theirs[finite], rtol=EPS, atol=16 * terms * EPS * size)


@hypothesis.settings(max_examples=60)
@hypothesis.given(searches(), st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 3))
def test_gpt2(options, seed, rows, length):
    prompts = np.random.default_rng(seed).integers(0, generating.VOCABULARY, (rows, length))
    found = both("gpt2", prompts, options, seed=seed)
    hypothesis.assume(found is not None)
    assert_same(*found, options)


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_encoder_decoders(name):
    @hypothesis.settings(max_examples=20)
    @hypothesis.given(searches(), st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 2))
    def check(options, seed, rows, length):
        generator = np.random.default_rng(seed)
        sources = generator.integers(3, generating.VOCABULARY, (rows, 6))
        prompts = generator.integers(0, generating.VOCABULARY, (rows, length))
        prompts[:, 0] = generating.START
        found = both(name, prompts, options, sources, seed)
        hypothesis.assume(found is not None)
        assert_same(*found, options)

    check()


@pytest.mark.parametrize("beams", [1, 4])
def test_logits_hook_is_a_logits_processor(beams):
    class Processor(transformers.LogitsProcessor):
        def __call__(self, input_ids, scores):
            return torch.as_tensor(hook(input_ids.numpy(), scores.numpy()))

    def hook(ids, scores):
        scores = scores.copy()
        scores[np.arange(len(ids)), (ids[:, -1] + 1) % generating.VOCABULARY] += 3
        return scores

    prompts = np.array([[1, 2], [3, 4]])
    options = {"num_beams": beams, "max_new_tokens": 8, "eos_token_id": (5,), "pad_token_id": 0}
    decoding, logits = generating.decoding_of(MODELS["gpt2"], prompts)
    ours = search(decoding, logits, prompts, GenerationConfig(**options), logits_hook=hook)
    theirs = generating.expected(
        MODELS["gpt2"], prompts, {**options, "logits_processor": [Processor()]}
    )
    np.testing.assert_array_equal(ours.sequences, theirs.sequences.numpy())


@pytest.mark.parametrize("beams", [1, 3])
def test_logits_are_the_models(beams):
    prompts = np.array([[1, 2], [3, 4]])
    options = {"num_beams": beams, "max_new_tokens": 3, "output_logits": True}
    decoding, logits = generating.decoding_of(MODELS["gpt2"], prompts)
    ours = search(decoding, logits, prompts, GenerationConfig(**options))
    theirs = generating.expected(MODELS["gpt2"], prompts, options)
    for mine, reference in zip(ours.logits, theirs.logits, strict=True):
        assert_close(mine, reference.numpy(), 1)
