"""This module makes the library's tokenizer from tokenizer.json, or from a vocabulary.

Older checkpoints have a vocabulary alone: vocab.txt (BERT) or vocab.json and merges.txt (RoBERTa).
Of these the tokenizer is built of the same parts as in Transformers.
"""

from __future__ import annotations

import json
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from treadle._storage.files import check_regular
from treadle.transformers import tokenizer_pieces
from treadle.transformers.directory import exists
from treadle.transformers.tokenizer_library import guarded

if TYPE_CHECKING:
    from treadle.transformers.tokenizer_classes import TokenizerClass

_CONVERT = (
    "AutoTokenizer.from_pretrained(directory).save_pretrained(directory) of Transformers writes it"
)
# Files of sentencepiece, which only its own library reads.
_SENTENCEPIECE = ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "spm.model")
# A vocabulary has at most so many bytes; XLM-RoBERTa's, the largest here, has a few millions.
_MAX_VOCABULARY = 2**28


class Native(NamedTuple):
    """The library's tokenizer, without padding and truncation, and these two as they were."""

    tokenizer: Any
    padding: dict[str, Any]
    truncation: dict[str, Any]


def read_native(
    function: str, directory: str, kind: TokenizerClass | None, settings: dict[str, Any]
) -> Native:
    """Make the library's tokenizer from the files of a directory.

    Raises
    ------
    ImportError
        Without the library.
    FileNotFoundError
        Without files that it can be made from.
    ValueError
        For damaged files.
    """
    try:
        tokenizers = import_module("tokenizers")
    except ImportError as error:
        raise ImportError(
            f"{function}: the library tokenizers cannot be imported ({error}); "
            "pip install treadle[transformers]"
        ) from error
    path = os.path.join(directory, "tokenizer.json")
    if not os.path.exists(path):
        return Native(_build(function, directory, kind, settings), {}, {})
    check_regular(function, path)
    native = guarded(f"{function}: {path}", tokenizers.Tokenizer.from_file, path)
    padding, truncation = native.padding or {}, native.truncation or {}
    native.no_padding()
    native.no_truncation()
    _adapt(native, kind, settings)
    return Native(native, padding, truncation)


def add_lowercase(native: Any) -> None:
    """Lower-case every text first, as sentence-transformers' do_lower_case asks."""
    normalizers = import_module("tokenizers").normalizers
    own = native.normalizer
    steps = [normalizers.Lowercase(), *([] if own is None else [own])]
    native.normalizer = normalizers.Sequence(steps)


# tokenizer.json: the settings win where it contradicts them.


def _adapt(native: Any, kind: TokenizerClass | None, settings: dict[str, Any]) -> None:
    """Let the class's defaults and the settings win over tokenizer.json, as Transformers does.

    Parts of tokenizer.json that are not the class's own stay, as in Transformers 4.57; version 5
    replaces them, and so loses what the model was trained with.
    """
    if kind is None or kind.kind == "wordpiece":
        _adapt_normalizer(native, kind, settings)
    spaces = settings.get("add_prefix_space")
    if kind is not None and kind.kind == "unigram" and spaces is not None:
        _adapt_metaspace(native, "always" if spaces else "never")
    if spaces is None and kind is not None and kind.kind == "bytelevel":
        spaces = False
    pre_tokenizer = native.pre_tokenizer
    if type(pre_tokenizer).__name__ == "ByteLevel" and spaces is not None:
        pre_tokenizer.add_prefix_space = spaces
        native.pre_tokenizer = pre_tokenizer
    own = type(native.post_processor).__name__ == "RobertaProcessing"
    if own and kind is not None and kind.kind == "bytelevel":
        native.post_processor = _roberta_processing(native, kind, settings)


def _adapt_normalizer(native: Any, kind: TokenizerClass | None, settings: dict[str, Any]) -> None:
    normalizer = native.normalizer
    if type(normalizer).__name__ != "BertNormalizer":
        return
    for setting, attribute, default in (
        ("do_lower_case", "lowercase", True),
        ("tokenize_chinese_chars", "handle_chinese_chars", True),
        ("strip_accents", "strip_accents", None),
    ):
        if kind is not None or setting in settings:
            setattr(normalizer, attribute, settings.get(setting, default))
    native.normalizer = normalizer


def _adapt_metaspace(native: Any, scheme: str) -> None:
    """Say whether a space is put before texts, wherever the tokenizer does so.

    Older versions of the library cannot take a sequence of parts apart, but pickle it as JSON.
    """
    for name in ("pre_tokenizer", "decoder"):
        part = getattr(native, name)
        if part is None:
            continue
        state = json.loads(part.__getstate__())
        for entry in (state, *state.get("pretokenizers", ()), *state.get("decoders", ())):
            if entry.get("type") == "Metaspace":
                entry["prepend_scheme"] = scheme
        part.__setstate__(json.dumps(state).encode())
        setattr(native, name, part)


