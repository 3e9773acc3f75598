"""AutoTokenizer against Transformers' own, on the tokenizers of all families."""

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import transformers as reference
from hypothesis import given
from hypothesis import strategies as st

from support import checkpoints, child
from support.checkpoints import MINILM
from treadle.transformers import AutoTokenizer, tokenizer_library
from treadle.transformers.encoding import Encoding

TEXTS = [
    "Hello world!",
    "",
    "The warp is held taut; the treadle is drawn through, over and under.",
    "Ünïcödé, 漢字 and emoji 🧵 — don't strip\tthese\nlines.",
    " spaces  everywhere ",
    "[MASK] <mask> and special [SEP] tokens </s>",
    "word " * 200,
    "supercalifragilisticexpialidocious" * 5,
]

# The classes of the tokenizers of families that share BERT's.
WITH_WORD_PIECES = {
    "distilbert": "DistilBertTokenizer",
    "ernie": "BertTokenizer",
    "electra": "ElectraTokenizer",
}


@cache
def directory(family):
    """A directory with the family's tokenizer: MiniLM's for BERT, others trained on TEXTS."""
    if family == "bert":
        return MINILM
    path = Path(checkpoints.ROOT.name) / f"tokenizer-{family}"
    corpus = [*TEXTS * 3, "a b c d e f g h i j k l m n o p q r s t u v w x y z"]
    if family in WITH_WORD_PIECES:
        shutil.copytree(MINILM, path, ignore=shutil.ignore_patterns("*.safetensors"))
        settings = json.loads((path / "tokenizer_config.json").read_text())
        settings["tokenizer_class"] = WITH_WORD_PIECES[family]
        (path / "tokenizer_config.json").write_text(json.dumps(settings))
    elif family in ("roberta", "data2vec-text"):
        trained = tokenizers.ByteLevelBPETokenizer()
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        trained.train_from_iterator(corpus, vocab_size=400, special_tokens=special)
        model = json.loads(trained.to_str())["model"]
        merges = [tuple(merge) for merge in model["merges"]]
        made = reference.RobertaTokenizer(vocab=model["vocab"], merges=merges, model_max_length=40)
        made.save_pretrained(path)
    else:
        classes = {
            "xlm-roberta": reference.XLMRobertaTokenizer,
            "camembert": reference.CamembertTokenizer,
        }
        assert family in classes, f"{family} has no tokenizer here"
        trained = tokenizers.SentencePieceUnigramTokenizer()
        special = ["<s>", "<pad>", "</s>", "<unk>"]
        trained.train_from_iterator(
            corpus, vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False
        )
        pieces = [tuple(piece) for piece in json.loads(trained.to_str())["model"]["vocab"]]
        made = classes[family](vocab=pieces, model_max_length=40)
        made.save_pretrained(path)
    return path


@cache
def pair(family):
    """(treadle's, Transformers')"""
    path = directory(family)
    return AutoTokenizer.from_pretrained(path), reference.AutoTokenizer.from_pretrained(path)


def assert_same(family, *texts, **options):
    ours, theirs = pair(family)
    expected = theirs(*texts, **options)
    found = ours(*texts, **options)
    assert list(found) == list(expected.keys())
    for name, value in found.items():
        if options.get("return_tensors") == "np":
            assert value.dtype == np.int64
            np.testing.assert_array_equal(value, expected[name])
        else:
            assert value == expected[name]


@pytest.mark.parametrize("family", checkpoints.FAMILIES)
def test_texts(family):
    for text in TEXTS:
        assert_same(family, text)
    assert_same(family, TEXTS)
    assert_same(family, TEXTS, TEXTS[::-1])
    assert_same(family, TEXTS[0], TEXTS[2])


@pytest.mark.parametrize("family", checkpoints.FAMILIES)
@pytest.mark.parametrize(
    "options",
    [
        {"padding": True},
        {"padding": "longest", "return_tensors": "np"},
        {"padding": True, "truncation": True, "return_tensors": "np"},
        {"padding": "max_length", "truncation": True, "max_length": 12, "return_tensors": "np"},
        {"padding": "max_length", "max_length": 2000},
        {"truncation": True, "max_length": 5},
        {"max_length": 5},
        {"padding": True, "truncation": True, "max_length": 16, "pad_to_multiple_of": 8},
        {"padding": True, "pad_to_multiple_of": 7},
        {"padding": True, "padding_side": "left", "return_tensors": "np"},
        {"add_special_tokens": False, "truncation": True, "max_length": 7},
        {"return_token_type_ids": True, "return_attention_mask": False},
        {"return_special_tokens_mask": True, "padding": True},
        {"return_offsets_mapping": True},
        {"return_offsets_mapping": True, "padding": True, "return_tensors": "np"},
    ],
    ids=str,
)
def test_options(family, options):
    assert_same(family, TEXTS, **options)
    assert_same(family, TEXTS, TEXTS[::-1], **options)
    assert_same(family, TEXTS[2], **options)


