"""Directories of small tokenizers with all kinds of settings, and what Transformers 4.57 makes of
them.

The tokenizers lie in tests/reference/tokenizers. Tests compare treadle with the Transformers that
is installed, of version 5, and with a record of 4.57. This command makes the record anew in an
environment that has Transformers 4.57 and nothing of treadle:

    python tests/support/tokenizer_directories.py RECORD

with RECORD = tests/reference/tokenizers/transformers_4.57.json.
"""

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

FILES = Path(__file__).parent.parent / "reference" / "tokenizers"
# The first texts are recorded; the special tokens of `SETTINGS` occur in the third and fourth.
TEXTS = [
    "Hello world!",
    "",
    "The warp <mask> is [MASK] held <new> taut, [SEP] it's </s> <image> .",
    "NEW <NEW> <tag>x don't <shown> strip , words",
    "Ünïcödé, 漢字 and emoji 🧵 — don't strip\tthese\nlines. Привет мир, こんにちは 한국어 عربى",
    " spaces  everywhere ",
    "word " * 60,
]
RECORDED = 5
# A model_type, and its kind of tokenizer.
MODELS = {
    "bert": "wordpiece",
    "distilbert": "wordpiece",
    "electra": "wordpiece",
    "ernie": "wordpiece",
    "roberta": "bytelevel",
    "data2vec-text": "bytelevel",
    "xlm-roberta": "unigram",
    "camembert": "unigram",
}


def token(content, **properties):
    """A token as Transformers writes it."""
    plain = dict.fromkeys(("lstrip", "rstrip", "single_word", "special"), False)
    return {"content": content, "normalized": True} | plain | properties


FAMILIES = ("bert", "distilbert", "roberta", "xlm-roberta")

# tokenizer_config.json, special_tokens_map.json and added_tokens.json by name; {size} and {next}
# are the numbers that follow the vocabulary.
SETTINGS = {
    "nothing": (None, None, None),
    "a length": ({"model_max_length": 30}, None, None),
    "the model card's": ({"do_lower_case": True, "model_max_length": 512}, None, None),
    "added_tokens_decoder": (
        {
            "added_tokens_decoder": {
                "{size}": token("<new>"),
                "{next}": token("<tag>", special=True, normalized=False),
            }
        },
        None,
        None,
    ),
    "a token that takes spaces": (
        {
            "added_tokens_decoder": {"{size}": token("<new>", lstrip=True, rstrip=True)},
            "additional_special_tokens": ["<new>"],
        },
        None,
        None,
    ),
    "additional_special_tokens": ({"additional_special_tokens": ["<new>", "<tag>"]}, None, None),
    "extra_special_tokens, a list": ({"extra_special_tokens": ["<new>", "<tag>"]}, None, None),
    "extra_special_tokens, a dict": (
        {"extra_special_tokens": {"image_token": "<image>"}},
        None,
        None,
    ),
    "added_tokens.json": ({}, None, {"<new>": "{size}", "<tag>": "{next}"}),
    "special_tokens_map.json": ({}, {"additional_special_tokens": ["<new>", "<tag>"]}, None),
    "special_tokens_map.json wins": ({"mask_token": "<new>"}, {"mask_token": "<tag>"}, None),
    "all three": (
        {"additional_special_tokens": ["<shown>"]},
        {"pad_token": token("<tag>")},
        {"<new>": "{size}"},
    ),
    "split_special_tokens": ({"split_special_tokens": True}, None, None),
    "sides": ({"padding_side": "left", "truncation_side": "left"}, None, None),
    "clean_up": ({"clean_up_tokenization_spaces": True}, None, None),
    "do_lower_case false": ({"do_lower_case": False}, None, None),
    "accents": ({"do_lower_case": False, "strip_accents": True}, None, None),
    "tokenize_chinese_chars": ({"tokenize_chinese_chars": False}, None, None),
    "add_prefix_space": ({"add_prefix_space": True}, None, None),
    "add_prefix_space false": ({"add_prefix_space": False}, None, None),
    "trim_offsets": ({"trim_offsets": False}, None, None),
    "input names": ({"model_input_names": ["input_ids", "token_type_ids"]}, None, None),
    "no mask": ({"mask_token": None}, None, None),
    "no class": (
        {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": False, "sep_token": "</s>"},
        None,
        None,
    ),
}


def write(path, model, settings="nothing", *, vocabulary=False):
    """Write the directory of a model's tokenizer.

    ``vocabulary`` leaves out tokenizer.json; a name that `SETTINGS` does not have, all settings.
    """
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps({"model_type": model}))
    content = json.loads((FILES / f"{MODELS[model]}.json").read_text())
    vocab = content["model"]["vocab"]
    size = max(len(vocab), max(added["id"] for added in content["added_tokens"]) + 1)
    if not vocabulary:
        (path / "tokenizer.json").write_text(json.dumps(content))
    elif MODELS[model] == "wordpiece":
        (path / "vocab.txt").write_text("".join(f"{t}\n" for t in sorted(vocab, key=vocab.get)))
    else:
        vocab["<mask>"] = len(vocab)
        (path / "vocab.json").write_text(json.dumps(vocab))
        merges = "".join(" ".join(pair) + "\n" for pair in content["model"]["merges"])
        (path / "merges.txt").write_text("#version: 0.2\n" + merges)
    names = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
    for name, entries in zip(names, SETTINGS.get(settings, (None, None, None)), strict=True):
        if entries is not None:
            text = json.dumps(entries)
            for mark, number in (("{size}", size), ("{next}", size + 1)):
                text = text.replace(f'"{mark}":', f'"{number}":').replace(f'"{mark}"', f"{number}")
            (path / name).write_text(text)
    return path


