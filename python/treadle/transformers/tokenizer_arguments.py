"""This module checks the arguments of a tokenizer's calls."""

from __future__ import annotations

from difflib import get_close_matches
from enum import Enum
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from treadle._inputs.checks import flag, shown
from treadle.transformers.encoding import check_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NAME = "treadle.transformers.AutoTokenizer"
STRATEGIES = {
    False: None,
    True: "longest_first",
    "do_not_truncate": None,
    "longest_first": "longest_first",
    "only_first": "only_first",
    "only_second": "only_second",
}
PADDINGS = {
    False: None,
    True: "longest",
    "do_not_pad": None,
    "longest": "longest",
    "max_length": "max_length",
}
# The fields of a result, by the library's names.
FIELDS = {
    "input_ids": "ids",
    "token_type_ids": "type_ids",
    "attention_mask": "attention_mask",
    "special_tokens_mask": "special_tokens_mask",
    "offset_mapping": "offsets",
}


class TokenizerOptions(TypedDict, total=False):
    """The options of a call of `treadle.transformers.AutoTokenizer`."""

    add_special_tokens: bool
    padding: bool | str
    truncation: bool | str | None
    max_length: int | None
    stride: int
    is_split_into_words: bool
    pad_to_multiple_of: int | None
    padding_side: str | None
    return_tensors: str | None
    return_token_type_ids: bool | None
    return_attention_mask: bool | None
    return_overflowing_tokens: bool
    return_special_tokens_mask: bool
    return_offsets_mapping: bool
    return_length: bool
    split_special_tokens: bool | None
    verbose: bool


_DEFAULTS: dict[str, Any] = {
    "add_special_tokens": True,
    "padding": False,
    "truncation": None,
    "max_length": None,
    "stride": 0,
    "is_split_into_words": False,
    "pad_to_multiple_of": None,
    "padding_side": None,
    "return_tensors": None,
    "return_token_type_ids": None,
    "return_attention_mask": None,
    "return_overflowing_tokens": False,
    "return_special_tokens_mask": False,
    "return_offsets_mapping": False,
    "return_length": False,
    "split_special_tokens": None,
    "verbose": True,
}
_FLAGS = [
    name for name, value in _DEFAULTS.items() if isinstance(value, bool) and name != "padding"
]


def options_of(given: Mapping[str, Any], more: Iterable[str] = ()) -> dict[str, Any]:
    """Complete the options of a call. Raises TypeError for unknown ones, and for flags that are
    none.

    ``more`` are the names of other arguments that a misspelled name may have meant.
    """
    for name in given:
        if name not in _DEFAULTS:
            raise unknown(NAME, name, [*more, *_DEFAULTS])
    options = _DEFAULTS | dict(given)
    for name in _FLAGS:
        flag(NAME, name, options[name])
    if options["split_special_tokens"] is not None:
        flag(NAME, "split_special_tokens", options["split_special_tokens"])
    return options


def unknown(function: str, name: str, known: Iterable[str]) -> TypeError:
    """Make the error for an unknown argument, with the known name that looks most like it."""
    names = list(known)
    near = get_close_matches(name, names, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names)}"
    return TypeError(f"{function}: there is no argument {name!r}: {hint}")


def inputs_of(text: object, text_pair: object, *, words: bool) -> tuple[list[Any], bool]:
    """Check texts and second texts; return the library's inputs, and whether there was one alone.

    An input is a text or, if ``words``, a list of words; of a pair it is a tuple of two. A list
    may have pairs among its items.
    """
    text, pair = _listed(text), _listed(text_pair)
    single = isinstance(text, str) or (words and _is_words(text))
    items = [text] if single else text
    if not isinstance(items, list):
        raise TypeError(f"{NAME}: text is {shown(text)}, {_expected(words)}")
    if pair is None:
        return [_item("text", item, words=words, pairs=not single) for item in items], single
    pairs = [pair] if single else pair
    if isinstance(pairs, str):
        raise TypeError(f"{NAME}: text_pair is one text, expected one for each of {len(items)}")
    if not isinstance(pairs, list) or (single and not isinstance(pair, list if words else str)):
        raise TypeError(f"{NAME}: text_pair is {shown(pair)}, {_expected(words)}")
    if len(pairs) != len(items):
        raise ValueError(
            f"{NAME}: text_pair has {len(pairs)} texts for {len(items)}, expected one for each"
        )
    firsts = [_item("text", item, words=words) for item in items]
    seconds = [_item("text_pair", item, words=words) for item in pairs]
    if single and not seconds[0]:  # Transformers takes an empty second text for none
        return firsts, single
    return list(zip(firsts, seconds, strict=True)), single


def texts_in(name: str, value: object) -> list[str]:
    """Check an argument that is one text or a list of texts, and return the list."""
    if isinstance(value, str):
        value = [value]
    elif isinstance(value, np.ndarray) and value.dtype.kind in "UO":
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise TypeError(f"{NAME}: {name} is {shown(value)}, expected a text or a list of texts")
    for item in value:
        if not isinstance(item, str):
            raise TypeError(f"{NAME}: {name} holds {shown(item)}, expected texts")
        check_text(NAME, name, item)
    return list(value)


def choice(name: str, value: object, choices: dict[Any, str | None]) -> str | None:
    """Return the entry that the value of an argument names in ``choices``."""
    if isinstance(value, Enum):  # PaddingStrategy and TruncationStrategy of Transformers
        value = value.value
    if isinstance(value, bool | str) and value in choices:
        return choices[value]
    expected = ", ".join(map(repr, choices))
    raise ValueError(f"{NAME}: {name} is {shown(value)}, expected one of {expected}")


def flatten_ids(ids: Any) -> list[Any]:
    """Return token ids as lists, from one number, a list, an array or a list of arrays."""
    if hasattr(ids, "tolist"):
        ids = ids.tolist()
    if isinstance(ids, list | tuple):
        return [x.tolist() if hasattr(x, "tolist") else x for x in ids]
    return [ids]


def _listed(value: object) -> object:
    """Return arrays of texts and tuples as lists."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "UO":
        value = value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _is_words(value: object) -> bool:
    return isinstance(value, list) and not (value and isinstance(_listed(value[0]), list))


def _item(name: str, value: object, *, words: bool, pairs: bool = False) -> Any:
    """Check one text, one list of words or, if ``pairs``, two of them."""
    value = _listed(value)
    if isinstance(value, list):
        if words and all(isinstance(word, str) for word in value):
            return texts_in(name, value)
        if pairs and len(value) == 2 and (words or all(isinstance(v, str) for v in value)):
            return tuple(_item(name, v, words=words) for v in value)
    elif isinstance(value, str) and not words:
        check_text(NAME, name, value)
        return value
    raise TypeError(f"{NAME}: {name} holds {shown(value)}, {_expected(words)}")


def _expected(words: bool) -> str:
    if words:
        return "expected a list of words or a list of such lists, since is_split_into_words is True"
    return (
        "expected a text, a list of texts or a list of pairs of texts; "
        "a text in words takes is_split_into_words=True"
    )
