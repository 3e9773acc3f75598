"""Models that generate against Transformers: logits, token ids, the bit law, wrong arguments."""

import gc
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import transformers

from support import generators
from support.checkpoints import load
from support.memory import allocated
from support.tolerance import EPS, assert_same_bits
from treadle.generation import GenerationConfig
from treadle.transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM
from treadle.transformers.generator import StackDecoding

LENGTHS = (7, 3, 9)
MODELS = {}


def loaded(case, dtype="float32"):
    """The model of a case by treadle, loaded once."""
    key = case, dtype
    if key not in MODELS:
        head = "Seq2SeqLM" if case in generators.SEQ2SEQ else "CausalLM"
        MODELS[key] = load(generators.saved(case), head, dtype=dtype)
    return MODELS[key]


def batch(case, lengths=LENGTHS, seed=0):
    """Texts of these lengths, padded as is usual: left for a causal model, right for others."""
    width, rng = max(lengths), np.random.default_rng(seed)
    ids = np.full((len(lengths), width), 1)
    mask = np.zeros(ids.shape, np.int64)
    for row, length in enumerate(lengths):
        at = slice(0, length) if case in generators.SEQ2SEQ else slice(width - length, width)
        ids[row, at], mask[row, at] = rng.integers(3, 77, length), 1
    if generators.configuration(case).pad_token_id == 0:
        ids[mask == 0] = 0
    return ids, mask


def generated(case, ids, mask, **options):
    """Transformers' token ids."""
    model = generators.theirs(case)
    given = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    padding = {} if model.config.pad_token_id is not None else {"pad_token_id": 1}
    return model.generate(**given, **padding, **options).numpy()


def assert_logits(case, found, ids, written=None):
    """Twice the error that Transformers makes in float32, and 4 eps, against NumPy in float64."""
    exact = generators.logits(generators.saved(case), ids, written)
    given = {"input_ids": torch.from_numpy(ids)[None]}
    if written is not None:
        given["decoder_input_ids"] = torch.from_numpy(written)[None]
    with torch.inference_mode():
        rounded = generators.theirs(case)(**given).logits[0].numpy()
    error, allowed = np.abs(found - exact).max(), np.abs(rounded - exact).max()
    bound = 2 * allowed + 4 * EPS * max(1, np.abs(exact).max())
    assert found.dtype == np.float32
    assert error <= bound, f"error {error:.3g}, allowed {bound:.3g} (torch errs by {allowed:.3g})"


@pytest.mark.parametrize("case", generators.CASES)
def test_logits(case, isa, threads):
    ids, written = generators.ids(23), generators.ids(17, 1)
    model = loaded_anew(case)
    if case in generators.SEQ2SEQ:
        output = model(ids[None], decoder_input_ids=written[None])
        assert_logits(case, output.logits[0], ids, written)
    else:
        assert_logits(case, model(ids[None]).logits[0], ids)


def loaded_anew(case):
    """A model packed for the instruction set of now."""
    head = "Seq2SeqLM" if case in generators.SEQ2SEQ else "CausalLM"
    return load(generators.saved(case), head)


@pytest.mark.parametrize("case", generators.CASES)
def test_greedy_tokens(case):
    ids, mask = batch(case)
    options = {"max_new_tokens": 12, "do_sample": False}
    padding = {} if generators.configuration(case).pad_token_id is not None else {"pad_token_id": 1}
    expected = generated(case, ids, mask, **options)
    np.testing.assert_array_equal(loaded(case).generate(ids, mask, **options, **padding), expected)


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("marian", {"bad_words_ids": [[1]], "forced_eos_token_id": 2}),
        ("bart", {"forced_bos_token_id": 0, "min_length": 6, "no_repeat_ngram_size": 3}),
        ("m2m_100", {"forced_bos_token_id": 7}),
        ("gpt2", {"suppress_tokens": [5, 9, 31]}),
    ],
)
def test_usual_options_take_the_best_tokens_alone(case, options, beams, monkeypatch):
    """Tokens are Transformers', scores those of all logits, which no step hands to Python."""
    ids, mask = batch(case)
    options = {"max_new_tokens": 10, "do_sample": False, "num_beams": beams} | options
    expected = generated(case, ids, mask, **options)
    padding = {} if generators.configuration(case).pad_token_id is not None else {"pad_token_id": 1}
    options |= padding | {"return_dict_in_generate": True}
    slow = loaded(case).generate(ids, mask, output_scores=True, **options)
    monkeypatch.delattr(StackDecoding, "step")
    found = loaded(case).generate(ids, mask, **options)
    np.testing.assert_array_equal(found.sequences, expected)
    np.testing.assert_array_equal(slow.sequences, expected)
    if beams > 1:
        # Ten log-probabilities of four roundings each, of numbers below 32.
        bound = 10 * 4 * 32 * EPS
        np.testing.assert_allclose(found.sequences_scores, slow.sequences_scores, 0, bound)


