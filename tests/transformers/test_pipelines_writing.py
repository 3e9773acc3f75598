"""Pipelines that write: summaries, translations, and texts and chats that go on."""

import json

import numpy as np
import pytest
import torch
import transformers

from support.checkpoints import assert_close
from support.pipeline_writers import CAUSAL, CHAT, POSITIONS, directory, theirs, written
from treadle.generation import GenerationConfig
from treadle.transformers import pipeline

TEXTS = ["The warp is held taut.", "A loom", "Don't stop the treadle, weave on."]
SHORT = {"max_new_tokens": 12}


@pytest.mark.parametrize("case", ["bart", "marian", "t5"])
def test_summarization(case):
    """Beams of four unless somebody says otherwise; a list is flat where each has one summary."""
    path = directory(case)
    summarize = pipeline("summarization", path)
    expected = [{"summary_text": written(path, text, num_beams=4, **SHORT)[0]} for text in TEXTS]
    assert [summarize(text, **SHORT) for text in TEXTS] == [[one] for one in expected]
    assert summarize(TEXTS, **SHORT) == expected
    assert summarize(TEXTS, batch_size=1, **SHORT) == expected
    assert list(summarize((t for t in TEXTS), **SHORT)) == [[one] for one in expected]
    greedy = written(path, TEXTS[0], num_beams=1, **SHORT)[0]
    assert summarize(TEXTS[0], num_beams=1, **SHORT) == [{"summary_text": greedy}]
    several = summarize(TEXTS[:2], num_return_sequences=3, **SHORT)
    for text, found in zip(TEXTS, several, strict=False):
        texts = written(path, text, num_beams=4, num_return_sequences=3, **SHORT)
        assert found == [{"summary_text": one} for one in texts]
    ids = summarize(TEXTS[0], return_tensors=True, **SHORT)[0]["summary_token_ids"]
    assert summarize.tokenizer.decode(ids, skip_special_tokens=True) == expected[0]["summary_text"]
    general = pipeline("text2text-generation", path)(TEXTS[0], **SHORT)
    assert general == [{"generated_text": expected[0]["summary_text"]}]


def test_lengths_of_a_task():
    """256 new tokens, or as many as the model has positions for, where nobody says a number."""
    path = directory("bart")
    write = pipeline("summarization", path, num_beams=1, eos_token_id=None, return_tensors=True)
    assert len(write(TEXTS[1])[0]["summary_token_ids"]) == POSITIONS + 1
    write = pipeline("summarization", directory("t5"), num_beams=1, return_tensors=True)
    found = write(TEXTS[1], eos_token_id=None)[0]["summary_token_ids"]
    assert len(found) == 256 + 1


def test_options_of_files_and_tasks():
    """A call wins over task_specific_params, these over the files, and these over the task."""
    specific = {"summarization": {"num_beams": 2, "max_length": 9, "prefix": "sum: "}}
    changes = json.dumps({"task_specific_params": specific, "prefix": "all: "})
    path = directory("bart", changes=changes)
    config = path / "config.json"
    content = json.loads(config.read_text()) | json.loads(changes)
    config.write_text(json.dumps(content))
    found = pipeline("summarization", path)(TEXTS[0])
    expected = written(path, "sum: " + TEXTS[0], num_beams=2, max_length=9)
    assert found == [{"summary_text": expected[0]}]
    found = pipeline("text2text-generation", path)(TEXTS[0], max_length=7)
    expected = written(path, "all: " + TEXTS[0], num_beams=4, max_length=7)
    assert found == [{"generated_text": expected[0]}]
    own = GenerationConfig(max_new_tokens=5, decoder_start_token_id=2, eos_token_id=2)
    found = pipeline("summarization", path)(TEXTS[0], generation_config=own)
    expected = written(path, "sum: " + TEXTS[0], num_beams=4, max_new_tokens=5)
    assert found == [{"summary_text": expected[0]}]


