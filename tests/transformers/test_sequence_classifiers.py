"""Classifiers with an encoder and a decoder: BART and mBART, alone and in pipelines."""

import json
import pickle
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import transformers

from support import checkpoints, generators
from support.pipeline_checks import LONG, TEXTS, compare
from support.tokenizer_directories import FILES
from support.tolerance import assert_same_bits
from treadle.transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)

HEAD = "SequenceClassification"
FAMILIES = ("bart", "mbart")
NAMES = ("contradiction", "neutral", "entailment")
END = 2


@cache
def theirs(family, **changes):
    ids = dict(enumerate(NAMES))
    changes = {"id2label": ids, "label2id": {v: k for k, v in ids.items()}, **changes}
    return checkpoints.randomized(generators.configuration(family, **changes), HEAD)


@cache
def saved(family):
    """The directory of `theirs`; not to be changed."""
    path = Path(generators.ROOT.name) / f"classifier-{family}"
    theirs(family).save_pretrained(path)
    return path


def loaded(family, **options):
    return AutoModelForSequenceClassification.from_pretrained(saved(family), **options)


def batch(lengths=(11, 3, 7), seed=0):
    """Rows of tokens with one end token, padded at the right, as tokenizers make them."""
    ids = np.random.default_rng(seed).integers(3, 77, (len(lengths), max(lengths)))
    mask = np.arange(max(lengths)) < np.asarray(lengths)[:, None]
    ids = np.where(mask, ids, 1)
    ids[np.arange(len(lengths)), np.asarray(lengths) - 1] = END
    return {"input_ids": ids, "attention_mask": mask.astype(np.int64)}


@pytest.mark.parametrize("family", FAMILIES)
def test_logits(family, isa, threads):
    inputs = batch()
    exact, rounded = checkpoints.run_theirs(theirs(family), inputs)
    output = loaded(family)(**inputs)
    checkpoints.assert_close(output.logits, exact.logits, rounded.logits)
    assert output.logits.shape == (3, 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_results_between_layers(family):
    inputs = {name: value[:1] for name, value in batch().items()}
    options = {"output_hidden_states": True, "output_attentions": True}
    exact, rounded = checkpoints.run_theirs(theirs(family), inputs, **options)
    output = loaded(family)(**inputs, **options)
    assert list(output) == [name for name in exact if name != "past_key_values"]
    for name, value in output.items():
        if isinstance(value, tuple):
            for ours, right, near in zip(value, exact[name], rounded[name], strict=True):
                checkpoints.assert_close(ours, right, near)
        else:
            checkpoints.assert_close(value, exact[name], rounded[name])
    assert isinstance(loaded(family)(**inputs, return_dict=False), tuple)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_of_several_end_tokens_counts(family):
    ids = batch((9, 9))["input_ids"]
    ids[0, 4] = ids[1, 6] = END
    exact, rounded = checkpoints.run_theirs(theirs(family), {"input_ids": ids})
    checkpoints.assert_close(loaded(family)(ids).logits, exact.logits, rounded.logits)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_a_row_has_the_same_bits_in_any_batch(family, dtype):
    model, inputs = loaded(family, dtype=dtype), batch()
    found = model(**inputs).logits
    assert np.isfinite(found).all()
    left = {name: value[:, ::-1].copy() for name, value in inputs.items()}
    for row, length in enumerate((11, 3, 7)):
        alone = inputs["input_ids"][row : row + 1, :length]
        assert_same_bits(model(alone).logits[0], found[row])
        left["input_ids"][row, 11 - length :] = alone
    assert_same_bits(model(**left).logits, found)
    assert model(np.zeros((0, 4), np.int64)).logits.shape == (0, 3)


def test_rounded_weights_are_near():
    """Both formats keep the order of the classes of a head that tells texts apart."""
    inputs = batch((12,) * 6, seed=3)
    exact = loaded("bart")(**inputs).logits
    for dtype, error in (("bfloat16", 2.0**-7), ("int8", 2.0**-6)):
        found = loaded("bart", dtype=dtype)(**inputs).logits
        # A rounding of every weight and every row, which the layers let grow a few times.
        assert np.abs(found - exact).max() <= 8 * error * np.abs(exact).max()
        assert not (found == exact).all()


def test_tokenizers_that_give_types():
    inputs = batch()
    types = np.zeros_like(inputs["input_ids"])
    model = loaded("bart")
    assert_same_bits(model(**inputs, token_type_ids=types).logits, model(**inputs).logits)
    for wrong in (types + 1, types[:1]):
        with pytest.raises(ValueError, match=r"token_type_ids is no array of \(3, 11\) zeros"):
            model(**inputs, token_type_ids=wrong)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[5, 6, 2], [5, 6, 7]], "row 1 of input_ids has no end token 2"),
        ([[5, 6], [5, 2]], "row 0 of input_ids has no end token 2"),
        ([[5, 99]], r"input_ids holds 99, expected 0\.\.98"),
        ([[5] * 40 + [2]], "input_ids has 41 tokens in a row, expected at most 40"),
        ([5, 2], "input_ids"),
    ],
)
def test_wrong_tokens(ids, message):
    with pytest.raises(ValueError, match=message):
        loaded("bart")(ids)