@pytest.mark.parametrize("family", checkpoints.FAMILIES)
@given(st.data())
def test_truncation_of_pairs(family, data):
    """Every strategy and length that can be reached."""
    ours, theirs = pair(family)
    first, second = (" ".join(data.draw(st.lists(WORDS, max_size=12))) for _ in range(2))
    strategy = data.draw(st.sampled_from([True, "longest_first", "only_first", "only_second"]))
    options = {"truncation": strategy, "max_length": data.draw(st.integers(0, 30))}
    special = ours.num_special_tokens_to_add(pair=True)
    rest = {"only_first": second, "only_second": first}.get(strategy, "")
    least = special + len(ours(rest, add_special_tokens=False)["input_ids"])
    if options["max_length"] <= least and options["max_length"] != special:
        if options["max_length"] < least:
            with pytest.raises(ValueError, match="max_length"):
                ours([first], [second], **options)
        return
    assert dict(ours([first], [second], **options)) == dict(theirs([first], [second], **options))


WORDS = st.sampled_from(["warp", "treadle", "loom", "漢字", "unbelievably", "a", "🧵", ","])


@pytest.mark.parametrize("family", checkpoints.FAMILIES)
def test_decoding(family):
    ours, theirs = pair(family)
    ids = theirs(TEXTS)["input_ids"]
    for skip in (False, True):
        expected = [theirs.decode(row, skip_special_tokens=skip) for row in ids]
        assert [ours.decode(row, skip_special_tokens=skip) for row in ids] == expected
        assert ours.batch_decode(ids, skip_special_tokens=skip) == expected
    assert ours.decode(np.array(ids[0])) == ours.decode(ids[0])
    assert ours.batch_decode(np.array(ids[:1])) == [ours.decode(ids[0])]
    assert ours.decode(ids[0][1]) == theirs.decode(ids[0][1])
    assert ours.convert_ids_to_tokens(ids[2]) == theirs.convert_ids_to_tokens(ids[2])
    tokens = [*theirs.convert_ids_to_tokens(ids[2]), "no such token"]
    assert ours.convert_tokens_to_ids(tokens) == theirs.convert_tokens_to_ids(tokens)
    assert ours.convert_tokens_to_ids(tokens[1]) == theirs.convert_tokens_to_ids(tokens[1])
    assert ours.convert_ids_to_tokens(ids[2][1]) == theirs.convert_ids_to_tokens(ids[2][1])
    assert ours.encode(TEXTS[2]) == ids[2]


@pytest.mark.parametrize("family", checkpoints.FAMILIES)
def test_attributes(family):
    ours, theirs = pair(family)
    names = ["model_max_length", "model_input_names", "padding_side", "truncation_side"]
    names += ["vocab_size", "pad_token_type_id"]
    names += [f"{n}_token{e}" for n in ("pad", "unk", "cls", "sep", "mask") for e in ("", "_id")]
    for name in names:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert len(ours) == len(theirs)
    assert ours.get_vocab() == theirs.get_vocab()


def test_padding_in_the_file_is_reset():
    """MiniLM's tokenizer.json pads and cuts everything to 128 tokens."""
    raw = tokenizers.Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    assert len(raw.encode("Hello").ids) == 128
    ours, _ = pair("bert")
    assert len(ours("Hello")["input_ids"]) == 3
    assert len(ours("word " * 300)["input_ids"]) == 302


def changed_directory(tmp_path, **settings):
    path = checkpoints.minilm_copied(tmp_path)
    file = path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return path


@pytest.mark.parametrize(
    "settings",
    [
        {"do_lower_case": False},
        {"tokenize_chinese_chars": False},
        {"strip_accents": False},
        {"padding_side": "left"},
        {"truncation_side": "left"},
        {"model_max_length": 7},
        {"model_input_names": ["input_ids", "attention_mask"]},
    ],
    ids=str,
)
def test_settings(tmp_path, settings):
    """tokenizer_config.json has the last word."""
    path = changed_directory(tmp_path, **settings)
    ours, theirs = (
        AutoTokenizer.from_pretrained(path),
        reference.AutoTokenizer.from_pretrained(path),
    )
    for options in ({}, {"padding": True, "truncation": True}):
        assert dict(ours(TEXTS, **options)) == dict(theirs(TEXTS, **options))
    pairs = {"truncation": True, "max_length": 12}
    assert dict(ours(TEXTS, TEXTS[::-1], **pairs)) == dict(theirs(TEXTS, TEXTS[::-1], **pairs))


