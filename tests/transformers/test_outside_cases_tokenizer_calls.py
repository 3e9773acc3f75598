"""Calls of a tokenizer as in programs for tagging, questions over long texts, training and
reranking.

The reference is the Transformers that is installed, on small tokenizers of all kinds and MiniLM's.
"""

import itertools
import pickle
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
import transformers as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils import PaddingStrategy, TensorType

from support import checkpoints, child
from support.checkpoints import MINILM
from support.tokenizer_directories import TEXTS, write
from treadle.transformers import AutoModel, AutoTokenizer, tokenizer_library
from treadle.transformers.encoding import CharSpan, Encoding, TokenSpan

KINDS = ("bert", "roberta", "xlm-roberta", "minilm")
LONG = " ".join(f"The {word} is drawn through, over and under." for word in TEXTS[4].split())


@cache
def pair(kind):
    """(treadle's, Transformers'), with a limit of 30 tokens where the file has none."""
    if kind == "minilm":
        path = MINILM
    else:
        name = f"calls-{kind}"
        path = write(Path(checkpoints.ROOT.name) / name, kind, "a length")
    return AutoTokenizer.from_pretrained(path), reference.AutoTokenizer.from_pretrained(path)


def assert_same(found, expected):
    """Assert that two results have the same fields, in order, kind and numbers."""
    assert list(found) == list(expected.keys())
    for name, value in found.items():
        if isinstance(value, list):
            assert value == expected[name], name
        else:
            assert type(value) is type(expected[name]), name
            assert value.dtype == expected[name].dtype, name
            wanted = np.asarray(expected[name])
            if name == "offset_mapping" and wanted.size == 0:  # [B, 0, 2] here
                wanted = wanted.reshape(*wanted.shape[:2], 2)
            np.testing.assert_array_equal(np.asarray(value), wanted)


FRAGMENTS = ["The", "warp", "treadle,", "漢字", "🧵", "don't", "[MASK]", "<mask>", "</s>", "[SEP]",
             "Привет", "عربى", "unbelievably", "\n", "\t", "e\u0301", "İ", ".", "word"]  # fmt: skip
