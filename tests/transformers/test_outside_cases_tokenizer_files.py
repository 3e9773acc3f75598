"""Directories of tokenizers as people have them: short settings, tokens in other files, no
tokenizer.json.

The reference is Transformers, 5 as installed and 4.57 by its record
(tests/support/tokenizer_directories.py). Where both agree treadle agrees; where they do not,
`NOT_AS_IN_5` and `NOT_AS_IN_457` say which one is followed and why.
"""

import inspect
import json
from functools import cache
from pathlib import Path

import hypothesis
import pytest
import transformers as reference
from hypothesis import given
from hypothesis import strategies as st
from transformers import tokenization_utils_base as base

from support import checkpoints, tokenizer_directories
from support.tokenizer_directories import FILES, MODELS, SETTINGS, digests, results, token, write
from treadle.transformers import AutoTokenizer, tokenizer_classes, tokenizer_settings

RECORD = json.loads((FILES / "transformers_4.57.json").read_text())
ROBERTAS = {"roberta", "data2vec-text"}
UNIGRAM = {"xlm-roberta", "camembert"}
EVERY = set(MODELS)
# (settings, models, results): 5 builds such a tokenizer anew and forgets the tokens that
# tokenizer.json alone has, so that <mask> gets another number than the model's.
FORGOTTEN = {"special ids", "fields", "pairs", "offsets", "decoded", "without special"}
NOT_AS_IN_5 = [
    ("added_tokens_decoder", ROBERTAS | UNIGRAM, FORGOTTEN),
    ("a token that takes spaces", ROBERTAS | UNIGRAM, FORGOTTEN),
    # It leaves an additional special token in a text that is to be without special tokens.
    ("a token that takes spaces", EVERY, {"without special"}),
    # RoBERTa's mask token takes the space before it, in 4.57 and in every published file.
    ("special_tokens_map.json wins", ROBERTAS, {"fields", "decoded", "without special"}),
    # It takes BERT's tokenizer for a DistilBERT without tokenizer_class; the model has no types.
    *((name, {"distilbert"}, {"fields"}) for name in SETTINGS if name != "no class"),
]
NOT_AS_IN_457 = [
    # It knows no effect of the entry here; 5 does.
    ("add_prefix_space false", UNIGRAM, FORGOTTEN),
    # 5 leaves the spaces of byte-pair encodings alone, which are the text's own.
    ("clean_up", ROBERTAS, {"decoded", "without special"}),
    # Every class that knows nothing has token types there. Here as in 5, or as the model has.
    ("no class", EVERY, {"fields"}),
    # The model's own tokens come after those of the class there.
    ("extra_special_tokens, a dict", {"camembert"}, {"fields"}),
]


@cache
def directory(model, settings="nothing", *, vocabulary=False):
    name = f"outside-{model}-{settings}-{vocabulary}".replace(" ", "_")
    return write(Path(checkpoints.ROOT.name) / name, model, settings, vocabulary=vocabulary)


def differing(model, settings, table):
    return {key for name, models, keys in table if name == settings and model in models
            for key in keys}  # fmt: skip


@pytest.mark.parametrize(("model", "settings"), [*tokenizer_directories.cases()])
def test_as_in_transformers(model, settings):
    """huggingface/transformers#31513 and many model cards: ids, pairs, offsets, texts."""
    path = directory(model, settings)
    found = results(AutoTokenizer.from_pretrained(path))
    new = results(reference.AutoTokenizer.from_pretrained(path))
    skipped = differing(model, settings, NOT_AS_IN_5)
    assert {k: v for k, v in found.items() if k not in skipped} == {
        k: v for k, v in new.items() if k not in skipped
    }
    old = RECORD.get(f"{model}, {settings}")
    if old is None:
        assert settings == "extra_special_tokens, a list", "4.57 knows no such list"
        return
    skipped_old = differing(model, settings, NOT_AS_IN_457)
    ours = digests(found)
    assert [k for k in ours if ours[k] != old[k] and k not in skipped_old] == []
    unsure = {"fields"} if model in ("distilbert", "camembert") else set()
    assert skipped & skipped_old <= unsure, "a result must be that of one version at least"