def test_an_end_token_that_the_mask_leaves_out():
    with pytest.raises(ValueError, match="row 0 of input_ids has no end token"):
        loaded("bart")([[5, 2]], [[1, 0]])
    with pytest.raises(ValueError, match="row 1 of input_ids has no end token"):
        loaded("bart")([[5, 2], [5, 2]], [[1, 1], [0, 0]])


def copied(tmp_path, family, **changes):
    """A directory with other entries in its config.json; None removes one."""
    path = tmp_path / "copy"
    theirs(family).save_pretrained(path)
    entries = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps(entries))
    return path


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("bart", {"eos_token_id": None}, "eos_token_id is None"),
        ("bart", {"eos_token_id": 99}, "eos_token_id is 99"),
        ("bart", {"eos_token_id": [2]}, r"eos_token_id is \[2\]"),
        ("bart", {"decoder_start_token_id": -1}, "decoder_start_token_id is -1"),
        ("mbart", {"pad_token_id": None}, "pad_token_id is None"),
        ("bart", {"id2label": {"0": "a", "1": "b"}}, "out_proj.weight"),
        ("bart", {"id2label": {"0": "a", "2": "b"}}, "id2label"),
        ("bart", {"id2label": {}}, "0 labels, expected 1 or more"),
        ("bart", {"encoder_layers": 9}, "has no tensor"),
        ("bart", {"d_model": 48}, "classification_head.dense.weight"),
    ],
)
def test_config_files_that_lie(family, changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        AutoModelForSequenceClassification.from_pretrained(copied(tmp_path, family, **changes))


def test_a_model_without_the_head_is_refused():
    with pytest.raises(ValueError, match=r"has no tensor classification_head\.dense\.weight"):
        AutoModelForSequenceClassification.from_pretrained(generators.saved("bart"))
    with pytest.raises(ValueError, match="which offers text-classification, zero-shot"):
        pipeline("summarization", saved("bart"))


def test_names_and_pickles():
    model = loaded("bart")
    assert "bart" in repr(model)
    assert model.config.id2label == dict(enumerate(NAMES))
    assert model.config.num_labels == 3
    copy = pickle.loads(pickle.dumps(model))
    output = model(**batch())
    assert_same_bits(copy(**batch()).logits, output.logits)
    assert_same_bits(pickle.loads(pickle.dumps(output)).logits, output.logits)
    with pytest.raises(TypeError, match="from_pretrained"):
        type(model)()


@cache
def directory(family):
    """A random classifier with a tokenizer; not to be changed."""
    path = Path(generators.ROOT.name) / f"classifying-{family}"
    path.mkdir()
    content = json.loads((FILES / "bytelevel.json").read_text())
    (path / "tokenizer.json").write_text(json.dumps(content))
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    entries = tokens | {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 66}
    (path / "tokenizer_config.json").write_text(json.dumps(entries))
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(path)
    special = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.eos_token_id,
    }
    model = theirs(family, vocab_size=len(tokenizer), max_position_embeddings=150, **special)
    model.save_pretrained(path)
    return path


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("several", [False, True])
def test_zero_shot_classification(family, several):
    """A directory such as bart-large-mnli's answers as Transformers' pipeline does."""
    task, tags = "zero-shot-classification", ["a warp", "strip", "a person"]
    options = {"candidate_labels": tags, "multi_label": several}
    found = compare(task, directory(family), HEAD, TEXTS, **options)
    assert [set(answer["labels"]) for answer in found] == [set(tags)] * len(TEXTS)
    compare(task, directory(family), HEAD, LONG * 2, **options)  # the text is cut


@pytest.mark.parametrize("family", FAMILIES)
def test_text_classification(family):
    task, path = "text-classification", directory(family)
    compare(task, path, HEAD, TEXTS)
    compare(task, path, HEAD, TEXTS[0], top_k=None)
    compare(task, path, HEAD, {"text": TEXTS[0], "text_pair": TEXTS[2]})
    compare(task, path, HEAD, LONG, truncation=True, max_length=20)
    with pytest.raises(ValueError, match="expected at most 150"):
        pipeline(task, path)(LONG * 9)
    model = AutoModelForSequenceClassification.from_pretrained(path)
    assert pipeline(task, model)(TEXTS) == pipeline(None, path)(TEXTS)


def test_a_text_without_an_end_token():
    classify = pipeline("text-classification", directory("bart"))
    with pytest.raises(ValueError, match="has no end token"):
        classify("a warp", add_special_tokens=False)


def test_pipelines_take_what_their_class_returns():
    """The encoder of a T5 has vectors, and no classes."""
    model = AutoModel.from_pretrained(generators.saved("t5"))
    tokenizer = AutoTokenizer.from_pretrained(directory("bart"))
    with pytest.raises(TypeError, match="expected a AutoModelForSequenceClassification"):
        pipeline("text-classification", model, tokenizer=tokenizer)
    assert pipeline("feature-extraction", model, tokenizer=tokenizer).model is model