def test_without_settings(tmp_path):
    """tokenizer.json alone: no limit, and no special token but that of its own padding."""
    shutil.copy(MINILM / "tokenizer.json", tmp_path)
    ours = AutoTokenizer.from_pretrained(tmp_path)
    assert ours("Hello world!")["input_ids"] == pair("bert")[0]("Hello world!")["input_ids"]
    assert ours.model_max_length == int(1e30)
    assert ours.special_tokens_map == {"pad_token": "[PAD]"}
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["padding"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    ours = AutoTokenizer.from_pretrained(tmp_path)
    assert ours.pad_token_id is None
    with pytest.raises(ValueError, match="pad_token"):
        ours(["a"], padding=True)


def test_threads_share_a_tokenizer():
    """Different limits at the same time: Transformers' own cannot do that."""
    ours, _ = pair("bert")
    cases = [(TEXTS[i % 8], {"truncation": True, "max_length": i % 9 + 2}) for i in range(300)]
    expected = [dict(ours(text, **options)) for text, options in cases]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda case: dict(ours(case[0], **case[1])), cases))
    assert found == expected


def test_pickle():
    ours, _ = pair("bert")
    twin = pickle.loads(pickle.dumps(ours))
    assert repr(twin) == repr(ours)
    encoding = ours("Hello")
    again = pickle.loads(pickle.dumps(encoding))
    assert type(again) is Encoding
    assert again == encoding
    assert again.input_ids == encoding["input_ids"]
    with pytest.raises(AttributeError, match="nosuch"):
        _ = encoding.nosuch


