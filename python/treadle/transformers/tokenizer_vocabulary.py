"""This module has the tokens of a tokenizer and their numbers: the base class of AutoTokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.checks import MAX_SIZE, flag, integer, shown
from treadle.transformers.tokenizer_arguments import NAME, flatten_ids, texts_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle._inputs.types import ArrayLike
    from treadle.transformers.tokenizer_library import Library

# Transformers' clean_up_tokenization, in its order.
_CLEANING = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)
# Methods of Transformers that change a tokenizer, or need what encoders have not.
_ELSEWHERE = (
    "add_special_tokens",
    "add_tokens",
    "save_pretrained",
    "save_vocabulary",
    "train_new_from_iterator",
)


class _Token:
    """A special token as an attribute: its text."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, owner: Vocabulary | None, _: object = None) -> str | None:
        return None if owner is None else owner._special.get(self.name)

    def __set__(self, owner: Vocabulary, value: str | None) -> None:
        if value is not None:
            texts_in(self.name, [value])
            if owner._native.token_to_id(value) is None:
                raise ValueError(
                    f"{NAME}: {self.name} is {shown(value)}, expected a token of the vocabulary"
                )
        owner._special[self.name] = value


class _TokenId:
    """A special token as an attribute: its number."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, owner: Vocabulary | None, _: object = None) -> int | None:
        text = None if owner is None else owner._special.get(self.name)
        if owner is None or text is None:
            return None
        number: int | None = owner.convert_tokens_to_ids(text)
        return number

    def __set__(self, owner: Vocabulary, value: int | None) -> None:
        text = None if value is None else owner.convert_ids_to_tokens(value)
        if value is not None and text is None:
            raise ValueError(f"{NAME}: {self.name}_id is {shown(value)}, expected a token's number")
        owner._special[self.name] = text


class Vocabulary:
    """The tokens of a tokenizer, their numbers, and texts of numbers."""

    pad_token = _Token("pad_token")
    pad_token_id = _TokenId("pad_token")
    unk_token = _Token("unk_token")
    unk_token_id = _TokenId("unk_token")
    cls_token = _Token("cls_token")
    cls_token_id = _TokenId("cls_token")
    sep_token = _Token("sep_token")
    sep_token_id = _TokenId("sep_token")
    mask_token = _Token("mask_token")
    mask_token_id = _TokenId("mask_token")
    bos_token = _Token("bos_token")
    bos_token_id = _TokenId("bos_token")
    eos_token = _Token("eos_token")
    eos_token_id = _TokenId("eos_token")

    _native: Any
    _library: Library
    _special: dict[str, str | None]
    _extra: list[str]
    _cleaning: bool
    _cleaning_of_bpe: bool

    def __getattr__(self, name: str) -> Any:
        """Return a special token that only this model's files name, or its number."""
        special = self.__dict__.get("_special", {})
        text = name.removesuffix("_id")
        if text in special:
            token = special[text]
            return token if text == name or token is None else self.convert_tokens_to_ids(token)
        hint = "; Transformers does that, and treadle reads what its save_pretrained writes"
        raise AttributeError(
            f"AutoTokenizer has no attribute {name!r}{hint if name in _ELSEWHERE else ''}"
        )

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """The special tokens by name."""
        return {name: token for name, token in self._special.items() if token is not None}

    @property
    def extra_special_tokens(self) -> list[str]:
        """The special tokens without names."""
        return list(self._extra)

    additional_special_tokens = extra_special_tokens

    @property
    def all_special_tokens(self) -> list[str]:
        """All special tokens, each once."""
        return list(dict.fromkeys([*self.special_tokens_map.values(), *self._extra]))

    @property
    def all_special_ids(self) -> list[int]:
        """The numbers of all special tokens."""
        return [self.convert_tokens_to_ids(token) for token in self.all_special_tokens]

    @property
    def vocab_size(self) -> int:
        """The number of tokens without those that were added later."""
        size: int = self._native.get_vocab_size(with_added_tokens=False)
        return size

    @property
    def vocab(self) -> dict[str, int]:
        """A dict from token to number, as `get_vocab` makes it."""
        return self.get_vocab()

    @property
    def is_fast(self) -> bool:
        """True: the library tokenizers does the work."""
        return True

    @property
    def backend_tokenizer(self) -> Any:
        """The library's tokenizer; changes of it reach some calls and not others."""
        return self._native

    def __len__(self) -> int:
        return int(self._native.get_vocab_size())

    def __bool__(self) -> bool:
        return True

    def get_vocab(self) -> dict[str, int]:
        """Return a dict from token to id, added tokens included."""
        vocabulary: dict[str, int] = self._native.get_vocab()
        return vocabulary

    def get_added_vocab(self) -> dict[str, int]:
        """Return a dict from token to id of the tokens that stand beside the model's vocabulary."""
        added = self._native.get_added_tokens_decoder()
        return {added[number].content: number for number in sorted(added)}

    added_tokens_encoder = property(get_added_vocab)

    @property
    def added_tokens_decoder(self) -> dict[int, Any]:
        """The library's objects of these tokens, by number."""
        decoder: dict[int, Any] = self._native.get_added_tokens_decoder()
        return decoder

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Return how many special tokens go around a text, or around a pair of texts."""
        count: int = self._native.num_special_tokens_to_add(pair)
        return count

    def convert_ids_to_tokens(
        self, ids: int | Sequence[int] | ArrayLike, skip_special_tokens: bool = False
    ) -> Any:
        """Return the token of an id, or the list for several; None for ids out of range."""
        flag(NAME, "skip_special_tokens", skip_special_tokens)
        numbers = [integer(NAME, "ids", number, 0) for number in flatten_ids(ids)]
        if np.ndim(ids) == 0:
            return self._native.id_to_token(numbers[0])
        skipped = set(self.all_special_ids) if skip_special_tokens else ()
        return [self._native.id_to_token(number) for number in numbers if number not in skipped]

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> Any:
        """Return the id of a token, or the list for several; unknown tokens get unk_token's id."""
        texts = texts_in("tokens", tokens)
        unknown = self._special.get("unk_token")
        rest = None if unknown is None else self._native.token_to_id(unknown)
        numbers = (self._native.token_to_id(text) for text in texts)
        found = [rest if number is None else number for number in numbers]
        return found[0] if isinstance(tokens, str) else found

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Return the text of tokens."""
        texts = texts_in("tokens", tokens)
        decoder = self._native.decoder
        return " ".join(texts) if decoder is None else str(decoder.decode(texts))

    def get_special_tokens_mask(
        self, token_ids: ArrayLike, already_has_special_tokens: bool = True
    ) -> list[int]:
        """Return 1 for each special token of a row and 0 for the others."""
        if already_has_special_tokens is not True:
            raise ValueError(
                f"{NAME}: already_has_special_tokens is {shown(already_has_special_tokens)}, "
                "expected True: a call with return_special_tokens_mask=True gives the mask of texts"
            )
        special = set(self.all_special_ids)
        return [int(integer(NAME, "token_ids", i, 0) in special) for i in flatten_ids(token_ids)]

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> Any:
        """Return the text of token ids, one number, a list or an array; unknown ids are skipped.

        Several lists, or an array of two axes, give a list of texts, as in Transformers 5.

        Parameters
        ----------
        skip_special_tokens
            True leaves out the special tokens.
        clean_up_tokenization_spaces
            True takes away spaces before punctuation and English endings; the file's value by
            default. As in Transformers 5, False for byte-pair encodings, whose spaces are the
            text's own.

        Raises
        ------
        TypeError
            For ids that are no integers.
        ValueError
            For negative ids.
        """
        flag(NAME, "skip_special_tokens", skip_special_tokens)
        clean = self._cleaning
        if clean_up_tokenization_spaces is not None:
            clean = flag(NAME, "clean_up_tokenization_spaces", clean_up_tokenization_spaces)
        ids = flatten_ids(token_ids)
        if ids and all(isinstance(row, list | tuple) for row in ids):
            return [self._text(list(row), skip_special_tokens, clean) for row in ids]
        return self._text(ids, skip_special_tokens, clean)

    def batch_decode(
        self,
        sequences: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> list[str]:
        """Return the texts of several lists of token ids, or of the rows of an array."""
        return [
            self.decode(row, skip_special_tokens, clean_up_tokenization_spaces) for row in sequences
        ]

    def _text(self, ids: list[Any], skip: bool, clean: bool) -> str:
        for number in ids:
            if isinstance(number, bool) or not isinstance(number, int | np.integer):
                raise TypeError(f"{NAME}: token_ids holds {shown(number)}, expected integers")
            if not 0 <= number <= MAX_SIZE:
                raise ValueError(f"{NAME}: token_ids holds {shown(number)}, expected 0 or more")
        text: str = self._library.call("decode", ids, skip_special_tokens=skip)
        if clean and (self._cleaning_of_bpe or type(self._native.model).__name__ != "BPE"):
            for old, new in _CLEANING:
                text = text.replace(old, new)
        return text