@pytest.mark.parametrize("wrong", [7, {"summarization": 7}, {"summarization": {"num_beams": -1}}])
def test_task_specific_params_that_lie(tmp_path, wrong):
    source = directory("bart")
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = json.loads((source / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | {"task_specific_params": wrong}))
    with pytest.raises(ValueError, match=r"task_specific_params of config\.json"):
        pipeline("summarization", tmp_path)


def test_translation():
    """Of one pair of languages; their names have no effect but on the prefix of the file."""
    path = directory("marian")
    expected = [{"translation_text": written(path, TEXTS[0], num_beams=4, **SHORT)[0]}]
    for task in ("translation", "translation_en_to_de"):
        assert pipeline(task, path)(TEXTS[0], **SHORT) == expected
    assert pipeline("translation", path, src_lang="en", tgt_lang="x")(TEXTS[0], **SHORT) == expected


@pytest.mark.parametrize(
    ("case", "kind", "languages", "first"),
    [
        ("mbart", "MBartTokenizer", ("en_XX", "de_DE"), False),
        ("mbart", "MBart50TokenizerFast", ("en_XX", "de_DE"), True),
        ("m2m_100", "NllbTokenizer", ("eng_Latn", "deu_Latn"), True),
        ("m2m_100", "M2M100Tokenizer", ("en", "de"), True),
    ],
)
def test_translation_of_many_languages(case, kind, languages, first):
    """The source has its language's token at one end, and the answer begins with the other's."""
    path = directory(case, json.dumps({"tokenizer_class": kind}))
    model, tokenizer = theirs(path, "Seq2SeqLM")
    names = [f"__{name}__" if kind == "M2M100Tokenizer" else name for name in languages]
    source, target = (tokenizer.convert_tokens_to_ids(name) for name in names)
    ids = tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
    ids = [source, *ids, 2] if first else [*ids, 2, source]
    options = {"num_beams": 4, "forced_bos_token_id": target} | SHORT
    found = model.generate(input_ids=torch.tensor([ids]), **options)
    expected = [{"translation_text": tokenizer.decode(found[0], skip_special_tokens=True)}]
    translate = pipeline("translation", path)
    assert translate(TEXTS[0], src_lang=languages[0], tgt_lang=languages[1], **SHORT) == expected
    ids = translate(
        TEXTS[0], src_lang=languages[0], tgt_lang=languages[1], return_tensors=True, **SHORT
    )[0]["translation_token_ids"]
    assert ids[1] == target
    with pytest.raises(ValueError, match="tgt_lang is None"):
        translate(TEXTS[0])
    with pytest.raises(ValueError, match="src_lang is 'klingon'"):
        translate(TEXTS[0], src_lang="klingon", tgt_lang=languages[1])


@pytest.mark.parametrize("case", CAUSAL)
def test_text_generation(case):
    path = directory(case)
    model, tokenizer = theirs(path, "CausalLM")
    their = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu")
    ours = pipeline("text-generation", path, do_sample=False)
    options = {"do_sample": False} | SHORT
    for more in (
        {},
        {"return_full_text": False},
        {"prefix": "It is so: "},
        {"num_beams": 3, "num_return_sequences": 2},
        {"skip_special_tokens": False},
        {"max_new_tokens": 3, "no_repeat_ngram_size": 1},
    ):
        expected = [their(text, **options | more) for text in TEXTS]
        assert [ours(text, **SHORT | more) for text in TEXTS] == expected
        assert ours(TEXTS, **SHORT | more) == expected
    ids = ours(TEXTS[1], return_tensors=True, **SHORT)[0]["generated_token_ids"]
    theirs_ids = their(TEXTS[1], return_tensors=True, **options)[0]["generated_token_ids"]
    assert ids == theirs_ids
    assert ours(text_inputs=TEXTS[1], **SHORT) == their(TEXTS[1], **options)
    assert len(ours("", **SHORT)) == 1  # begins with bos_token_id


