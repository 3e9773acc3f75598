"""Tokenizers of translators of many languages, from files of sentencepiece, against Transformers.

Transformers 5 reads M2M-100's files with sentencepiece itself, and makes parts of its own library
of the others', which do not strip the spaces at the end of a text as sentencepiece does. It gives
NLLB's languages no numbers unless the files do; those here are Transformers 4.57's.
"""

import json
import pickle
from pathlib import Path

import pytest
import transformers

from support import generators
from treadle.transformers import AutoTokenizer, pipeline
from treadle.transformers import tokenizer_language_codes as codes

sentencepiece = pytest.importorskip("sentencepiece", reason="the extra sentencepiece")
assert generators.ROOT  # importing it has told Transformers to fetch nothing

SIZE = 300
KINDS = {
    "m2m_100": ("M2M100Tokenizer", codes.M2M_100, "en", "fr"),
    "nllb": ("NllbTokenizer", codes.NLLB, "eng_Latn", "fra_Latn"),
    "mbart": ("MBartTokenizer", codes.MBART, "en_XX", "fr_XX"),
    "mbart50": ("MBart50Tokenizer", codes.MBART50, "en_XX", "sv_SE"),
}
TEXTS = [
    "Hello world!",
    "",
    "  spaces   here",
    "Ünïcödé, 漢字 and\tthese\nlines",
    "a</s> b<pad> c",
    "word " * 40 + "end",
]
CORPUS = [
    line for line in (Path(__file__).parent.parent.parent / "README.md").read_text().split("\n")
    if line
]  # fmt: skip


