"""This module adds the tokens of the settings to a tokenizer, as Transformers does.

Many checkpoints have tokens in tokenizer_config.json, special_tokens_map.json or added_tokens.json
that tokenizer.json does not have. They get the next numbers, in the order of their numbers in the
file; a file whose numbers are others is refused, since the model has its vectors at those.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from treadle._inputs.checks import integer, shown
from treadle.transformers.directory import exists, read_json, wrong
from treadle.transformers.encoding import check_text
from treadle.transformers.tokenizer_library import guarded
from treadle.transformers.tokenizer_settings import NAMED, NO_EFFECT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from treadle.transformers.tokenizer_classes import TokenizerClass

_PROPERTIES = ("single_word", "lstrip", "rstrip", "normalized", "special")
# No token is longer, and the message about it stays readable.
_MOST_CHARACTERS = 2**16


class SpecialTokens(NamedTuple):
    """The special tokens of a tokenizer: by name, and those without names."""

    named: dict[str, str | None]
    extra: list[str]


def add_tokens(
    function: str, directory: str, native: Any, kind: TokenizerClass, settings: dict[str, Any]
) -> SpecialTokens:
    """Add the tokens of the settings to the library's tokenizer, and return the special ones."""
    where = f"{function}: {directory}"
    named, extra = _special(where, kind, settings)
    declared = dict(_declared(function, directory, settings, named, extra))
    known = native.get_added_tokens_decoder()
    # Only the newer of the two files changes what tokenizer.json says of its tokens.
    tell = repr if "added_tokens_decoder" in settings else str
    have = {tell(token) for token in known.values()}
    adding = [declared[i] for i in sorted(declared) if tell(declared[i]) not in have]
    contents = {token.content for token in [*known.values(), *adding]}
    for token in [*named.values(), *extra]:
        if token is not None and token.content not in contents:
            adding.append(token)
            contents.add(token.content)
    special = {token.content for token in [*named.values(), *extra] if token is not None}
    for token in adding:
        token.special = token.special or token.content in special
    if adding:
        guarded(where, native.add_tokens, adding)
    for number, token in declared.items():
        found = native.token_to_id(token.content)
        if found != number:
            raise ValueError(
                f"{where}: added_tokens_decoder or added_tokens.json gives the token "
                f"{shown(token.content)} the number {number}, and with tokenizer.json it gets "
                f"{found}, expected the same"
            )
    texts = {name: None if token is None else token.content for name, token in named.items()}
    return SpecialTokens(texts, [token.content for token in extra])


def _special(
    where: str, kind: TokenizerClass, settings: dict[str, Any]
) -> tuple[dict[str, Any], list[Any]]:
    """Return the library's objects of the special tokens with names, and of those without."""
    others = (*NAMED, *NO_EFFECT)
    own = {n: v for n, v in settings.items() if n.endswith("_token") and n not in others}
    extra = settings.get("extra_special_tokens")
    for more in (settings.get("model_specific_special_tokens"), extra):
        own |= more if isinstance(more, dict) else {}
    values = {name: settings.get(name, kind.tokens.get(name)) for name in NAMED} | own
    named = {name: _token(where, name, value, kind) for name, value in values.items()}
    listed = settings.get("additional_special_tokens")
    if listed is None and not isinstance(extra, list):
        listed = list(kind.extra)
    lists = {"additional_special_tokens": listed, "extra_special_tokens": extra}
    texts: dict[str, Any] = {}
    for name, value in lists.items():
        if isinstance(value, dict) and name == "extra_special_tokens":
            continue
        if not isinstance(value, list | None):
            raise wrong(where, name, value, "a list of tokens")
        for item in value or []:
            if item is None:
                raise wrong(where, name, value, "a list of tokens")
            token = _token(where, name, item, kind)
            texts.setdefault(token.content, token)
    return named, list(texts.values())


def _declared(
    function: str, directory: str, settings: dict[str, Any], named: dict[str, Any], extra: list[Any]
) -> Iterator[tuple[int, Any]]:
    """Yield the tokens that the files give numbers."""
    where = f"{function}: {directory}"
    if "added_tokens_decoder" in settings:
        entries = settings["added_tokens_decoder"]
        if not isinstance(entries, dict):
            raise wrong(where, "added_tokens_decoder", entries, "numbers with tokens")
        for key, value in entries.items():
            if not (key.isascii() and key.isdigit() and len(key) < 10 and isinstance(value, dict)):
                raise wrong(where, f"added_tokens_decoder[{key!r}]", value, "a number's token")
            yield int(key), _token(where, f"added_tokens_decoder[{key!r}]", value)
    elif exists(directory, "added_tokens.json"):
        special = {t.content for t in [*named.values(), *extra] if t is not None}
        for content, number in read_json(function, directory, "added_tokens.json").items():
            index = integer(f"{where}/added_tokens.json", content, number, 0)
            is_special = content in special
            entry = {"content": content, "special": is_special, "normalized": not is_special}
            yield index, _token(where, "added_tokens.json", entry)


def _token(where: str, name: str, value: object, kind: TokenizerClass | None = None) -> Any:
    """Make the library's object of a token, a text or a dict; with ``kind`` it is a special one."""
    if value is None:
        return None
    entry = {"content": value} if isinstance(value, str) else value
    content = entry.get("content") if isinstance(entry, dict) else None
    if not (isinstance(entry, dict) and isinstance(content, str) and content):
        raise wrong(where, name, value, "a token: a text, or an object with its content")
    if len(content) > _MOST_CHARACTERS:
        raise wrong(where, name, content, f"at most {_MOST_CHARACTERS} characters")
    check_text(where, name, content)
    properties = {key: entry[key] for key in _PROPERTIES if key in entry}
    for key, found in properties.items():
        if not isinstance(found, bool):
            raise wrong(where, f"{key} of {name}", found, "true or false")
    for key in entry:
        if key not in (*_PROPERTIES, "content", "__type", "id"):
            raise wrong(where, f"{key} of {name}", entry[key], f"one of {', '.join(_PROPERTIES)}")
    if kind is not None:
        properties["special"] = True
        if name == "mask_token" and isinstance(value, str):
            properties["lstrip"] = kind.mask_takes_space
    return import_module("tokenizers").AddedToken(content, **properties)
