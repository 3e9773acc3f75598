"""Tokenizers of sentencepiece's files, T5's and Marian's, against Transformers."""

import io
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import transformers

from support import checkpoints
from treadle.transformers import AutoTokenizer

sentencepiece = pytest.importorskip("sentencepiece", reason="the extra sentencepiece")
assert checkpoints.ROOT  # importing it has told Transformers to fetch nothing

TEXTS = [
    "Hello world!",
    "",
    "  spaces   here ",
    "Ünïcödé, 漢字 and emoji 🧵\tthese\nlines",
    "a <extra_id_3> b</s> c<extra_id_0>",
    ">>fra<< The warp is held taut.",
    "word " * 40,
]
CORPUS = [
    line for line in (Path(__file__).parent.parent.parent / "README.md").read_text().split("\n")
    if line
]  # fmt: skip


def trained(path, size, **options):
    """Train a small model of sentencepiece, write it, and return it."""
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=file, vocab_size=size, minloglevel=2, **options
    )
    path.write_bytes(file.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=file.getvalue())


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    path = tmp_path_factory.mktemp("t5")
    special = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "pad_piece": "<pad>"}
    trained(path / "spiece.model", 300, **special)
    (path / "config.json").write_text('{"model_type": "t5"}')
    (path / "tokenizer_config.json").write_text('{"model_max_length": 512, "extra_ids": 100}')
    return path


@pytest.fixture(scope="module")
def marian(tmp_path_factory):
    path = tmp_path_factory.mktemp("marian")
    source, target = (
        trained(path / f"{name}.spm", size) for name, size in (("source", 260), ("target", 200))
    )
    pieces = [m.id_to_piece(i) for m in (target, source) for i in range(3, m.get_piece_size())]
    names = ["</s>", "<unk>", *dict.fromkeys(pieces), ">>fra<<", "<pad>"]
    (path / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    (path / "config.json").write_text('{"model_type": "marian"}')
    settings = {"source_lang": "eng", "target_lang": "fra", "model_max_length": 512}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


def both(path, cls):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Transformers recommends sacremoses for Marian
        return AutoTokenizer.from_pretrained(path), cls.from_pretrained(path)


def test_t5(t5):
    ours, theirs = both(t5, transformers.T5Tokenizer)
    assert len(ours) == len(theirs)
    for text in TEXTS:
        expected = theirs(text)["input_ids"]
        assert ours(text)["input_ids"] == expected
        assert ours(text, add_special_tokens=False)["input_ids"] == expected[:-1]
        for skip in (True, False):
            found = ours.decode(expected, skip_special_tokens=skip)
            assert found == theirs.decode(expected, skip_special_tokens=skip)
    pair = theirs("a warp", "a weft")["input_ids"]
    assert ours("a warp", "a weft")["input_ids"] == pair
    for name in ("eos_token_id", "pad_token_id", "unk_token_id"):
        assert getattr(ours, name) == getattr(theirs, name)


def test_marian(marian):
    ours, theirs = both(marian, transformers.MarianTokenizer)
    for text in TEXTS:
        expected = theirs(text)["input_ids"]
        assert ours(text)["input_ids"] == expected
        skipped = theirs.decode(expected, skip_special_tokens=True)
        assert ours.decode(expected, skip_special_tokens=True) == skipped
        written = theirs(text_target=text)["input_ids"]
        assert ours(text_target=text)["input_ids"] == written
        assert ours(text, text_target=text)["labels"] == written
    assert ours("warp", text_target="warp")["labels"] is not None


def test_padding_and_truncation(marian, t5):
    for path, cls in ((marian, transformers.MarianTokenizer), (t5, transformers.T5Tokenizer)):
        ours, theirs = both(path, cls)
        options = {"padding": True, "truncation": True, "max_length": 9, "return_tensors": "np"}
        texts = [TEXTS[0], TEXTS[6], TEXTS[5]]
        found, expected = ours(texts, **options), theirs(texts, **options)
        np.testing.assert_array_equal(found["input_ids"], expected["input_ids"])
        np.testing.assert_array_equal(found["attention_mask"], expected["attention_mask"])


def test_offsets_are_refused(t5):
    with pytest.raises(ValueError, match="return_offsets_mapping"):
        AutoTokenizer.from_pretrained(t5)("a", return_offsets_mapping=True)


@pytest.mark.parametrize("content", [b"", b"no model", bytes(1000), b"\n\xff\xff\xff\xff\x0f"])
def test_damaged_models(t5, tmp_path, content):
    for file in t5.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "spiece.model").write_bytes(content)
    with pytest.raises(ValueError, match="spiece"):
        AutoTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "vocabulary", [{}, {"<unk>": 0}, {"</s>": 0, "<unk>": 0}, {"</s>": 0, "<unk>": "1"}]
)
def test_wrong_vocabularies(marian, tmp_path, vocabulary):
    for file in marian.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(ValueError, match="vocab"):
        AutoTokenizer.from_pretrained(tmp_path)


def test_without_the_library(t5, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sentencepiece", None)
    with pytest.raises(ImportError, match=r"pip install treadle\[sentencepiece\]"):
        AutoTokenizer.from_pretrained(t5)
