"""This module reads the settings beside a tokenizer and checks every entry.

The files are tokenizer_config.json and, where it has no added_tokens_decoder, the older
special_tokens_map.json and added_tokens.json. An entry has its effect, or it is one of `NO_EFFECT`
because it has none on the result in Transformers either, or it is refused by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from treadle._inputs.checks import integer, shown
from treadle.transformers.directory import exists, read_json, wrong
from treadle.transformers.tokenizer_classes import (
    CLASSES,
    GENERIC,
    MODELS,
    MODELS_OF_PIECES,
    PIECES,
)
from treadle.transformers.tokenizer_languages import form_of

if TYPE_CHECKING:
    from treadle.transformers.tokenizer_classes import TokenizerClass

SIDES = ("left", "right")
NAMED = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
# Transformers' number for "no limit".
NO_LIMIT = int(1e30)

FLAGS = (
    "do_lower_case",
    "tokenize_chinese_chars",
    "strip_accents",
    "add_prefix_space",
    "trim_offsets",
    "split_special_tokens",
    "clean_up_tokenization_spaces",
    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
)
# Lists of special tokens without names; the second may also be a dict of such with names.
_LISTS = ("additional_special_tokens", "extra_special_tokens")
# These two may be null, which says that the default holds.
_NULLABLE = ("strip_accents", "clean_up_tokenization_spaces")
EFFECT = (
    *FLAGS,
    *NAMED,
    "added_tokens_decoder",
    "additional_special_tokens",
    "auto_map",
    "chat_template",
    "extra_ids",
    "extra_special_tokens",
    "language_codes",
    "legacy_behaviour",
    "max_len",
    "model_input_names",
    "model_max_length",
    "model_specific_special_tokens",
    "padding_side",
    "src_lang",
    "tgt_lang",
    "tokenizer_class",
    "truncation_side",
)
# Entries whose other values would change the result of a tokenizer in Python, which treadle does
# not have, or need files or code that it does not read.
ONLY: dict[str, tuple[Any, ...]] = {
    "backend": ("tokenizers", None),
    "clean_text": (True, None),
    "do_basic_tokenize": (True, None),
    "errors": ("replace", None),
    "fast_tokenizer_files": (["tokenizer.json"], [], None),
    "init_inputs": ([], None),
    "never_split": (None, []),
    "pad_token_type_id": (0, None),
    "separate_vocabs": (False, None),
    "sp_model_kwargs": ({}, None),
    "wordpieces_prefix": ("##", None),
}
NO_EFFECT = {
    # Settings of a training, most of which save_pretrained copies from tokenizer.json; a call says
    # its own.
    "max_length",
    "max_seq_length",
    "pad_to_multiple_of",
    "padding",
    "stride",
    "truncation",
    "truncation_strategy",
    # Where the files lay, and which program wrote them.
    "_commit_hash",
    "_from_auto",
    "_from_pipeline",
    "_name_or_path",
    "device_map",
    "files_loaded",
    "full_tokenizer_file",
    "is_local",
    "local_files_only",
    "merges_file",
    "name_or_path",
    "processor_class",
    "revision",
    "slow_tokenizer_class",
    "special_tokens_map_file",
    "subfolder",
    "tokenizer_file",
    "transformers_version",
    "trust_remote_code",
    "use_auth_token",
    "use_fast",
    "verbose",
    "vocab_file",
    # How Transformers reads answers of a chat back.
    "chat_control_tokens",
    "response_schema",
    "response_template",
    # Marian's languages concern a library of punctuation. M2M-100's number of tokens without a
    # meaning concerns the model's table alone.
    "num_madeup_words",
    "source_lang",
    "target_lang",
    "target_vocab_file",
    # Contained in tokenizer.json, without which treadle refuses the classes that have them.
    "add_bos_token",
    "add_eos_token",
    "fix_mistral_regex",
    "from_slow",
    "keep_accents",
    "legacy",
    "remove_space",
    "spaces_between_special_tokens",
    "unk_id",
}


def read_settings(function: str, directory: str, given: dict[str, Any]) -> dict[str, Any]:
    """Read and check the settings of a directory.

    ``given`` are entries of the caller, which win; one that is None removes the file's.
    """
    settings: dict[str, Any] = {}
    where = f"{function}: {directory}/tokenizer_config.json"
    if exists(directory, "tokenizer_config.json"):
        settings = read_json(function, directory, "tokenizer_config.json")
    settings = {k: v for k, v in settings.items() if k not in given}
    settings |= {k: v for k, v in given.items() if v is not None}
    _check(where, settings)
    if "added_tokens_decoder" not in settings and exists(directory, "special_tokens_map.json"):
        more = read_json(function, directory, "special_tokens_map.json")
        more = {k: v for k, v in more.items() if k not in given}
        where = f"{function}: {directory}/special_tokens_map.json"
        for name in more:
            if not (name.endswith("_token") or name in _LISTS):
                raise _unknown(where, name, more[name])
        lists = {k: _joined(where, k, settings, more) for k in _LISTS if k in more}
        settings |= more | lists
    return settings


def class_of(function: str, directory: str, settings: dict[str, Any]) -> TokenizerClass | None:
    """Return the tokenizer class that the files name, or None if they name no class and no model.

    Of a class that treadle does not know, tokenizer.json says all, as in Transformers 5.
    """
    config: dict[str, Any] = {}
    if exists(directory, "config.json"):
        config = read_json(function, directory, "config.json")
    name = settings.get("tokenizer_class") or config.get("tokenizer_class")
    where = f"{function}: {directory}"
    if name is not None and not isinstance(name, str):
        raise wrong(where, "tokenizer_class", name, "a name")
    types = config.get("type_vocab_size")
    generic = GENERIC._replace(token_types=isinstance(types, int) and types > 1)
    if name is None:
        model = config.get("model_type")
        if not isinstance(model, str):
            return None
        if model in MODELS:
            return CLASSES[MODELS[model]]
        name = MODELS_OF_PIECES.get(model)
        if name is None:
            return generic
    known = CLASSES.get(name.removesuffix("Fast"))
    if known is None and not exists(directory, "tokenizer.json"):
        known = PIECES.get(name.removesuffix("Fast"))
        form = None if known is None else form_of(where, known, settings)
        if known is not None and form is not None:
            known = known._replace(extra=form.tokens())
    remote = settings.get("auto_map")
    if known is None and (remote.get("AutoTokenizer") if isinstance(remote, dict) else remote):
        raise ValueError(
            f"{where}: auto_map names the code of a tokenizer, {shown(remote)}, which treadle does "
            "not run; if tokenizer.json says all of it, load it with auto_map=None"
        )
    return generic if known is None else known


def is_known(name: str, value: object) -> bool:
    """Tell whether an entry has an effect, or is known to have none."""
    return name in EFFECT or name in ONLY or name in NO_EFFECT or _names_token(name, value)


def max_length(function: str, directory: str, settings: dict[str, Any]) -> int:
    """Return model_max_length, or a number beyond all lengths if there is none."""
    value = settings.get("model_max_length", settings.get("max_len"))
    if value is None:
        return NO_LIMIT
    if isinstance(value, float) and value == value // 1:  # 1e30, as JSON may have it
        value = int(value)
    return integer(f"{function}: {directory}", "model_max_length", value, 1, 2 * NO_LIMIT)


def input_names(
    function: str, directory: str, settings: dict[str, Any], *, token_types: bool
) -> list[str]:
    """Return model_input_names; ``token_types`` is the default of the class."""
    names = settings.get("model_input_names")
    if names is None:
        return ["input_ids", *(["token_type_ids"] if token_types else []), "attention_mask"]
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        raise wrong(f"{function}: {directory}", "model_input_names", names, "names")
    return list(names)


def _check(where: str, settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        if name in FLAGS:
            if not (isinstance(value, bool) or (value is None and name in _NULLABLE)):
                raise wrong(where, name, value, "true or false")
        elif name in ONLY:
            if not any(type(value) is type(ok) and value == ok for ok in ONLY[name]):
                raise wrong(where, name, value, f"{ONLY[name][0]!r}, since treadle has no other")
        elif name in ("padding_side", "truncation_side"):
            if value not in SIDES:
                raise wrong(where, name, value, '"left" or "right"')
        elif not is_known(name, value):
            raise _unknown(where, name, value)


def _names_token(name: str, value: object) -> bool:
    """Tell whether an entry is a special token of the model's own, such as "entity_token"."""
    return name.endswith("_token") and isinstance(value, str | dict | None)


def _unknown(where: str, name: str, value: object) -> ValueError:
    return ValueError(
        f"{where}: {name} is {shown(value)}, an entry that treadle does not know; "
        f"from_pretrained(directory, {name}=None) loads the tokenizer without it"
    )


def _joined(where: str, name: str, settings: dict[str, Any], more: dict[str, Any]) -> Any:
    """Return the tokens of a list in both files; of a dict those of the older file win."""
    first, second = settings.get(name) or type(more[name])(), more[name]
    if isinstance(first, dict) and isinstance(second, dict):
        return first | second
    if isinstance(first, list) and isinstance(second, list):
        return [*first, *(token for token in second if token not in first)]
    raise wrong(where, name, second, "a list of tokens")