def write(path, kind, **settings):
    """Train a small model of sentencepiece and write a directory; return the model."""
    path.mkdir(exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=(file := (path / "sentencepiece.bpe.model").open("wb")),
        model_type="bpe" if kind == "nllb" else "unigram",
        vocab_size=SIZE,
        minloglevel=2,
    )
    file.close()
    model = sentencepiece.SentencePieceProcessor(str(path / "sentencepiece.bpe.model"))
    if kind == "m2m_100":
        pieces = [model.id_to_piece(i) for i in range(SIZE - 1, 2, -1)]  # in another order
        names = ["<s>", "<pad>", "</s>", "<unk>", *pieces]
        (path / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    entries = {"tokenizer_class": KINDS[kind][0], "model_max_length": 512} | settings
    (path / "tokenizer_config.json").write_text(json.dumps(entries))
    return model


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    root = tmp_path_factory.mktemp("languages")
    for kind in KINDS:
        write(root / kind, kind)
    return root


def both(path, kind, **settings):
    ours = AutoTokenizer.from_pretrained(path, **settings)
    return ours, getattr(transformers, KINDS[kind][0]).from_pretrained(path, **settings)


@pytest.mark.parametrize("kind", ["m2m_100", "mbart", "mbart50"])
@pytest.mark.parametrize("languages", [False, True])
def test_ids_are_those_of_transformers(directories, kind, languages):
    source, target = KINDS[kind][2:]
    settings = {"src_lang": target, "tgt_lang": source} if languages else {}
    ours, theirs = both(directories / kind, kind, **settings)
    for text in TEXTS:
        expected = theirs(text)["input_ids"]
        assert ours(text)["input_ids"] == expected
        assert (
            ours(text, add_special_tokens=False)["input_ids"]
            == (theirs(text, add_special_tokens=False)["input_ids"])
        )
        if kind != "m2m_100" or languages:  # there Transformers asks for a tgt_lang
            written = theirs(text_target=text)["input_ids"]
            assert ours(text_target=text)["input_ids"] == written
            assert ours(text, text_target=text)["labels"] == written
        if kind != "m2m_100":  # Transformers takes its languages for text
            skipped = theirs.decode(expected, skip_special_tokens=True)
            assert ours.decode(expected, skip_special_tokens=True) == skipped
    assert ours("a", "b")["input_ids"] == theirs("a", "b")["input_ids"]
    assert ours.decode(ours(TEXTS[0])["input_ids"]) == theirs.decode(theirs(TEXTS[0])["input_ids"])
    for name in ("eos_token_id", "pad_token_id", "unk_token_id", "bos_token_id", "mask_token_id"):
        assert getattr(ours, name) == getattr(theirs, name), name


def test_pieces_of_nllb_are_those_of_transformers(directories):
    ours, theirs = both(directories / "nllb", "nllb")
    language = SIZE + 1 + codes.NLLB.index("eng_Latn")
    for text in TEXTS:
        found, expected = ours(text)["input_ids"], theirs(text)["input_ids"]
        assert found[0] == language
        if "</s>" not in text:  # behind which Transformers keeps a space at the end
            assert found[1:] == expected[1:]


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_all_tokens(directories, kind):
    """The formula of fairseq: four tokens, pieces, languages, <mask>."""
    path = directories / kind
    ours = AutoTokenizer.from_pretrained(path)
    model = sentencepiece.SentencePieceProcessor(str(path / "sentencepiece.bpe.model"))
    languages, vocabulary = KINDS[kind][1], ours.get_vocab()
    names = [f"__{name}__" if kind == "m2m_100" else name for name in languages]
    assert [vocabulary[name] for name in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
    numbers = [vocabulary[model.id_to_piece(i)] for i in range(3, SIZE)]
    plain = list(range(4, SIZE + 1))
    assert numbers == (plain[::-1] if kind == "m2m_100" else plain)
    assert [vocabulary[name] for name in names] == [*range(SIZE + 1, SIZE + 1 + len(names))]
    assert vocabulary.get("<mask>", -1) == (-1 if kind == "m2m_100" else SIZE + 1 + len(names))
    assert len(ours) == SIZE + 1 + len(names) + (kind != "m2m_100")
    assert ours.extra_special_tokens == names
    text = f"a{names[3]}b"  # a language in a text is its token
    assert vocabulary[names[3]] in ours(text, add_special_tokens=False)["input_ids"]


def test_the_first_form_of_nllb(directories):
    path = directories / "nllb"
    new, old = (
        AutoTokenizer.from_pretrained(path, src_lang="fra_Latn", legacy_behaviour=legacy)
        for legacy in (False, True)
    )
    first, *pieces, end = new("a warp")["input_ids"]
    assert first == new.get_vocab()["fra_Latn"]
    assert old("a warp")["input_ids"] == [*pieces, end, first]
    assert new(text_target="a warp")["input_ids"][0] == first  # tgt_lang is src_lang without one


def test_the_languages_of_wmt21(tmp_path):
    write(tmp_path, "m2m_100", language_codes="wmt21")
    ours, theirs = both(tmp_path, "m2m_100", src_lang="de", tgt_lang="en")
    assert ours("a warp")["input_ids"] == theirs("a warp")["input_ids"]
    assert ours(text_target="a warp")["input_ids"] == theirs(text_target="a warp")["input_ids"]
    assert len(ours) == SIZE + 1 + 8


def test_models_that_name_no_class(tmp_path):
    for kind, model in (("mbart", "mbart"), ("m2m_100", "m2m_100")):
        path = tmp_path / kind
        write(path, kind)
        expected = AutoTokenizer.from_pretrained(path)("a warp")["input_ids"]
        (path / "tokenizer_config.json").unlink()
        (path / "config.json").write_text(json.dumps({"model_type": model}))
        assert AutoTokenizer.from_pretrained(path)("a warp")["input_ids"] == expected


def test_pickles_keep_the_languages(directories):
    ours = AutoTokenizer.from_pretrained(directories / "mbart50", src_lang="sv_SE")
    copy = pickle.loads(pickle.dumps(ours))
    assert copy("a warp")["input_ids"] == ours("a warp")["input_ids"]
    assert copy("a warp")["input_ids"][0] == ours.get_vocab()["sv_SE"]


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("nllb", {"src_lang": "en"}, "src_lang is 'en'"),
        ("nllb", {"src_lang": 5}, "src_lang is 5"),
        ("mbart", {"tgt_lang": "gl_ES"}, "tgt_lang is 'gl_ES'"),
        ("m2m_100", {"src_lang": "__en__"}, "src_lang is '__en__'"),
        ("m2m_100", {"language_codes": "all"}, "language_codes is 'all'"),
        ("m2m_100", {"language_codes": ["af"]}, "language_codes is"),
        ("nllb", {"legacy_behaviour": "yes"}, "legacy_behaviour"),
    ],
)
def test_wrong_settings(directories, kind, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        AutoTokenizer.from_pretrained(directories / kind, **settings)


@pytest.mark.parametrize(
    "vocabulary",
    [{}, {"<unk>": 0, "</s>": 2}, {"<unk>": 0, "</s>": 0}, {"<unk>": "0"}, {"<s>": 0, "</s>": 1}],
)
def test_wrong_vocabularies(tmp_path, vocabulary):
    write(tmp_path, "m2m_100")
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(ValueError, match=r"vocab\.json has"):
        AutoTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no model", b"\n\xff\xff\xff\xff\x0f"])
@pytest.mark.parametrize("kind", ["m2m_100", "nllb"])
def test_damaged_models(tmp_path, kind, content):
    write(tmp_path, kind)
    (tmp_path / "sentencepiece.bpe.model").write_bytes(content)
    with pytest.raises(ValueError, match="sentencepiece"):
        AutoTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", ["m2m_100", "nllb", "mbart", "mbart50"])
def test_translation(tmp_path, kind):
    """The pipeline puts the languages of a call around a text."""
    write(tmp_path, kind)
    _, languages, source, target = KINDS[kind]
    case = "mbart" if kind.startswith("mbart") else "m2m_100"
    size = SIZE + 1 + len(languages) + 1
    config = generators.configuration(case, vocab_size=size, max_position_embeddings=200)
    model = generators.randomized(config)
    model.save_pretrained(tmp_path)
    translate = pipeline("translation", tmp_path, src_lang=target, tgt_lang=source)
    options = {"max_new_tokens": 5, "num_beams": 2}
    found = translate("a warp", return_tensors=True, **options)[0]["translation_token_ids"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, src_lang=target, tgt_lang=source)
    ids = tokenizer("a warp", return_tensors="pt")["input_ids"]
    first = tokenizer.get_vocab()[f"__{source}__" if kind == "m2m_100" else source]
    expected = model.generate(ids, forced_bos_token_id=first, **options)[0].tolist()
    assert found == expected
    assert first in found