@pytest.mark.parametrize("case", ["marian", "t5", "m2m_100", "gpt2", "llama", "gemma3_text"])
@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 4},
        {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.5},
        {"num_beams": 2, "early_stopping": True, "no_repeat_ngram_size": 2},
        {"repetition_penalty": 1.7, "min_new_tokens": 5},
        {"forced_eos_token_id": 2, "bad_words_ids": [[5], [7, 8]]},
    ],
    ids=str,
)
def test_options(case, options):
    ids, mask = batch(case)
    options = {"max_new_tokens": 10, "do_sample": False} | options
    expected = generated(case, ids, mask, **options)
    found = loaded(case).generate(ids, mask, **options)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("case", generators.CASES)
def test_a_row_has_the_same_bits_in_any_batch(case):
    """Alone or among others, whatever its padding: logits, tokens and scores."""
    model, (ids, mask) = loaded(case), batch(case)
    written = batch(case, (5, 2, 4), 1)
    more = {}
    if case in generators.SEQ2SEQ:
        more = {"decoder_input_ids": written[0], "decoder_attention_mask": written[1]}
    output = model(ids, mask, **more).logits
    config = {"max_new_tokens": 6, "num_beams": 2, "return_dict_in_generate": True}
    config["pad_token_id"] = 1
    together = model.generate(ids, mask, **config)
    for row in range(3):
        kept = mask[row].astype(bool)
        alone = {}
        places = kept
        if more:
            places = written[1][row].astype(bool)
            alone = {"decoder_input_ids": written[0][row : row + 1, places]}
        found = model(ids[row : row + 1, kept], **alone).logits
        assert_same_bits(found[0], output[row][places])
        assert not output[row][~places].any()
        single = model.generate(ids[row : row + 1, kept], **config)
        assert_same_bits(single.sequences_scores, together.sequences_scores[row : row + 1])


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("case", ["marian", "t5-gated", "gpt2", "gpt_neox", "llama", "gemma2"])
def test_rounded_models(case, dtype):
    """A model of rounded weights keeps the bit law, and generates as many tokens."""
    model, (ids, mask) = loaded(case, dtype), batch(case)
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    together = model.generate(ids, mask, pad_token_id=1, **options)
    for row in range(3):
        kept = mask[row].astype(bool)
        alone = model.generate(ids[row : row + 1, kept], pad_token_id=1, **options)
        np.testing.assert_array_equal(alone[0, -6:], together[row, -6:])


def test_prompts_of_the_decoder():
    """decoder_input_ids begin the result, with the start token before them where it is missing."""
    ids, mask = batch("bart")
    prompts = np.array([[11, 12], [13, 14], [15, 16]])
    for given in (prompts, np.concatenate([np.full((3, 1), 2), prompts], axis=1)):
        options = {"max_new_tokens": 5, "do_sample": False}
        expected = generated(
            "bart", ids, mask, decoder_input_ids=torch.from_numpy(given), **options
        )
        found = loaded("bart").generate(ids, mask, decoder_input_ids=given, **options)
        np.testing.assert_array_equal(found, expected)


def test_masks_that_are_not_given():
    """Padding tokens are padding, unless they end texts, too."""
    for case in ("marian", "llama"):
        ids, mask = batch(case)
        options = {"max_new_tokens": 4, "do_sample": False}
        with_mask = loaded(case).generate(ids, mask, **options)
        np.testing.assert_array_equal(loaded(case).generate(ids, **options), with_mask)
    alike = loaded("llama").generate(ids, eos_token_id=1, **options)
    theirs = generators.theirs("llama").generate(torch.from_numpy(ids), eos_token_id=1, **options)
    np.testing.assert_array_equal(alike, theirs.numpy())


def test_results_with_scores():
    ids, mask = batch("t5")
    options = {"num_beams": 2, "max_new_tokens": 4, "output_scores": True}
    output = loaded("t5").generate(ids, mask, return_dict_in_generate=True, **options)
    model = generators.theirs("t5")
    theirs = model.generate(
        torch.from_numpy(ids), attention_mask=torch.from_numpy(mask), return_dict_in_generate=True,
        **options,
    )  # fmt: skip
    np.testing.assert_array_equal(output.sequences, theirs.sequences.numpy())
    assert output.sequences_scores.shape == (3,)
    assert len(output.scores) == len(theirs.scores)
    assert output["sequences"] is output.sequences is output[0]
    assert output.logits is None


