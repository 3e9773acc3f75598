"""This module pads rows of tokens, of a tokenizer's call and of results that lie apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from treadle._inputs.checks import shown
from treadle.transformers.encoding import Encoding
from treadle.transformers.tensors import convert, is_tensor

if TYPE_CHECKING:
    from collections.abc import Sequence


class Padding(NamedTuple):
    """The settings of padding: to which length, on which side and with which token."""

    length: int | None
    """None: to the longest row."""
    multiple: int
    side: str
    token: str
    token_id: int
    type_id: int

    def width(self, longest: int) -> int:
        """Return the number of tokens of every row."""
        width = longest if self.length is None else self.length
        return width + -width % self.multiple

    def apply(self, encodings: Sequence[Any]) -> None:
        """Pad the library's encodings, which are the caller's own, to the same length."""
        width = self.width(max((len(encoding.ids) for encoding in encodings), default=0))
        for encoding in encodings:
            encoding.pad(
                width,
                direction=self.side,
                pad_id=self.token_id,
                pad_type_id=self.type_id,
                pad_token=self.token,
            )


def gathered(function: str, value: Any) -> tuple[dict[str, list[Any]], bool, str | None]:
    """Return the fields of a result, or of a list of results, and as what they are to be returned.

    Returns the fields as lists of rows, True if there was one row without the outer list, and the
    type of the tensors among them ("np", "pt"), if any.
    """
    rows = value if isinstance(value, list | tuple) else None
    if rows and all(isinstance(row, Mapping) for row in rows):
        names = list(rows[0])
        for row in rows:
            if set(row) != set(names):
                raise ValueError(
                    f"{function}: encoded_inputs has rows with {sorted(row)} and with "
                    f"{sorted(names)}, expected the same fields in each"
                )
        value = {name: [row[name] for row in rows] for name in names}
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{function}: encoded_inputs is {shown(value)}, expected the result of a call or a "
            "list of such results"
        )
    if "input_ids" not in value:
        raise ValueError(f"{function}: encoded_inputs has {[*value]}, expected input_ids")
    kind = _type_of(value["input_ids"])
    fields = {name: _plain(items) for name, items in value.items()}
    ids = fields["input_ids"]
    if not isinstance(ids, list):
        raise TypeError(f"{function}: input_ids is {shown(ids)}, expected lists of integers")
    single = bool(ids) and not isinstance(ids[0], list)
    if single:
        fields = {name: [items] for name, items in fields.items()}
    _check(function, fields)
    return fields, single, kind


def padded(fields: dict[str, list[Any]], padding: Padding | None) -> dict[str, list[Any]]:
    """Return the fields with all tokens' rows at the same length; other fields stay."""
    if padding is None:
        return fields
    rows = fields["input_ids"]
    width = padding.width(max(map(len, rows), default=0))
    values = {
        "input_ids": padding.token_id,
        "token_type_ids": padding.type_id,
        "attention_mask": 0,
        "special_tokens_mask": 1,
    }
    result = dict(fields)
    for name, value in values.items():
        if name in fields:
            more = [[value] * (width - len(row)) for row in fields[name]]
            pairs = zip(fields[name], more, strict=True)
            result[name] = [m + row if padding.side == "left" else row + m for row, m in pairs]
    return result


def finished(
    function: str, fields: dict[str, list[Any]], *, single: bool, tensor_type: str | None
) -> Encoding:
    """Make the result of `AutoTokenizer.pad`."""
    if single:
        fields = {name: rows[0] for name, rows in fields.items()}
    return Encoding(fields if tensor_type is None else convert(function, tensor_type, fields))


def _check(function: str, fields: dict[str, list[Any]]) -> None:
    """Check that the fields which padding changes have a number for each token."""
    lengths = [len(row) if isinstance(row, list) else -1 for row in fields["input_ids"]]
    if -1 in lengths:
        raise TypeError(f"{function}: input_ids holds a number beside lists, expected lists alone")
    for name in ("token_type_ids", "attention_mask", "special_tokens_mask"):
        rows = fields.get(name)
        if rows is None:
            continue
        found = [len(row) if isinstance(row, list) else -1 for row in rows]
        if found != lengths:
            raise ValueError(
                f"{function}: {name} has rows of {found[:4]} numbers and input_ids of "
                f"{lengths[:4]}, expected one number for each token"
            )


def _plain(value: Any) -> Any:
    if is_tensor(value):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) if is_tensor(item) or isinstance(item, list | tuple) else item
                for item in value]  # fmt: skip
    return value


def _type_of(value: Any) -> str | None:
    first = value[0] if isinstance(value, list | tuple) and len(value) else value
    if not is_tensor(first):
        return None
    return "pt" if type(first).__module__.startswith("torch") else "np"