A_TEXT = st.one_of(
    st.sampled_from(TEXTS),
    st.lists(st.sampled_from(FRAGMENTS), max_size=25).map(" ".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=50)
@given(st.data())
def test_random_calls(kind, data):
    """Ids, masks, types, offsets, overflowing rows and places of tokens of any call."""
    ours, theirs = pair(kind)
    texts = data.draw(st.lists(A_TEXT, min_size=1, max_size=4), "texts")
    seconds = None
    if data.draw(st.booleans(), "pairs"):
        seconds = data.draw(st.lists(A_TEXT, min_size=len(texts), max_size=len(texts)), "seconds")
    words = data.draw(st.booleans(), "is_split_into_words")
    if words:
        texts = [text.split() for text in texts]
        seconds = seconds and [text.split() for text in seconds]
    options = {
        "is_split_into_words": words,
        "add_special_tokens": data.draw(st.booleans(), "add_special_tokens"),
        "padding": data.draw(st.sampled_from([False, True, "max_length"]), "padding"),
        "return_tensors": data.draw(st.sampled_from([None, "np", "pt"]), "return_tensors"),
    }
    limit = data.draw(st.integers(8, 40), "max_length")
    stride = data.draw(st.sampled_from([0, 1, 3]), "stride")
    if data.draw(st.booleans(), "truncation"):
        options |= {"truncation": True, "max_length": limit, "stride": stride}
    elif options["padding"] == "max_length":
        options["max_length"] = limit
    for name in (
        "return_overflowing_tokens", "return_special_tokens_mask", "return_offsets_mapping",
        "return_length", "split_special_tokens",
    ):  # fmt: skip
        options[name] = data.draw(st.booleans(), name)
    if options["padding"] is not True and options["return_tensors"]:
        options["padding"] = True
        if "truncation" not in options:
            options.pop("max_length", None)
    options["padding_side"] = data.draw(st.sampled_from([None, "left"]), "padding_side")
    expected = theirs(texts, seconds, **options)
    found = ours(texts, seconds, **options)
    assert_same(found, expected)
    for i in range(len(expected.encodings)):
        assert found.word_ids(i) == expected.word_ids(i)
        assert found.sequence_ids(i) == expected.sequence_ids(i)
        assert found.tokens(i) == expected.tokens(i)
    for row in np.asarray(found["input_ids"]) if options["return_tensors"] else found["input_ids"]:
        for skip in (False, True):
            text = theirs.decode(row, skip_special_tokens=skip)
            assert ours.decode(row, skip_special_tokens=skip) == text


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(A_TEXT, A_TEXT)
def test_places(kind, first, second):
    """Every token, word and character of two texts by every method."""
    ours, theirs = pair(kind)
    found, expected = ours([first], [second]), theirs([first], [second])
    assert found.n_sequences == expected.n_sequences == 2
    for i in range(len(found["input_ids"][0])):
        for name in ("token_to_sequence", "token_to_word", "token_to_chars"):
            assert getattr(found, name)(0, i) == getattr(expected, name)(0, i)
            assert getattr(found, name)(i) == getattr(expected, name)(i)
    for s, text in enumerate((first, second)):
        for i in range(len(text) + 1):
            for name in ("char_to_token", "char_to_word"):
                arguments = (0, i, s)
                assert getattr(found, name)(*arguments) == getattr(expected, name)(*arguments)
        for i in {w for w, own in zip(found.word_ids(), found.sequence_ids(), strict=True)
                  if own == s}:  # fmt: skip
            assert found.word_to_tokens(0, i, s) == expected.word_to_tokens(0, i, s)
            assert found.word_to_chars(0, i, s) == expected.word_to_chars(0, i, s)


def test_labels_of_words():
    """The tokenize_and_align_labels function of token classification."""
    ours, theirs = pair("minilm")
    words = [["EU", "rejects", "German", "call"], ["Peter", "Blackburn", "unbelievably"]]
    options = {"truncation": True, "is_split_into_words": True}
    found, expected = ours(words, **options), theirs(words, **options)
    for i, row in enumerate(words):
        tags = list(range(len(row)))
        labels = [-100 if w is None else tags[w] for w in found.word_ids(batch_index=i)]
        assert labels == [-100 if w is None else tags[w] for w in expected.word_ids(i)]
        assert len(labels) == len(found["input_ids"][i])


def test_questions_over_long_texts():
    """Question answering: pages of a context with offsets, the number of the text, and its side."""
    ours, theirs = pair("minilm")
    questions, contexts = ["Who weaves?", "What is drawn?"], [LONG, LONG[:200]]
    options = {
        "truncation": "only_second", "max_length": 60, "stride": 16, "padding": "max_length",
        "return_overflowing_tokens": True, "return_offsets_mapping": True,
    }  # fmt: skip
    found, expected = ours(questions, contexts, **options), theirs(questions, contexts, **options)
    assert_same(found, expected)
    samples = found["overflow_to_sample_mapping"]
    assert samples.count(0) > 2
    for i, sample in enumerate(samples):
        for j, side in enumerate(found.sequence_ids(i)):
            if side == 1:
                a, b = found["offset_mapping"][i][j]
                assert found.token_to_chars(i, j) == CharSpan(a, b)
                assert contexts[sample][a:b].strip() != ""
    single = ours(questions[0], LONG, **options)
    assert_same(single, theirs(questions[0], LONG, **options))


def test_a_stride_beyond_a_pairs_share(capfd):
    """The library panics, since each of two texts keeps 3 tokens."""
    ours, _ = pair("bert")
    options = {"truncation": True, "stride": 3, "return_overflowing_tokens": True}
    with pytest.raises(ValueError, match="stride is not below what max_length leaves"):
        ours("a b c d e f", "a b c d e f", max_length=9, **options)
    capfd.readouterr()


def test_offsets_of_cut_rows():
    """Offsets of RoBERTa's tokens were trimmed twice in rows that were cut."""
    ours, theirs = pair("roberta")
    options = {"truncation": True, "max_length": 12, "return_offsets_mapping": True}
    assert_same(ours([LONG, "a b"], **options), theirs([LONG, "a b"], **options))


def test_pairs_in_a_list():
    """The lines of a reranker's card: a list of [question, passage]."""
    ours, theirs = pair("minilm")
    pairs = [["what is panda?", "hi"], ["what is panda?", "The giant panda is a bear."]]
    options = {"padding": True, "truncation": True, "return_tensors": "pt", "max_length": 512}
    assert_same(ours(pairs, **options), theirs(pairs, **options))
    mixed = ["alone", ("one", "two")]
    assert ours(mixed)["input_ids"] == [ours("alone")["input_ids"], ours("one", "two")["input_ids"]]


def test_targets():
    ours, theirs = pair("minilm")
    options = {"truncation": True, "max_length": 6}
    for given_ in ({"text": TEXTS, "text_target": TEXTS[::-1]}, {"text_target": "Hello world"}):
        assert_same(ours(**given_, **options), theirs(**given_, **options))


def test_entries_of_enumerations():
    ours, theirs = pair("minilm")
    options = {"padding": PaddingStrategy.LONGEST, "return_tensors": TensorType.NUMPY}
    assert_same(ours(TEXTS, **options), theirs(TEXTS, **options))


def test_tensors_of_pytorch():
    """A model of treadle takes them, with the same bits; PyTorch is imported only then."""
    ours, _ = pair("minilm")
    model = AutoModel.from_pretrained(MINILM)
    inputs = ours(["A warp thread.", "Treadle"], padding=True, return_tensors="pt")
    assert all(value.dtype == torch.int64 for value in inputs.values())
    arrays = ours(["A warp thread.", "Treadle"], padding=True, return_tensors="np")
    state = model(**inputs).last_hidden_state
    assert state.tobytes() == model(**arrays).last_hidden_state.tobytes()
    assert inputs.to("cpu") is inputs


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from treadle.transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
tokenizer(["a", "b c"], padding=True, return_tensors="np")
try:
    tokenizer("a", return_tensors="pt")
except ImportError as error:
    print(error)
"""


def test_without_pytorch():
    assert "pip install torch" in child.succeed(WITHOUT_TORCH, MINILM)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30)
@given(st.data())
def test_pad(kind, data):
    """A collator's work: results of single texts, or of a call, padded later."""
    ours, theirs = pair(kind)
    texts = data.draw(st.lists(A_TEXT, min_size=1, max_size=4))
    side = data.draw(st.sampled_from([None, "left", "right"]))
    options = {"padding_side": side, "return_special_tokens_mask": True}
    del options["padding_side"]
    rows = [dict(ours(text, **options)) | {"label": i} for i, text in enumerate(texts)]
    padding = data.draw(st.sampled_from([True, "longest", "max_length", False]))
    longest = max(len(row["input_ids"]) for row in rows)
    arguments = {"padding": padding, "padding_side": side}
    if padding == "max_length":
        arguments["max_length"] = longest + data.draw(st.integers(0, 9))
    if padding is not False:
        arguments["pad_to_multiple_of"] = data.draw(st.sampled_from([None, 8]))
        arguments["return_tensors"] = data.draw(st.sampled_from([None, "np", "pt"]))
    assert_same(ours.pad(rows, **arguments), theirs.pad(rows, **arguments))
    whole = dict(ours(texts))
    assert_same(ours.pad(whole, **arguments), theirs.pad(dict(whole), **arguments))
    kind = arguments.get("return_tensors")
    if kind and padding is True:
        tensors = dict(ours(texts, padding=True, return_tensors=kind))
        del arguments["return_tensors"]
        assert_same(ours.pad(tensors, **arguments), theirs.pad(dict(tensors), **arguments))


def test_a_collator():
    """DataCollatorWithPadding of Transformers on treadle's tokenizer."""
    ours, theirs = pair("minilm")
    rows = [ours(text) for text in TEXTS]
    collate = reference.DataCollatorWithPadding
    assert_same(collate(ours)(rows), collate(theirs)([dict(row) for row in rows]))


WRONG_PADS = {
    "a text": ("a", TypeError, "encoded_inputs"),
    "no ids": ({"attention_mask": [1]}, ValueError, "input_ids"),
    "other fields": ([{"input_ids": [1]}, {"ids": [1]}], ValueError, "same fields"),
    "a shorter mask": ({"input_ids": [1, 2], "attention_mask": [1]}, ValueError, "attention_mask"),
    "ids and rows": ({"input_ids": [[1], 2]}, TypeError, "input_ids"),
}


@pytest.mark.parametrize("name", WRONG_PADS)
def test_wrong_pads(name):
    value, error, culprit = WRONG_PADS[name]
    with pytest.raises(error, match=rf"^treadle\.transformers\.AutoTokenizer\.pad: .*{culprit}"):
        pair("minilm")[0].pad(value)


def test_padding_twice_or_unevenly():
    ours, _ = pair("minilm")
    rows = {"input_ids": [[101, 102], [101]], "labels": [[1, 2], [3]]}
    assert ours.pad(rows)["labels"] == [[1, 2], [3]]
    with pytest.raises(ValueError, match="labels has rows of 1 to 2"):
        ours.pad(rows, return_tensors="np")
    assert dict(ours.pad({"input_ids": []})) == {"input_ids": [], "attention_mask": []}


def test_the_result():
    """Rows by number, slices, copies and pickles, as BatchEncoding has them."""
    ours, theirs = pair("minilm")
    found, expected = ours(TEXTS), theirs(TEXTS)
    assert found[2].ids == expected[2].ids
    assert [e.ids for e in found[1:3]] == [e.ids for e in expected[1:3]]
    assert found.is_fast
    assert found.data == dict(found)
    for again in (pickle.loads(pickle.dumps(found)), found.copy()):
        assert again == found
        assert again.word_ids(2) == found.word_ids(2)
    assert found.word_to_tokens(0, 1) == TokenSpan(2, 3)
    plain = Encoding(input_ids=[1, 2])
    assert plain[:1] == {"input_ids": [1]}
    assert not plain.is_fast
    for call, error in (
        (lambda: plain.word_ids(), ValueError), (lambda: found.word_ids(99), IndexError),
        (lambda: found.word_ids("a"), TypeError), (lambda: found.char_to_token(0, -1), IndexError),
        (lambda: found.token_to_chars(0, 2**80), IndexError), (lambda: plain[0], KeyError),
        (lambda: found.char_to_token(0, 0, 2), ValueError),
        (lambda: found.token_to_word(0, 1.5), TypeError),
    ):  # fmt: skip
        with pytest.raises(error):
            call()
    batch = ours("a b").convert_to_tensors("np", prepend_batch_axis=True)
    assert batch["input_ids"].shape == (1, 4)


def test_tokens_by_name():
    """tokenizer.pad_token = tokenizer.eos_token, and the tokens of the vocabulary."""
    path = write(Path(checkpoints.ROOT.name) / "calls-named", "roberta", "all three")
    ours, theirs = (
        AutoTokenizer.from_pretrained(path),
        reference.AutoTokenizer.from_pretrained(path),
    )
    for name in ("all_special_tokens", "all_special_ids", "extra_special_tokens", "is_fast"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.get_added_vocab() == theirs.get_added_vocab()
    ids = theirs(TEXTS[2])["input_ids"]
    tokens = theirs.convert_ids_to_tokens(ids, skip_special_tokens=True)
    assert ours.convert_ids_to_tokens(ids, skip_special_tokens=True) == tokens
    assert ours.convert_tokens_to_string(tokens) == theirs.convert_tokens_to_string(tokens)
    assert ours.tokenize(TEXTS[2]) == theirs.tokenize(TEXTS[2])
    mask = theirs.get_special_tokens_mask(ids, already_has_special_tokens=True)
    assert ours.get_special_tokens_mask(ids) == mask
    assert ours.decode([ids, ids[:3]]) == theirs.decode([ids, ids[:3]])
    for tokenizer in (ours, theirs):
        tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "left"
    assert ours.pad_token_id == theirs.pad_token_id == 2
    assert_same(ours(TEXTS, padding=True), theirs(TEXTS, padding=True))
    again = pickle.loads(pickle.dumps(ours))
    assert dict(again(TEXTS, padding=True)) == dict(ours(TEXTS, padding=True))
    with pytest.raises(ValueError, match=r"pad_token is 'no such'"):
        ours.pad_token = "no such"
    with pytest.raises(ValueError, match=r"pad_token_id is 99999"):
        ours.pad_token_id = 99999


def test_older_programs():
    """encode_plus and batch_encode_plus, which Transformers 4.57 still has."""
    ours, _ = pair("minilm")
    assert ours.encode_plus("a", "b", max_length=9) == ours("a", "b", max_length=9)
    words = ours.encode_plus(["a", "b"], is_split_into_words=True)
    assert words == ours(["a", "b"], is_split_into_words=True)
    assert ours.batch_encode_plus([("a", "b"), ("c", "d")]) == ours(["a", "c"], ["b", "d"])
    for call in (lambda: ours.encode_plus(["a"]), lambda: ours.batch_encode_plus("a")):
        with pytest.raises(TypeError, match="encode_plus: text"):
            call()
    assert (ours.max_len_single_sentence, ours.max_len_sentences_pair) == (510, 509)
    assert ours.name_or_path == str(MINILM)
    with pytest.raises(AttributeError, match="'add_tokens'; Transformers does that"):
        ours.add_tokens(["x"])


@pytest.mark.parametrize(
    ("name", "value"),
    [("padding_side", "top"), ("truncation_side", None), ("model_max_length", "5")],
)
def test_attributes_that_are_set_wrongly(name, value):
    ours = AutoTokenizer.from_pretrained(MINILM)
    setattr(ours, name, value)
    with pytest.raises((TypeError, ValueError), match=name):
        ours("a", truncation=True, padding=True)


def test_embeddings_of_texts_cut_on_the_left():
    """SentenceTransformer takes the ids that a call gives, on whichever side it cuts."""
    ours = AutoTokenizer.from_pretrained(MINILM, truncation_side="left")
    expected = ours(TEXTS, truncation=True, max_length=9)["input_ids"]
    assert ours.ids(TEXTS, 9) == expected
    assert ours.ids(TEXTS, 9) != pair("minilm")[0].ids(TEXTS, 9)


@pytest.fixture
def texts_seen(monkeypatch):
    """The texts that the library gets, counted at the only place where it is called."""
    seen, call = [], tokenizer_library.guarded

    def counting(where, function, *arguments, **options):
        if getattr(function, "__name__", "").startswith("encode"):
            seen.extend(itertools.chain(*arguments))
        return call(where, function, *arguments, **options)

    monkeypatch.setattr(tokenizer_library, "guarded", counting)
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_long_texts_are_tokenized_once(kind, texts_seen):
    """They were tokenized once to learn that they are too long, and once more to be cut."""
    ours, _ = pair(kind)
    texts = [LONG, "short", LONG[:500], ""]
    ours(texts, truncation=True, max_length=20)
    assert texts_seen == texts
    texts_seen.clear()
    ours.ids(texts, 20)
    assert texts_seen == texts
    texts_seen.clear()
    ours(texts, texts[::-1], truncation=True, max_length=20)
    whole = [part for item in texts_seen for part in (item if isinstance(item, tuple) else [item])]
    assert sorted(whole) == sorted(texts * 2)
    texts_seen.clear()
    ours(texts, truncation=True, max_length=20, stride=4, return_overflowing_tokens=True)
    assert texts_seen == texts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_two_long_texts(kind, side):
    """The library joins every piece of a text with every piece of the other; here it does not."""
    ours, theirs = pair(kind)
    options = {"truncation": True, "max_length": 25, "return_offsets_mapping": True}
    sides = ours.truncation_side, theirs.truncation_side
    ours.truncation_side = theirs.truncation_side = side
    try:
        found, expected = ours(LONG, LONG[7:], **options), theirs(LONG, LONG[7:], **options)
        assert_same(found, expected)
        assert found.word_ids() == expected.word_ids()
        assert found.sequence_ids() == expected.sequence_ids()
        options |= {"return_overflowing_tokens": True, "stride": 2}
        short = LONG[:400], LONG[:300]
        assert_same(ours(*short, **options), theirs(*short, **options))
    finally:
        ours.truncation_side, theirs.truncation_side = sides


def test_memory_of_two_long_texts():
    """200 pages against 200 pages: the result alone, not 40,000 combinations."""
    ours, _ = pair("bert")
    text = "word " * 6000
    found = ours(text, text, truncation=True, max_length=64)
    assert len(found["input_ids"]) == 64
    assert len(found[0].overflowing) == 0
    with pytest.raises(ValueError, match=r"return_overflowing_tokens gives \d+ rows.*only_second"):
        ours(text, text, truncation=True, max_length=32, return_overflowing_tokens=True)


def test_views_share_the_vocabulary():
    """Each length is a view of the library's tokenizer; only a few are kept."""
    ours, _ = pair("minilm")
    for most in range(2, 60):
        ours("a text that is cut", truncation=True, max_length=most)
    views = ours._library._views
    assert len(views) <= 16
    assert all(isinstance(view, tokenizers.Tokenizer) for view in views.values())