def results(tokenizer):
    """Return those results of a tokenizer that tests compare."""
    fields = dict(tokenizer(TEXTS[:RECORDED]))
    pairs = tokenizer(TEXTS[:RECORDED], TEXTS[1 : RECORDED + 1], truncation=True, max_length=14)
    cut = tokenizer(TEXTS[:RECORDED], return_offsets_mapping=True, truncation=True, max_length=9)
    ids = fields["input_ids"]
    return {
        "special": dict(tokenizer.special_tokens_map),
        "special ids": [tokenizer.pad_token_id, tokenizer.mask_token_id, tokenizer.unk_token_id],
        "sides": [tokenizer.padding_side, tokenizer.truncation_side],
        "fields": {name: rows for name, rows in fields.items() if name != "attention_mask"},
        "pairs": pairs["input_ids"],
        "offsets": [[list(span) for span in row] for row in cut["offset_mapping"]],
        "decoded": [tokenizer.decode(row) for row in ids],
        "without special": [tokenizer.decode(row, skip_special_tokens=True) for row in ids],
    }


def digests(found):
    """Digests of results, which keep the record short."""
    texts = {k: json.dumps(v, ensure_ascii=False, sort_keys=True) for k, v in found.items()}
    return {k: hashlib.sha256(text.encode()).hexdigest()[:12] for k, text in texts.items()}


def cases():
    """Models with settings: all for four families, some for others of the same kinds."""
    for model in MODELS:
        for i, name in enumerate(SETTINGS):
            if model in FAMILIES or i % 4 == 0:
                yield model, name


def _record(file):
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers

    assert transformers.__version__.startswith("4.57."), transformers.__version__
    record = {}
    with tempfile.TemporaryDirectory() as root:
        for model, name in cases():
            path = write(Path(root) / f"{model}-{len(record)}", model, name)
            try:
                tokenizer = transformers.AutoTokenizer.from_pretrained(path)
            except AttributeError:  # 4.57 knows no list of extra_special_tokens
                continue
            found = results(tokenizer)
            found["special"].pop("additional_special_tokens", None)
            record[f"{model}, {name}"] = digests(found)
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in record.items())
    Path(file).write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    _record(sys.argv[1])
