"""This module reads tokenizer.json and the files of settings beside it."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from treadle._inputs.checks import integer, shown
from treadle._storage.files import check_regular
from treadle.transformers.directory import exists, read_json

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

SIDES = ("left", "right")
# Transformers' number for "no limit".
_NO_LIMIT = 10**30
# Tokenizers whose models have no token types, by a part of the class's name or of model_type.
_WITHOUT_TYPES = ("roberta", "distilbert", "camembert", "data2vec")


def read_native(function: str, directory: str) -> Any:
    """Load tokenizer.json by the library tokenizers, without its padding and truncation."""
    try:
        tokenizers = import_module("tokenizers")
    except ImportError as error:
        raise ImportError(
            f"{function}: the library tokenizers cannot be imported ({error}); "
            "pip install treadle[transformers]"
        ) from error
    path = os.path.join(directory, "tokenizer.json")
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"{function}: there is no file {path}; Transformers writes it: "
            "AutoTokenizer.from_pretrained(directory).save_pretrained(directory)"
        )
    check_regular(function, path)
    native = guarded(f"{function}: {path}", tokenizers.Tokenizer.from_file, path)
    native.no_padding()
    native.no_truncation()
    return native


def guarded(where: str, call: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
    """Call the library and turn its errors into ValueError.

    It raises Exception itself and, on a tokenizer.json that contradicts itself, Rust's panics.
    """
    try:
        return call(*arguments, **options)
    except BaseException as error:
        if type(error) is Exception or type(error).__name__ == "PanicException":
            raise ValueError(
                f"{where}: the library tokenizers fails on this tokenizer.json: {str(error)[:200]}"
            ) from None
        raise


def read_settings(function: str, directory: str) -> dict[str, Any]:
    """Read special_tokens_map.json, then tokenizer_config.json, which wins; both may be missing."""
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if exists(directory, name):
            settings |= read_json(function, directory, name)
    return settings


def adapt(native: Any, settings: dict[str, Any]) -> None:
    """Let tokenizer_config.json win where tokenizer.json contradicts it, as Transformers does."""
    normalizer, pre_tokenizer = native.normalizer, native.pre_tokenizer
    if type(normalizer).__name__ == "BertNormalizer":
        for setting, attribute in (
            ("do_lower_case", "lowercase"),
            ("tokenize_chinese_chars", "handle_chinese_chars"),
            ("strip_accents", "strip_accents"),
        ):
            value = settings.get(setting, ...)
            if isinstance(value, bool) or (value is None and setting == "strip_accents"):
                setattr(normalizer, attribute, value)
        native.normalizer = normalizer
    if type(pre_tokenizer).__name__ == "ByteLevel":
        value = settings.get("add_prefix_space")
        if isinstance(value, bool):
            pre_tokenizer.add_prefix_space = value
            native.pre_tokenizer = pre_tokenizer


def add_lowercase(native: Any) -> None:
    """Lower-case every text first, as sentence-transformers' do_lower_case asks."""
    normalizers = import_module("tokenizers").normalizers
    own = native.normalizer
    steps = [normalizers.Lowercase(), *([] if own is None else [own])]
    native.normalizer = normalizers.Sequence(steps)


def max_length(function: str, directory: str, settings: dict[str, Any]) -> int:
    """Return model_max_length, or a number beyond all lengths if there is none."""
    value = settings.get("model_max_length")
    if value is None:
        return _NO_LIMIT
    if isinstance(value, float) and value == value // 1:  # 1e30, as JSON may have it
        value = int(value)
    return integer(f"{function}: {directory}", "model_max_length", value, 1, 2 * _NO_LIMIT)


def side(function: str, directory: str, settings: dict[str, Any], name: str) -> str:
    """Read padding_side or truncation_side."""
    value = settings.get(name, "right")
    if value not in SIDES:
        raise ValueError(
            f'{function}: {directory}: {name} is {shown(value)}, expected "left" or "right"'
        )
    return str(value)


def input_names(function: str, directory: str, settings: dict[str, Any]) -> list[str]:
    """Return model_input_names, which mostly follow from the kind of tokenizer or model."""
    names = settings.get("model_input_names")
    if names is None:
        kind = str(settings.get("tokenizer_class") or _model_type(function, directory)).lower()
        types = [] if any(name in kind for name in _WITHOUT_TYPES) else ["token_type_ids"]
        return ["input_ids", *types, "attention_mask"]
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError(
            f"{function}: {directory}: model_input_names is {shown(names)}, expected names"
        )
    return list(names)


def token(settings: dict[str, Any], name: str) -> str | None:
    """Read a special token, which is a text or an object with its content."""
    entry = settings.get(name)
    content = entry.get("content") if isinstance(entry, dict) else entry
    return content if isinstance(content, str) else None


def _model_type(function: str, directory: str) -> str:
    if not exists(directory, "config.json"):
        return ""
    return str(read_json(function, directory, "config.json").get("model_type"))