def _roberta_processing(native: Any, kind: TokenizerClass, settings: dict[str, Any]) -> Any:
    processors = import_module("tokenizers").processors
    return processors.RobertaProcessing(
        _with_id(native, kind, settings, "sep_token"),
        _with_id(native, kind, settings, "cls_token"),
        trim_offsets=settings.get("trim_offsets", True),
        add_prefix_space=settings.get("add_prefix_space", False),
    )


def _with_id(
    native: Any, kind: TokenizerClass, settings: dict[str, Any], name: str
) -> tuple[str, int]:
    """Return a special token and its number, the next one if the vocabulary does not have it."""
    value = settings.get(name) or kind.tokens[name]
    text = str(value.get("content") if isinstance(value, dict) else value)
    number = native.token_to_id(text)
    if number is None:
        native.add_tokens([import_module("tokenizers").AddedToken(text, special=True)])
        number = native.token_to_id(text)
    return text, number


# Vocabularies.


def _build(
    function: str, directory: str, kind: TokenizerClass | None, settings: dict[str, Any]
) -> Any:
    needed = {"wordpiece": ("vocab.txt",), "bytelevel": ("vocab.json", "merges.txt")}
    builders = {"wordpiece": _wordpiece, "bytelevel": _bytelevel}
    if kind is not None and all(exists(directory, f) for f in needed.get(kind.kind, ["?"])):
        return builders[kind.kind](function, directory, kind, settings)
    if kind is not None and tokenizer_pieces.has_files(directory, kind):
        return tokenizer_pieces.build(function, directory, kind, settings)
    path = os.path.join(directory, "tokenizer.json")
    for name in _SENTENCEPIECE:
        if exists(directory, name):
            raise FileNotFoundError(
                f"{function}: there is no file {path}, and {name} is one of the library "
                f"sentencepiece, which treadle does not read; {_CONVERT}"
            )
    if exists(directory, "vocab.txt") or exists(directory, "vocab.json"):
        raise FileNotFoundError(
            f"{function}: there is no file {path}, and neither tokenizer_class nor the model_type "
            "of config.json names a class whose tokenizer treadle builds from the vocabulary "
            f"there; {_CONVERT}"
        )
    raise FileNotFoundError(f"{function}: there is no file {path}; {_CONVERT}")


def _wordpiece(
    function: str, directory: str, kind: TokenizerClass, settings: dict[str, Any]
) -> Any:
    tokenizers = import_module("tokenizers")
    path = os.path.join(directory, "vocab.txt")
    lines = _text(function, path).split("\n")
    if lines[-1] == "":
        lines.pop()
    vocabulary = {token: number for number, token in enumerate(lines)}
    unknown = settings.get("unk_token") or kind.tokens["unk_token"]
    text = str(unknown.get("content") if isinstance(unknown, dict) else unknown)
    if text not in vocabulary:
        raise ValueError(f"{function}: {path} has no token {text!r}, the tokenizer's unk_token")
    make = tokenizers.models.WordPiece
    native = tokenizers.Tokenizer(guarded(f"{function}: {path}", make, vocabulary, unk_token=text))
    native.normalizer = tokenizers.normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    native.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    native.decoder = tokenizers.decoders.WordPiece(prefix="##")
    cls, sep = (_with_id(native, kind, settings, f"{name}_token") for name in ("cls", "sep"))
    if kind.tokens["sep_token"] == "</s>":  # MPNet, whose pairs are RoBERTa's
        native.post_processor = tokenizers.processors.RobertaProcessing(
            sep, cls, trim_offsets=True, add_prefix_space=False
        )
    else:
        native.post_processor = tokenizers.processors.TemplateProcessing(
            single=[f"{cls[0]}:0", "$A:0", f"{sep[0]}:0"],
            pair=[f"{cls[0]}:0", "$A:0", f"{sep[0]}:0", "$B:1", f"{sep[0]}:1"],
            special_tokens=[cls, sep],
        )
    return native


def _bytelevel(
    function: str, directory: str, kind: TokenizerClass, settings: dict[str, Any]
) -> Any:
    tokenizers = import_module("tokenizers")
    paths = [os.path.join(directory, name) for name in ("vocab.json", "merges.txt")]
    for path in paths:
        _text(function, path)
    where = f"{function}: {paths[0]} with merges.txt"
    vocabulary, merges = guarded(where, tokenizers.models.BPE.read_file, *paths)
    make = tokenizers.models.BPE
    model = guarded(
        where, make, vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix=""
    )
    native = tokenizers.Tokenizer(model)
    spaces = settings.get("add_prefix_space", False)
    native.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=spaces)
    native.decoder = tokenizers.decoders.ByteLevel()
    native.post_processor = _roberta_processing(native, kind, settings)
    return native


def _text(function: str, path: str) -> str:
    """Read a vocabulary, or find out that it is none before the library does."""
    check_regular(function, path)
    if os.path.getsize(path) > _MAX_VOCABULARY:
        raise ValueError(f"{function}: {path} has more than {_MAX_VOCABULARY} bytes")
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{function}: {path} is no UTF-8 text: {error}") from None
