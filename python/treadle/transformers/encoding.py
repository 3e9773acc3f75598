"""This module has the result of a tokenizer, and the places of its tokens in the text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

from treadle._inputs.checks import shown
from treadle.transformers.tensors import convert

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = "treadle.transformers.Encoding"


class CharSpan(NamedTuple):
    """The characters ``start`` to ``end - 1`` of a text."""

    start: int
    end: int


class TokenSpan(NamedTuple):
    """The tokens ``start`` to ``end - 1`` of a row."""

    start: int
    end: int


class Encoding(dict[str, Any]):
    """The fields of a tokenizer's result, by key and by attribute, ready for ``model(**encoding)``.

    The methods tell which token is where in which text, with the names and meanings of Transformers
    (BatchEncoding). Most take the number of the row first, which may be left out for the first row,
    then the number of a token, a word or a character. They raise ValueError for a result without
    the library's encodings, such as that of `AutoTokenizer.pad`, and IndexError for a row that does
    not exist.

    Examples
    --------
    >>> Encoding(input_ids=[101, 102]).input_ids
    [101, 102]
    """

    def __init__(self, *fields: Any, **more: Any) -> None:
        super().__init__(*fields, **more)
        self._encodings: list[Any] | None = None

    @classmethod
    def made(cls, fields: dict[str, Any], encodings: Sequence[Any]) -> Encoding:
        """Make the result of fields and of the library's encodings, one for each row."""
        result = cls(fields)
        result._encodings = list(encodings)
        return result

    def __getitem__(self, key: Any) -> Any:
        """Return a field by name, the library's encoding of a row by number, or a slice of all."""
        if isinstance(key, str):
            return super().__getitem__(key)
        if self._encodings is not None and isinstance(key, slice | SupportsIndex):
            return self._encodings[key]
        if isinstance(key, slice):
            return {name: values[key] for name, values in self.items()}
        raise KeyError(key)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"Encoding has no field {name!r}") from None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._encodings is None:
            return type(self), (dict(self),)
        return type(self).made, (dict(self), self._encodings)

    def copy(self) -> Encoding:
        """Return another result with the same fields."""
        return Encoding.made(self, self._encodings) if self._encodings else Encoding(self)

    @property
    def data(self) -> dict[str, Any]:
        """The fields as a plain dict."""
        return dict(self)

    @property
    def encodings(self) -> list[Any] | None:
        """The library's encodings, one for each row."""
        return self._encodings

    @property
    def is_fast(self) -> bool:
        """True if the methods that follow work."""
        return self._encodings is not None

    @property
    def n_sequences(self) -> int | None:
        """The number of texts of a row, 1 or 2; None if it is not known."""
        return int(self._encodings[0].n_sequences) if self._encodings else None

    def tokens(self, batch_index: int = 0) -> list[str]:
        """Return the tokens of a row."""
        return list(self._row("tokens", batch_index).tokens)

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """Return the number of the word of each token; None for special tokens and padding."""
        return list(self._row("word_ids", batch_index).word_ids)

    def words(self, batch_index: int = 0) -> list[int | None]:
        """Return what `word_ids` does."""
        return self.word_ids(batch_index)

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """Return for each token 0 for the first text, 1 for the second, None for special tokens."""
        return list(self._row("sequence_ids", batch_index).sequence_ids)

    def token_to_sequence(self, batch_or_token: int, token: int | None = None) -> int | None:
        """Return 0 or 1, the text that a token belongs to."""
        row, token = self._place("token_to_sequence", batch_or_token, token)
        found: int | None = row.token_to_sequence(token)
        return found

    def token_to_word(self, batch_or_token: int, token: int | None = None) -> int | None:
        """Return the number of the word that a token belongs to."""
        row, token = self._place("token_to_word", batch_or_token, token)
        found: int | None = row.token_to_word(token)
        return found

    def word_to_tokens(
        self, batch_or_word: int, word: int | None = None, sequence_index: int = 0
    ) -> TokenSpan | None:
        """Return the tokens of a word of the first or second text."""
        row, word = self._place("word_to_tokens", batch_or_word, word)
        span = row.word_to_tokens(word, _text(sequence_index))
        return None if span is None else TokenSpan(*span)

    def token_to_chars(self, batch_or_token: int, token: int | None = None) -> CharSpan | None:
        """Return the characters of a token, in its own text; None for special tokens."""
        row, token = self._place("token_to_chars", batch_or_token, token)
        span = row.token_to_chars(token)
        return None if span is None else CharSpan(*span)

    def char_to_token(
        self, batch_or_char: int, char: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """Return the token of a character of the first or second text; None for most spaces."""
        row, char = self._place("char_to_token", batch_or_char, char, wrap=False)
        found: int | None = row.char_to_token(char, _text(sequence_index))
        return found

    def word_to_chars(
        self, batch_or_word: int, word: int | None = None, sequence_index: int = 0
    ) -> CharSpan | None:
        """Return the characters of a word of the first or second text."""
        row, word = self._place("word_to_chars", batch_or_word, word)
        span = row.word_to_chars(word, _text(sequence_index))
        return None if span is None else CharSpan(*span)

    def char_to_word(
        self, batch_or_char: int, char: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """Return the number of the word of a character of the first or second text."""
        row, char = self._place("char_to_word", batch_or_char, char, wrap=False)
        found: int | None = row.char_to_word(char, _text(sequence_index))
        return found

    def convert_to_tensors(
        self, tensor_type: str | None = None, prepend_batch_axis: bool = False
    ) -> Encoding:
        """Turn the lists into arrays, "np", or PyTorch's tensors, "pt", and return the result.

        ``prepend_batch_axis`` makes a batch of one row of a single text's lists.
        """
        if tensor_type is not None:
            fields = {k: [v] if prepend_batch_axis else v for k, v in self.items()}
            self.update(convert(_NAME, tensor_type, fields))
        return self

    def to(self, device: Any, **options: Any) -> Encoding:
        """Move PyTorch's tensors to a device, and return the result."""
        for name, value in self.items():
            if hasattr(value, "to"):
                self[name] = value.to(device, **options)
        return self

    def _row(self, method: str, index: int) -> Any:
        if self._encodings is None:
            raise ValueError(
                f"{_NAME}.{method}: this result has no places of tokens, expected the result of "
                "a call of a tokenizer"
            )
        if isinstance(index, bool) or not isinstance(index, SupportsIndex):
            raise TypeError(f"{_NAME}.{method}: the row is {shown(index)}, expected an integer")
        try:
            return self._encodings[index]
        except IndexError:
            raise IndexError(
                f"{_NAME}.{method}: there is no row {index}, there are {len(self._encodings)}"
            ) from None

    def _place(
        self, method: str, first: int, second: int | None, *, wrap: bool = True
    ) -> tuple[Any, int]:
        """Return the row's encoding and the number in it, where ``first`` may be that number."""
        row = self._row(method, 0 if second is None else first)
        number = first if second is None else second
        if isinstance(number, bool) or not isinstance(number, SupportsIndex):
            raise TypeError(f"{_NAME}.{method}: the place is {shown(number)}, expected an integer")
        index = number.__index__()
        if index < 0 and wrap:
            index += len(row.ids)
        if not 0 <= index < 2**63:
            raise IndexError(f"{_NAME}.{method}: there is no place {number}")
        return row, index


def _text(index: int) -> int:
    if index not in (0, 1):
        raise ValueError(f"{_NAME}: sequence_index is {shown(index)}, expected 0 or 1")
    return int(index)


def check_text(function: str, name: str, text: str) -> None:
    """Raise ValueError for a text that is no Unicode: it has lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{function}: {name} holds {shown(text)}, which is no Unicode text: {error.reason}"
        ) from None
