"""This module has the result of a tokenizer, and turns lists of tokens into padded arrays."""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict

import numpy as np

from treadle._inputs.checks import shown


class Encoding(dict[str, Any]):
    """The fields of a tokenizer's result, by key and by attribute, ready for ``model(**encoding)``.

    Examples
    --------
    >>> Encoding(input_ids=[101, 102]).input_ids
    [101, 102]
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"Encoding has no field {name!r}") from None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


class TokenizerOptions(TypedDict, total=False):
    """The options of a call of `treadle.transformers.AutoTokenizer`."""

    add_special_tokens: bool
    padding: bool | str
    truncation: bool | str | None
    max_length: int | None
    pad_to_multiple_of: int | None
    padding_side: str | None
    return_tensors: str | None
    return_token_type_ids: bool | None
    return_attention_mask: bool | None
    return_special_tokens_mask: bool
    return_offsets_mapping: bool


class Padding(NamedTuple):
    """The settings of padding: to which length, on which side and with which numbers."""

    length: int | None
    """None: to the longest row."""
    multiple: int
    left: bool
    values: dict[str, Any]
    """The item that pads each field, by the field's name."""

    def apply(self, fields: dict[str, list[list[Any]]]) -> dict[str, list[list[Any]]]:
        """Pad the fields until all rows have the same length."""
        longest = max(map(len, fields["input_ids"]), default=0)
        width = longest if self.length is None else self.length
        width += -width % self.multiple
        return {
            name: [self._padded(row, width, self.values[name]) for row in rows]
            for name, rows in fields.items()
        }

    def _padded(self, row: list[Any], width: int, value: Any) -> list[Any]:
        more = [value] * (width - len(row))
        return more + row if self.left else row + more


def to_arrays(function: str, fields: dict[str, list[list[Any]]]) -> dict[str, Any]:
    """Return each field as an int64 array [B, S]; its rows must have equal lengths."""
    lengths = {len(row) for row in fields["input_ids"]}
    if len(lengths) > 1:
        raise ValueError(
            f"{function}: texts have {min(lengths)} to {max(lengths)} tokens, which form no array: "
            "expected padding=True, and perhaps truncation=True, or return_tensors=None"
        )
    width = lengths.pop() if lengths else 0
    arrays = {}
    for name, rows in fields.items():
        last = (2,) if name == "offset_mapping" else ()
        arrays[name] = np.array(rows, np.int64).reshape(len(rows), width, *last)
    return arrays


def truncated_lengths(strategy: str, first: int, second: int, most: int) -> tuple[int, int]:
    """Return how many tokens of a text and of its pair to keep, at most ``most`` together.

    longest_first cuts the longer one until both are as long, as the library tokenizers does.
    Returns lengths whose sum exceeds ``most`` where the strategy cannot do better.
    """
    if first + second <= most:
        return first, second
    if strategy == "only_first":
        return max(most - second, 0), second
    if strategy == "only_second":
        return first, max(most - first, 0)
    shorter, longer = sorted((first, second))
    longer = max(shorter, most - shorter)
    if shorter + longer > most:
        shorter = most // 2
        longer = shorter + most % 2
    return (shorter, longer) if first <= second else (longer, shorter)


def flatten_ids(ids: Any) -> list[int] | list[list[int]]:
    """Return token ids as lists, from one number, a list, an array or a list of arrays."""
    if hasattr(ids, "tolist"):
        ids = ids.tolist()
    if isinstance(ids, list | tuple):
        return [x.tolist() if hasattr(x, "tolist") else x for x in ids]
    return [ids]


def check_text(function: str, name: str, text: str) -> None:
    """Raise ValueError for a text that is no Unicode: it has lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{function}: {name} holds {shown(text)}, which is no Unicode text: {error.reason}"
        ) from None
