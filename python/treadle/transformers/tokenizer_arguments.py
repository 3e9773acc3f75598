"""This module checks the arguments of a tokenizer's call, and picks the fields of its answer."""

from __future__ import annotations

from typing import Any

import numpy as np

from treadle._inputs.checks import shown
from treadle.transformers.encoding import check_text

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


def texts_of(text: object, text_pair: object) -> tuple[list[str], list[str] | None, bool]:
    """Check texts and second texts; return both lists, and whether there was one text alone."""
    single = isinstance(text, str)
    texts = texts_in("text", text)
    if text_pair is None:
        return texts, None, single
    pairs = texts_in("text_pair", text_pair)
    if isinstance(text_pair, str) != single or len(pairs) != len(texts):
        raise ValueError(
            f"{NAME}: text_pair has {len(pairs)} texts for {len(texts)}, expected one for each"
        )
    return texts, pairs, single


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
    if isinstance(value, bool | str) and value in choices:
        return choices[value]
    expected = ", ".join(map(repr, choices))
    raise ValueError(f"{NAME}: {name} is {shown(value)}, expected one of {expected}")


def field_of(encoding: Any, name: str) -> list[Any]:
    """Return the values of a field of the answer, taken from the library's encoding."""
    if name == "attention_mask":
        return [1] * len(encoding.ids)
    attribute = {
        "input_ids": "ids",
        "token_type_ids": "type_ids",
        "special_tokens_mask": "special_tokens_mask",
        "offset_mapping": "offsets",
    }[name]
    values: list[Any] = getattr(encoding, attribute)
    return values