# Values of entries for random settings. The decoder holds all of tokenizer.json, as
# save_pretrained writes it, and then Transformers 5 forgets none of them.
RANDOM = {
    "model_max_length": st.integers(5, 60),
    "do_lower_case": st.booleans(),
    "strip_accents": st.sampled_from([None, True, False]),
    "tokenize_chinese_chars": st.booleans(),
    "add_prefix_space": st.booleans(),
    "trim_offsets": st.booleans(),
    "split_special_tokens": st.booleans(),
    "clean_up_tokenization_spaces": st.booleans(),
    "padding_side": st.sampled_from(tokenizer_settings.SIDES),
    "truncation_side": st.sampled_from(tokenizer_settings.SIDES),
    "pad_token": st.sampled_from(["<new>", "<shown>", "word"]),
    "mask_token": st.sampled_from([None, {"__type": "AddedToken"} | token("<tag>", lstrip=True)]),
    "image_token": st.sampled_from(["<image>", "<shown>"]),
    "extra_special_tokens": st.lists(st.sampled_from(["<shown>", "strip", "<x>"]), unique=True),
    "added_tokens_decoder": st.builds(
        token, st.just("<new>"), lstrip=st.booleans(), rstrip=st.booleans(),
        single_word=st.booleans(), normalized=st.booleans(), special=st.booleans(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", tokenizer_directories.FAMILIES)
@hypothesis.settings(max_examples=30)
@given(entries=st.fixed_dictionaries({}, optional=RANDOM))
def test_random_settings(model, entries):
    path = directory(model, "random")
    added = json.loads((path / "tokenizer.json").read_text())["added_tokens"]
    decoder = {str(one.pop("id")): one for one in added}
    if "added_tokens_decoder" in entries:
        size = len(reference.AutoTokenizer.from_pretrained(directory(model)))
        decoder[str(size)] = entries["added_tokens_decoder"]
    entries = {"model_input_names": ["input_ids", "attention_mask"]} | entries
    entries["added_tokens_decoder"] = decoder
    (path / "tokenizer_config.json").write_text(json.dumps(entries))
    ours = AutoTokenizer.from_pretrained(path)
    theirs = reference.AutoTokenizer.from_pretrained(path)
    found, expected = results(ours), results(theirs)
    assert found == expected
    options = {"padding": True, "truncation": True}
    texts = tokenizer_directories.TEXTS
    assert dict(ours(texts, **options)) == dict(theirs(texts, **options))


def test_the_model_cards_own_lines():
    """bert-base-uncased's settings are two entries; padding and the mask work all the same."""
    path = directory("bert", "the model card's")
    ours = AutoTokenizer.from_pretrained(path)
    theirs = reference.AutoTokenizer.from_pretrained(path)
    texts = ["Hello I'm a [MASK] model.", "The capital of France is [MASK]."]
    options = {"padding": True, "truncation": True, "return_tensors": "np"}
    for name, value in ours(texts, **options).items():
        assert (value == theirs(texts, **options)[name]).all()
    assert ours.mask_token == "[MASK]"
    assert ours.mask_token_id in ours(texts[0])["input_ids"]


@pytest.mark.parametrize("model", ["bert", "distilbert", "electra", "roberta"])
@pytest.mark.parametrize("settings", ["nothing", "do_lower_case false", "added_tokens.json"])
def test_vocabularies(model, settings):
    """vocab.txt, or vocab.json and merges.txt, without tokenizer.json."""
    path = directory(model, settings, vocabulary=True)
    found = results(AutoTokenizer.from_pretrained(path))
    whole = results(AutoTokenizer.from_pretrained(directory(model, settings)))
    if model == "roberta":  # of 5, <mask> leaves the space before it: see NOT_AS_IN_5
        assert found == whole
        return
    expected = results(reference.AutoTokenizer.from_pretrained(path))
    skipped = differing(model, settings, NOT_AS_IN_5)
    assert {k: v for k, v in found.items() if k not in skipped} == {
        k: v for k, v in expected.items() if k not in skipped
    }


def test_vocabulary_of_mpnet(tmp_path):
    """microsoft/mpnet-base has vocab.txt, whose pairs are RoBERTa's."""
    write(tmp_path, "bert", vocabulary=True)
    (tmp_path / "config.json").write_text('{"model_type": "mpnet"}')
    own = "".join(f"{text}\n" for text in ("<s>", "<pad>", "</s>", "<unk>"))
    text = own + (tmp_path / "vocab.txt").read_text() + "<mask>\n"
    (tmp_path / "vocab.txt").write_text(text)
    expected = results(reference.AutoTokenizer.from_pretrained(tmp_path))
    assert results(AutoTokenizer.from_pretrained(tmp_path)) == expected


def changed(tmp_path, model="bert", **entries):
    path = write(tmp_path, model)
    (path / "tokenizer_config.json").write_text(json.dumps(entries))
    return path


@pytest.mark.parametrize("name", ["sentencepiece.bpe.model", "spiece.model"])
def test_sentencepiece_alone(tmp_path, name):
    path = write(tmp_path, "xlm-roberta")
    (path / "tokenizer.json").unlink()
    (path / name).write_bytes(b"\n\x0e")
    with pytest.raises(FileNotFoundError, match=rf"{name}.*save_pretrained"):
        AutoTokenizer.from_pretrained(path)


def test_a_vocabulary_of_an_unknown_class(tmp_path):
    """A Japanese BERT has vocab.txt too, and words that MeCab separates."""
    path = write(tmp_path, "bert", vocabulary=True)
    (path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertJapaneseTokenizer"}')
    with pytest.raises(FileNotFoundError, match=r"tokenizer_class.*save_pretrained"):
        AutoTokenizer.from_pretrained(path)


@pytest.mark.parametrize(
    ("name", "data", "culprit"),
    [
        ("vocab.txt", b"\xff\xfe\x00", "UTF-8"),
        ("vocab.txt", b"a\nb\n", "UNK"),
        ("vocab.txt", b"", "UNK"),
    ],
)
def test_hostile_vocabularies(tmp_path, name, data, culprit):
    path = write(tmp_path, "bert", vocabulary=True)
    (path / name).write_bytes(data)
    with pytest.raises(ValueError, match=rf"^treadle\.transformers\.Auto.*{culprit}"):
        AutoTokenizer.from_pretrained(path)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("vocab.json", b"{"),
        ("vocab.json", b'{"a": "b"}'),
        ("vocab.json", b"[]"),
        ("merges.txt", b"a\n"),
        ("merges.txt", b"qq ww\n"),
        ("merges.txt", b"\xff"),
    ],
)
def test_hostile_merges(tmp_path, name, data):
    path = write(tmp_path, "roberta", vocabulary=True)
    (path / name).write_bytes(data)
    with pytest.raises(ValueError, match=r"^treadle\.transformers\.AutoTokenizer"):
        AutoTokenizer.from_pretrained(path)


@pytest.mark.parametrize(
    "entries",
    [
        {"added_tokens_decoder": {"900": token("<new>")}},
        {"added_tokens_decoder": {"x": token("<new>")}},
        {"added_tokens_decoder": {"230": "<new>"}},
        {"added_tokens_decoder": {"230": token("")}},
        {"added_tokens_decoder": {"230": token("<new>", lstrip="yes")}},
        {"added_tokens_decoder": {"230": token("<new>", colour=True)}},
        {"added_tokens_decoder": ["<new>"]},
        {"additional_special_tokens": "<new>"},
        {"additional_special_tokens": [None, 5]},
        {"image_token": 5},
        {"mask_token": 5},
        {"mask_token": {"contents": "<new>"}},
        {"pad_token": "a\ud800"},
        {"do_lower_case": "true"},
        {"split_special_tokens": None},
        {"tokenizer_class": 5},
    ],
    ids=str,
)
def test_hostile_entries(tmp_path, entries):
    path = changed(tmp_path, **entries)
    name = next(iter(entries))
    with pytest.raises(ValueError, match=rf"^treadle\.transformers\.AutoTokenizer.*{name}"):
        AutoTokenizer.from_pretrained(path)


ODD = [None, 5, -1, 1e30, "", "x", "</s>", [], [None], ["a", "a"], {}, {"content": 5}, True]


@pytest.mark.parametrize("name", sorted(tokenizer_settings.EFFECT))
def test_odd_values(tmp_path, name):
    """Any value of any entry has an effect or is refused by a sentence of treadle's."""
    messages = []
    for model, vocabulary in (
        ("bert", False),
        ("bert", True),
        ("roberta", True),
        ("camembert", False),
    ):
        path = write(tmp_path / f"{model}-{vocabulary}", model, vocabulary=vocabulary)
        for value in ODD:
            (path / "tokenizer_config.json").write_text(json.dumps({name: value}))
            try:
                ours = AutoTokenizer.from_pretrained(path)
            except (ValueError, TypeError, FileNotFoundError) as error:
                messages.append(str(error))
            else:
                ours(tokenizer_directories.TEXTS, tokenizer_directories.TEXTS)
    start = "treadle.transformers.AutoTokenizer.from_pretrained: "
    assert [message for message in messages if not message.startswith(start)] == []


@pytest.mark.parametrize("entries", [{"<new>": "5"}, {"<new>": -1}, {"<new>": 10**6}], ids=str)
def test_hostile_added_tokens(tmp_path, entries):
    path = write(tmp_path, "bert")
    (path / "added_tokens.json").write_text(json.dumps(entries))
    with pytest.raises((ValueError, TypeError), match=r"^treadle\..*<new>"):
        AutoTokenizer.from_pretrained(path)


# Every entry that Transformers 4.57 and 5 write into tokenizer_config.json for these classes, or
# read from it, with what treadle does: an effect that a test above or below shows, none because it
# has none on the result in Transformers either, or one value alone, any other being refused.
TABLE = {
    "effect": """
        add_prefix_space added_tokens_decoder additional_special_tokens auto_map bos_token
        chat_template cls_token
        clean_up_tokenization_spaces
        clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output
        do_lower_case eos_token extra_ids extra_special_tokens language_codes legacy_behaviour
        mask_token max_len model_input_names
        model_max_length model_specific_special_tokens pad_token padding_side sep_token
        split_special_tokens src_lang strip_accents tgt_lang tokenize_chinese_chars tokenizer_class
        trim_offsets
        truncation_side unk_token
    """,
    "none": """
        _commit_hash _from_auto _from_pipeline _name_or_path add_bos_token add_eos_token
        chat_control_tokens device_map files_loaded fix_mistral_regex from_slow
        full_tokenizer_file is_local keep_accents legacy
        local_files_only max_length max_seq_length num_madeup_words
        merges_file name_or_path pad_to_multiple_of padding processor_class remove_space
        response_schema response_template revision slow_tokenizer_class source_lang
        spaces_between_special_tokens special_tokens_map_file stride subfolder target_lang
        target_vocab_file tokenizer_file
        transformers_version truncation truncation_strategy trust_remote_code unk_id use_auth_token
        use_fast verbose vocab_file
    """,
    "one value": """
        backend clean_text do_basic_tokenize errors fast_tokenizer_files init_inputs never_split
        pad_token_type_id separate_vocabs sp_model_kwargs wordpieces_prefix
    """,
}


def test_table_of_entries():
    table = {kind: sorted(names.split()) for kind, names in TABLE.items()}
    assert table["effect"] == sorted(tokenizer_settings.EFFECT)
    assert table["none"] == sorted(tokenizer_settings.NO_EFFECT)
    assert table["one value"] == sorted(tokenizer_settings.ONLY)


def test_entries_that_transformers_takes(tmp_path):
    """The arguments of its classes and what they write are entries of the table."""
    known = {name for names in TABLE.values() for name in names.split()}
    files = {"self", "args", "kwargs", "vocab", "merges", "_spm_precompiled_charsmap"}
    files |= {"source_spm", "target_spm"}
    for name in tokenizer_classes.CLASSES:
        own = getattr(reference, name, None)
        if own is not None:
            arguments = set(inspect.signature(own.__init__).parameters)
            assert arguments - files <= known, name
    source = inspect.getsource(base.PreTrainedTokenizerBase.__init__)
    popped = {part.split('"')[1] for part in source.split("kwargs.pop(")[1:] if part[0] == '"'}
    assert len(popped) > 12
    assert popped <= known
    for model in MODELS:
        made = reference.AutoTokenizer.from_pretrained(directory(model, "a length"))
        made.save_pretrained(tmp_path / model)
        written = json.loads((tmp_path / model / "tokenizer_config.json").read_text())
        assert set(written) <= known, model
        again = AutoTokenizer.from_pretrained(tmp_path / model)
        assert results(again) == results(made) | {"special": again.special_tokens_map}


@pytest.mark.parametrize("name", sorted(tokenizer_settings.ONLY))
def test_other_values_are_refused(tmp_path, name):
    for value in tokenizer_settings.ONLY[name]:
        AutoTokenizer.from_pretrained(changed(tmp_path, **{name: value}))
    with pytest.raises(ValueError, match=rf"tokenizer_config\.json: {name} is 'odd'"):
        AutoTokenizer.from_pretrained(changed(tmp_path, **{name: "odd"}))


@pytest.mark.parametrize("name", sorted(tokenizer_settings.NO_EFFECT))
def test_entries_without_effect(tmp_path, name):
    """They are none in Transformers either, which takes some of them for its own arguments."""
    expected = results(AutoTokenizer.from_pretrained(directory("bert", "nothing")))
    found = results(AutoTokenizer.from_pretrained(changed(tmp_path, **{name: 1})))
    assert found == expected


def test_a_named_token_that_is_none(tmp_path):
    path = changed(tmp_path, extra_special_tokens={"image_token": 5})
    with pytest.raises(ValueError, match=r"image_token is 5"):
        AutoTokenizer.from_pretrained(path)


def test_unknown_entries(tmp_path):
    path = changed(tmp_path, weather="fine")
    with pytest.raises(ValueError, match=r"_config\.json: weather is 'fine'.*weather=None"):
        AutoTokenizer.from_pretrained(path)
    assert AutoTokenizer.from_pretrained(path, weather=None)("a")["input_ids"]
    path = write(tmp_path, "bert")
    (path / "tokenizer_config.json").unlink()
    (path / "special_tokens_map.json").write_text('{"weather": "fine"}')
    with pytest.raises(ValueError, match=r"special_tokens_map\.json: weather"):
        AutoTokenizer.from_pretrained(path)


def test_entries_by_keyword(tmp_path):
    """from_pretrained takes the entries, as on many model cards, and says the nearest name."""
    path = changed(tmp_path, do_lower_case=True, model_max_length=30)
    options = {"do_lower_case": False, "padding_side": "left", "model_max_length": 9}
    ours = AutoTokenizer.from_pretrained(path, use_fast=True, local_files_only=True, **options)
    theirs = reference.AutoTokenizer.from_pretrained(path, **options)
    assert results(ours) == results(theirs)
    texts = tokenizer_directories.TEXTS
    found = ours(texts, padding=True, truncation=True)
    assert dict(found) == dict(theirs(texts, padding=True, truncation=True))
    with pytest.raises(TypeError, match=r"'do_lowercase': did you mean do_lower_case\?"):
        AutoTokenizer.from_pretrained(path, do_lowercase=False)


def test_code_of_a_tokenizer(tmp_path):
    """A class that comes with the model is not run, nor taken for another without a word."""
    code = {"AutoTokenizer": ["tokenization_x.XTokenizer", None]}
    path = changed(tmp_path, tokenizer_class="XTokenizer", auto_map=code)
    with pytest.raises(ValueError, match="auto_map"):
        AutoTokenizer.from_pretrained(path)
    assert AutoTokenizer.from_pretrained(path, auto_map=None)("a")["input_ids"]
    known = changed(tmp_path, tokenizer_class="BertTokenizerFast", auto_map=code)
    assert AutoTokenizer.from_pretrained(known).mask_token == "[MASK]"


def test_settings_of_tokenizer_json(tmp_path):
    """Its padding and truncation give the sides and the token that nothing else names."""
    path = write(tmp_path, "bert", "no class")
    content = json.loads((path / "tokenizer.json").read_text())
    padding = {"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": None}
    content["padding"] = padding | {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    limits = {"direction": "Left", "max_length": 5, "strategy": "LongestFirst", "stride": 0}
    content["truncation"] = limits
    (path / "tokenizer.json").write_text(json.dumps(content))
    ours = AutoTokenizer.from_pretrained(path)
    theirs = reference.AutoTokenizer.from_pretrained(path)
    assert ours.padding_side == theirs.padding_side == "left"
    assert ours.truncation_side == theirs.truncation_side == "left"
    assert ours.pad_token == theirs.pad_token == "[PAD]"
    texts = tokenizer_directories.TEXTS
    assert dict(ours(texts, padding=True)) == dict(theirs(texts, padding=True))


def test_parts_of_tokenizer_json_stay(tmp_path):
    """paraphrase-multilingual-MiniLM-L12-v2: a BERT whose tokens are XLM-RoBERTa's.

    Its settings say do_lower_case, which changes nothing in Transformers 4.57, since its normalizer
    is not BERT's.
    """
    path = write(tmp_path, "xlm-roberta")
    (path / "config.json").write_text('{"model_type": "bert", "type_vocab_size": 2}')
    plain = AutoTokenizer.from_pretrained(directory("xlm-roberta"))
    names = {
        f"{n}_token": getattr(plain, f"{n}_token") for n in ("pad", "mask", "unk", "cls", "sep")
    }
    entries = {"do_lower_case": True, "tokenizer_class": "PreTrainedTokenizerFast", **names}
    (path / "tokenizer_config.json").write_text(json.dumps(entries))
    ours = AutoTokenizer.from_pretrained(path)
    texts = tokenizer_directories.TEXTS
    assert ours(texts)["input_ids"] == plain(texts)["input_ids"]
    assert ours.model_input_names == ["input_ids", "token_type_ids", "attention_mask"]