def test_streaming():
    """A streamer receives the tokens of the result."""

    class Tokens(list):
        def put(self, tokens):
            self.append(np.atleast_2d(tokens) if not self else np.atleast_1d(tokens)[:, None])

        def end(self):
            self.append(None)

    ids, mask = batch("llama")
    seen = Tokens()
    found = loaded("llama").generate(ids, mask, max_new_tokens=5, streamer=seen)
    assert seen.pop() is None
    np.testing.assert_array_equal(np.concatenate(seen, axis=1), found)


def test_default_length_ends_with_the_positions():
    """Without a length there are 20 new tokens, or fewer where the positions end."""
    ids = generators.ids(55)[None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Transformers recommends to set max_new_tokens
        expected = generators.theirs("gpt2").generate(
            torch.from_numpy(ids), do_sample=False, eos_token_id=None
        )
    found = loaded("gpt2").generate(ids, eos_token_id=None)
    np.testing.assert_array_equal(found, expected.numpy())
    assert found.shape == (1, 64)
    assert loaded("gpt2").generate(ids[:, :9], eos_token_id=None).shape == (1, 29)
    # The last token has no position: it is not read again.
    assert loaded("gpt2").generate(ids, max_new_tokens=10, eos_token_id=None).shape == (1, 65)


@pytest.mark.parametrize(
    ("case", "arguments", "options", "error", "match"),
    [
        ("llama", (), {}, TypeError, "input_ids is None"),
        ("llama", ([[1, 99]],), {}, ValueError, "input_ids holds 99"),
        ("llama", ([[1, -1]],), {}, ValueError, "input_ids holds -1"),
        ("llama", ([1, 2],), {}, ValueError, "shape"),
        ("llama", ([[1.5]],), {}, TypeError, "input_ids"),
        ("llama", ([[1], [2, 3]],), {}, (TypeError, ValueError), "input_ids"),
        (
            "bart",
            ([[3]],),
            {"decoder_input_ids": [[3], [4, 5]]},
            (TypeError, ValueError),
            "decoder",
        ),
        ("llama", ([[3, 4]], [[0, 0]]), {}, ValueError, "row 0 of input_ids has no tokens"),
        ("llama", ([[3, 4]], [[1]]), {}, ValueError, "attention_mask"),
        ("llama", ([[3]],), {"num_beam": 2}, TypeError, "num_beam"),
        ("llama", ([[3]],), {"num_beams": 0}, ValueError, "num_beams"),
        ("llama", ([[3]],), {"max_new_tokens": 0}, ValueError, "max_new_tokens"),
        ("llama", ([[3]],), {"max_length": 1}, ValueError, "max_length"),
        ("llama", ([[3]],), {"eos_token_id": 99}, ValueError, "eos_token_id"),
        ("llama", ([[3]],), {"generation_config": {}}, TypeError, "generation_config"),
        ("llama", ([[3]],), {"decoder_input_ids": [[3]]}, TypeError, "decoder_input_ids"),
        ("gpt2", ([[3] * 65],), {}, ValueError, "at most 64"),
        ("gpt2", ([[3]],), {"max_new_tokens": 65}, ValueError, "max_new_tokens of at most 64"),
        ("bart", ([[3] * 41],), {}, ValueError, "at most 40"),
        ("bart", ([[3]],), {"decoder_input_ids": [[3], [4]]}, ValueError, "the same number"),
        ("bart", ([[3]],), {"decoder_start_token_id": 99}, ValueError, "decoder_start_token_id"),
        ("m2m_100", ([[3, 1, 4]], [[1, 1, 1]]), {}, ValueError, "padding token 1"),
    ],
)
def test_wrong_arguments(case, arguments, options, error, match):
    with pytest.raises(error, match=match):
        loaded(case).generate(*arguments, **options)


def test_no_start_token(tmp_path):
    model = loaded_anew("bart")
    model.generation_config = GenerationConfig(eos_token_id=2)
    with pytest.raises(ValueError, match="decoder_start_token_id is None"):
        model.generate([[3, 4]])


@pytest.mark.parametrize("case", generators.CASES)
def test_between_layers(case):
    """Hidden states and attentions are Transformers', zero where there is padding.

    The last hidden state is the output of the final norm. The bound is over all elements of a name.
    """
    found = {}
    (ids, mask), (written, kept) = batch(case), batch(case, (5, 2, 4), 1)
    more = {}
    if case in generators.SEQ2SEQ:
        more = {"decoder_input_ids": written, "decoder_attention_mask": kept}
    wanted = {"output_hidden_states": True, "output_attentions": True}
    output = loaded(case)(ids, mask, **wanted, **more)
    for row in range(3):
        read = mask[row] == 1
        wrote = kept[row] == 1 if more else read
        given = {"input_ids": ids[row : row + 1, read]}
        if more:
            given["decoder_input_ids"] = written[row : row + 1, wrote]
        with torch.inference_mode():
            theirs = generators.theirs(case)(
                **{k: torch.from_numpy(v) for k, v in given.items()}, **wanted
            )
        exact = generators.between_layers(generators.saved(case), *(v[0] for v in given.values()))
        for name, arrays in exact.items():
            queries = read if name.startswith("encoder") else wrote
            keys = read if name.startswith(("encoder", "cross")) else wrote
            places = (queries,) if "hidden" in name else (slice(None), *np.ix_(queries, keys))
            assert len(output[name]) == len(arrays) == len(theirs[name])
            for ours, right, rounded in zip(output[name], arrays, theirs[name], strict=True):
                arrays = (ours[row][places] - right, rounded[0].numpy() - right, right)
                found.setdefault(name, []).append([np.abs(x).max() for x in arrays])
                rest = ours[row].copy()
                rest[places] = 0
                assert not rest.any()
    for name, maxima in found.items():
        error, allowed, size = np.max(maxima, axis=0)
        assert error <= 2 * allowed + 4 * EPS * max(1, size), name


def test_errors_of_hooks_and_streamers_leave_the_model_as_it_was():
    model, (ids, mask) = loaded("llama"), batch("llama")

    def hook(tokens, scores):
        if tokens.shape[1] > 10:
            raise KeyError("hook")
        return scores

    expected = model.generate(ids, mask, max_new_tokens=4)
    with pytest.raises(KeyError, match="hook"):
        model.generate(ids, mask, max_new_tokens=9, logits_hook=hook)
    np.testing.assert_array_equal(model.generate(ids, mask, max_new_tokens=4), expected)


def test_outputs_pickles_and_names():
    model = loaded("llama")
    output = model([[3, 4]])
    assert output[0] is output.logits is output["logits"]
    assert isinstance(model([[3, 4]], return_dict=False), tuple)
    twin = pickle.loads(pickle.dumps(model))
    assert (
        repr(twin)
        == repr(model)
        == ("AutoModelForCausalLM(llama, 3 layers, hidden_size=36, vocab_size=99)")
    )
    assert_same_bits(twin([[3, 4]]).logits, output.logits)
    assert_same_bits(pickle.loads(pickle.dumps(output)).logits, output.logits)
    for cls in (AutoModelForCausalLM, AutoModelForSeq2SeqLM):
        with pytest.raises(TypeError, match="from_pretrained"):
            cls()
    both = loaded("bart").encode([[3, 4]]).last_hidden_state
    seq2seq = loaded("bart")([[3, 4]], decoder_input_ids=[[2]])
    assert_same_bits(seq2seq.encoder_last_hidden_state, both)


@pytest.mark.parametrize("case", ["t5", "t5-gated", "mt5"])
def test_encoders_of_t5(case, tmp_path):
    """AutoModel reads the encoder alone, of the whole model and of a checkpoint of the encoder."""
    encoder = transformers.T5EncoderModel if case != "mt5" else transformers.MT5EncoderModel
    theirs = encoder.from_pretrained(generators.saved(case), attn_implementation="eager").eval()
    theirs.save_pretrained(tmp_path)
    ids, mask = batch(case)
    for path in (generators.saved(case), tmp_path):
        model = load(path)
        found = model(ids, mask).last_hidden_state
        for row in range(3):
            kept = mask[row].astype(bool)
            exact = generators.encoded(generators.saved(case), ids[row][kept])
            with torch.inference_mode():
                rounded = theirs(torch.from_numpy(ids[row : row + 1, kept]))[0][0].numpy()
            bound = 2 * np.abs(rounded - exact).max() + 4 * EPS * max(1, np.abs(exact).max())
            assert np.abs(found[row][kept] - exact).max() <= bound
            assert not found[row][~kept].any()
        assert_same_bits(pickle.loads(pickle.dumps(model))(ids, mask)[0], found)
        assert isinstance(model(ids, return_dict=False), tuple)


def test_threads_share_a_model():
    model = loaded("marian")
    texts = [batch("marian", (seed % 5 + 1, 4), seed) for seed in range(12)]
    expected = [model.generate(*text, max_new_tokens=5, num_beams=2) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda text: model.generate(*text, max_new_tokens=5, num_beams=2), texts)
        )
    for ours, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, right)


def test_memory_is_flat():
    """Generations leave nothing behind."""
    model, (ids, mask) = loaded("marian"), batch("marian")
    for _ in range(30):
        model.generate(ids, mask, max_new_tokens=4)
    gc.collect()
    before = allocated()
    for _ in range(400):
        model.generate(ids, mask, max_new_tokens=4)
    gc.collect()
    assert allocated() - before < 2**18