WRONG = {
    "None": ((None,), {}, TypeError, "text"),
    "bytes": ((b"x",), {}, TypeError, "text"),
    "a number": ((5,), {}, TypeError, "text"),
    "a list with None": ((["a", None],), {}, TypeError, "text"),
    "a list of lists": (([["a"]],), {}, TypeError, "text"),
    "a surrogate": (("a\ud800",), {}, ValueError, "text"),
    "a surrogate in a list": ((["b", "a\udfff"],), {}, ValueError, "text"),
    "fewer second texts": ((["a", "b"], ["c"]), {}, ValueError, "text_pair"),
    "one second text": ((["a"], "c"), {}, TypeError, "text_pair"),
    "second texts of numbers": (("a", 3), {}, TypeError, "text_pair"),
    "padding": (("a",), {"padding": "left"}, ValueError, "padding"),
    "padding a number": (("a",), {"padding": 1}, ValueError, "padding"),
    "truncation": (("a",), {"truncation": "yes"}, ValueError, "truncation"),
    "max_length negative": (("a",), {"max_length": -1}, ValueError, "max_length"),
    "max_length a float": (("a",), {"max_length": 5.0}, TypeError, "max_length"),
    "max_length for special tokens": (("a",), {"max_length": 1}, ValueError, "max_length"),
    "multiple of zero": (
        ("a",), {"padding": True, "pad_to_multiple_of": 0}, ValueError, "pad_to_multiple_of",
    ),
    "no multiple": (
        ("a",),
        {"padding": True, "truncation": True, "max_length": 10, "pad_to_multiple_of": 8},
        ValueError,
        "pad_to_multiple_of",
    ),
    "padding_side": (("a",), {"padding_side": "top"}, ValueError, "padding_side"),
    "TensorFlow": (("a",), {"return_tensors": "tf"}, ValueError, "return_tensors"),
    "a misspelled argument": (("a",), {"max_lenght": 5}, TypeError, "max_length"),
    "an unknown argument": (("a",), {"colour": 5}, TypeError, "colour.*text_pair.*stride"),
    "a stride without room": (
        ("a",),
        {"max_length": 5, "stride": 3, "return_overflowing_tokens": True},
        ValueError,
        "stride",
    ),
    "words of a text": (("a b",), {"is_split_into_words": True}, TypeError, "list of words"),
    "a pair of three": (([("a", "b", "c")],), {}, TypeError, "pairs"),
    "rows of different lengths": ((["a", "b c"],), {"return_tensors": "np"}, ValueError, "padding"),
    "a flag that is none": (
        ("a",), {"return_attention_mask": 1}, TypeError, "return_attention_mask",
    ),
    "special tokens": (("a",), {"add_special_tokens": None}, TypeError, "add_special_tokens"),
    "offsets": (("a",), {"return_offsets_mapping": None}, TypeError, "return_offsets_mapping"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name):
    texts, options, error, culprit = WRONG[name]
    with pytest.raises(error, match=rf"^treadle\.transformers\.AutoTokenizer: .*{culprit}"):
        pair("bert")[0](*texts, **options)


@pytest.mark.parametrize(
    ("ids", "error"),
    [([-1], ValueError), ([2**40], ValueError), ([1.5], TypeError), ("ab", TypeError),
     ([None], TypeError), ([True], TypeError), ([[1], 2], TypeError), (None, TypeError)],
    ids=repr,
)  # fmt: skip
def test_wrong_ids(ids, error):
    with pytest.raises(error, match=r"^treadle\.transformers\.AutoTokenizer: "):
        pair("bert")[0].decode(ids)


def test_no_texts():
    ours, _ = pair("bert")
    assert dict(ours([])) == {"input_ids": [], "token_type_ids": [], "attention_mask": []}
    assert ours([], padding=True, return_tensors="np").input_ids.shape == (0, 0)
    assert ours.decode([]) == ""
    assert ours.decode([10**6]) == ""
    assert ours.batch_decode([]) == []


HOSTILE = {
    "tokenizer.json": [b"", b"{}", b"[" * 100_000, b"null", b'{"model": 1}', b"\xff\xfe"],
    "tokenizer_config.json": [b"", b"[]", b"{", b'{"a": NaN}'],
    "special_tokens_map.json": [b"7"],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path, name):
    path = checkpoints.minilm_copied(tmp_path)
    for data in HOSTILE[name]:
        (path / name).write_bytes(data)
        with pytest.raises(ValueError, match=rf"^treadle\.transformers\.AutoTokenizer.*{name}"):
            AutoTokenizer.from_pretrained(path)


def test_a_file_that_contradicts_itself(tmp_path, capfd):
    """The library panics, in a thread of its own; here that is a ValueError."""
    path = checkpoints.minilm_copied(tmp_path)
    content = json.loads((path / "tokenizer.json").read_text())
    content["post_processor"]["special_tokens"] = {}
    (path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"^treadle\.transformers\.AutoTokenizer"):
        AutoTokenizer.from_pretrained(path)("Hello")
    capfd.readouterr()


@pytest.mark.parametrize(
    "settings",
    [{"model_max_length": x} for x in (0, -5, "512", 5.5, True, [], 10**40)]
    + [{"padding_side": x} for x in ("top", None, 1)]
    + [{"truncation_side": ""}, {"model_input_names": "input_ids"}, {"model_input_names": [1]}],
    ids=str,
)
def test_hostile_settings(tmp_path, settings):
    path = changed_directory(tmp_path, **settings)
    with pytest.raises((ValueError, TypeError), match=rf"^treadle\.tr.*{next(iter(settings))}"):
        AutoTokenizer.from_pretrained(path)


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json.*save_pretrained"):
        AutoTokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").mkdir()
    with pytest.raises(ValueError, match="regular"):
        AutoTokenizer.from_pretrained(tmp_path)


WITHOUT = """
import sys
sys.modules["tokenizers"] = None
from treadle.transformers import AutoModel, AutoTokenizer
AutoModel.from_pretrained(sys.argv[1])
try:
    AutoTokenizer.from_pretrained(sys.argv[1])
except ImportError as error:
    print(error)
"""


def test_without_the_library():
    """Models load; the message names the extra."""
    assert "treadle[transformers]" in child.succeed(WITHOUT, MINILM)


IMPORTED = """
import sys, treadle.transformers
guests = ("torch", "transformers", "tokenizers", "tqdm", "safetensors")
print([m for m in guests if m in sys.modules])
"""


def test_import_brings_no_guests():
    assert child.succeed(IMPORTED) == "[]"


@pytest.mark.parametrize("tokens", [5, None, ["a", 5], [b"a"], ["\ud800"]], ids=repr)
def test_wrong_tokens(tokens):
    with pytest.raises(
        (ValueError, TypeError), match=r"^treadle\.transformers\.AutoTokenizer: tokens "
    ):
        pair("bert")[0].convert_tokens_to_ids(tokens)


def test_padding_without_bound(tmp_path):
    """A file's model_max_length does not decide how much memory is taken."""
    ours = AutoTokenizer.from_pretrained(changed_directory(tmp_path, model_max_length=2**31 - 1))
    for options in (
        {"padding": "max_length"},
        {"padding": "max_length", "max_length": 2**31 - 1},
        {"padding": True, "pad_to_multiple_of": 2**31 - 1},
    ):
        with pytest.raises(ValueError, match=r"max_length|pad_to_multiple_of"):
            ours("a", **options)


def test_long_lists_go_to_the_library_in_pieces(monkeypatch):
    """Between which Ctrl-C is seen."""
    ours, _ = pair("bert")
    expected = ours.ids(TEXTS, 512), ours(TEXTS), ours(TEXTS, TEXTS)
    calls, call = [], tokenizer_library.guarded
    monkeypatch.setattr(
        tokenizer_library, "guarded", lambda *a, **k: calls.append(a) or call(*a, **k)
    )
    monkeypatch.setattr(tokenizer_library, "_PIECE", 60)
    assert (ours.ids(TEXTS, 512), ours(TEXTS), ours(TEXTS, TEXTS)) == expected
    assert len(calls) > 9