def test_sampling_is_the_default():
    """A seed makes the same texts, alone and in any list."""
    write = pipeline("text-generation", directory("llama"), seed=3, **SHORT)
    alone = [write(text) for text in TEXTS]
    assert write(TEXTS) == alone
    assert write(TEXTS[0], seed=4) != alone[0]
    assert write(TEXTS[0], do_sample=False) != alone[0]


def test_chats():
    path = directory("llama", json.dumps({"chat_template": CHAT}))
    model, tokenizer = theirs(path, "CausalLM")
    tokenizer.chat_template = CHAT
    their = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu")
    ours = pipeline("text-generation", path, do_sample=False, **SHORT)
    options = {"do_sample": False} | SHORT
    chat = [{"role": "user", "content": "What is a treadle?"}]
    begun = [*chat, {"role": "assistant", "content": "It is"}]
    for value in (chat, begun):
        assert ours(value) == their(value, **options)
        assert ours(value, return_full_text=False) == their(
            value, return_full_text=False, **options
        )
    assert ours([chat, begun]) == [ours(chat), ours(begun)]
    assert list(ours(c for c in [chat, begun])) == [ours(chat), ours(begun)]
    assert ours(chat)[0]["generated_text"][-1]["role"] == "assistant"


def test_wrong_calls_of_writers():
    write = pipeline("text-generation", directory("gpt2"))
    for options, message in (
        ({"return_full_text": True, "return_tensors": True}, "excludes"),
        ({"handle_long_generation": "cut"}, "handle_long_generation"),
        ({"tokenizer_encode_kwargs": 3}, "tokenizer_encode_kwargs"),
        ({"generation_config": {"num_beams": 2}}, "generation_config"),
        ({"num_beams": 0}, "num_beams"),
        ({"prefix": 3}, "expected"),
        ({"max_new_token": 3}, "did you mean max_new_tokens"),
        ({"num_return_sequences": 2, "do_sample": False}, "num_return_sequences"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            write(TEXTS[0], **options)
    for value in (None, 7, b"x", [{"role": "user"}], [None], {}):
        with pytest.raises(TypeError, match="expected texts or chats"):
            write(value)
    with pytest.raises(ValueError, match="template"):
        write([{"role": "user", "content": "a"}])
    with pytest.raises(ValueError, match="no Unicode"):
        write("\ud800")
    long = "word " * 300
    with pytest.raises(ValueError, match="positions"):
        write(long)
    hole = write(long, handle_long_generation="hole", max_new_tokens=4, do_sample=False)
    assert hole[0]["generated_text"].startswith(long)
    summarize = pipeline("summarization", directory("bart"))
    with pytest.raises(ValueError, match="tokens"):
        summarize(long)
    assert len(summarize(long, truncation=True, **SHORT)) == 1
    with pytest.raises(ValueError, match="which offers summarization, translation, text2text"):
        pipeline("text-generation", directory("bart"))
    with pytest.raises(ValueError, match="which offers text-generation, expected"):
        pipeline("translation_en_to_de", directory("gpt2"))


def test_the_task_of_a_writer():
    assert pipeline(model=directory("bart")).task == "summarization"
    assert pipeline(model=directory("gpt2")).task == "text-generation"
    assert np.isscalar(pipeline(model=directory("gpt2")).model.config.vocab_size)


def test_vectors_of_an_encoder_that_belongs_to_a_writer(tmp_path):
    """The encoder of a T5 gives vectors, of a text of any length."""
    model, _ = theirs(directory("t5"), "Seq2SeqLM")
    transformers.T5EncoderModel.from_pretrained(directory("t5")).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((directory("t5") / name).read_bytes())
    extract = pipeline("feature-extraction", tmp_path, return_tensors=True)
    ids = torch.tensor(extract.tokenizer([TEXTS[0]])["input_ids"])
    with torch.inference_mode():
        rounded = model.encoder(ids).last_hidden_state
        exact = model.double().encoder(ids).last_hidden_state
    model.float()
    assert_close(extract(TEXTS[0]), exact, rounded)
    assert extract("a " * 400).shape[1] > 400
    assert pipeline(model=tmp_path).task == "feature-extraction"
