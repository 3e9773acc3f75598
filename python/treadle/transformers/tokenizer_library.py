"""This module calls the library `tokenizers`, in one pass over each text and safely from threads.

The library keeps how texts are cut as a setting of a tokenizer, and a setting that one thread
changes would reach the calls of the others. A `Library` therefore never changes the tokenizer that
was loaded. It makes a view for each setting: another tokenizer of the library that shares the
model, which is all the memory, and differs in the setting. The library then cuts while it
tokenizes.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from treadle.transformers.truncation import combinations, kept_lengths

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

P = ParamSpec("P")
R = TypeVar("R")

# The library gets so many characters at a time, which take it a tenth of a second.
_PIECE = 2**19
# Programs use a few settings; the limit is for one that counts through all lengths.
_MOST_VIEWS = 16
# A call gives at most so many rows of overflowing tokens for a pair of texts.
_MOST_ROWS = 2**16


class Cut(NamedTuple):
    """The settings of a truncation: rows of at most ``most`` tokens."""

    most: int
    strategy: str
    side: str
    stride: int
    """Overflowing rows begin with so many tokens of the row before."""
    overflowing: bool
    """True if the caller gets what is cut off as further rows."""


class Library:
    """A tokenizer of the library and its views.

    ``native`` is the library's tokenizer as loaded. Methods take inputs as the library does: a
    text, a list of words, or a tuple of two of these.
    """

    def __init__(self, name: str, native: Any, *, split_special_tokens: bool) -> None:
        self.name = name
        self.native = native
        self.split_special_tokens = split_special_tokens
        self._views: dict[tuple[Any, ...], Any] = {}

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the tokenizer as loaded."""
        return guarded(self.name, getattr(self.native, method), *arguments, **options)

    def encode(
        self,
        inputs: Sequence[Any],
        cut: Cut | None,
        *,
        special: bool,
        words: bool = False,
        split: bool | None = None,
    ) -> list[Any]:
        """Return the library's encodings of inputs, whose overflowing ones hang on the first.

        Raises
        ------
        ValueError
            For texts that the strategy cannot shorten so far.
        """
        view = self._view(cut, split)
        if cut is None or cut.strategy != "longest_first":
            return self._encoded(view, inputs, special=special, words=words)
        # The library makes every combination of the pieces of both texts, whether they are wanted
        # or not: a hundred pages against a hundred pages would take all memory.
        long = {i for i, item in enumerate(inputs) if isinstance(item, tuple) and _long(item, cut)}
        others = [item for i, item in enumerate(inputs) if i not in long]
        encodings = iter(self._encoded(view, others, special=special, words=words))
        return [
            self._long_pair(item, cut, special=special, words=words, split=split)
            if i in long
            else next(encodings)
            for i, item in enumerate(inputs)
        ]

    def ids(self, texts: Sequence[str], most: int, side: str, *, special: bool) -> list[list[int]]:
        """Return the token ids of texts alone, which takes the library less."""
        view = self._view(Cut(most, "longest_first", side, 0, overflowing=False), None)
        found = self._encoded(view, texts, special=special, method="encode_batch_fast")
        return [encoding.ids for encoding in found]

    def _encoded(
        self,
        view: Any,
        inputs: Sequence[Any],
        *,
        special: bool,
        words: bool = False,
        method: str = "encode_batch",
    ) -> list[Any]:
        """Call the library for a piece of the inputs at a time, so that Ctrl-C works in between."""
        encodings: list[Any] = []
        start = size = 0
        for stop, item in enumerate(inputs, 1):
            size += _characters(item)
            if size >= _PIECE or stop == len(inputs):
                piece = inputs[start:stop]
                call = getattr(view, method)
                encodings += guarded(
                    self.name, call, piece, add_special_tokens=special, is_pretokenized=words
                )
                start, size = stop, 0
        return encodings

    def _long_pair(
        self, pair: tuple[Any, Any], cut: Cut, *, special: bool, words: bool, split: bool | None
    ) -> Any:
        """Cut both texts of a pair before the library joins them."""
        bare = self._view(None, split, bare=True)
        parts = [self._encoded(bare, [text], special=False, words=words)[0] for text in pair]
        room = cut.most - (self.native.num_special_tokens_to_add(True) if special else 0)
        lengths = [len(part.ids) for part in parts]
        kept = kept_lengths(lengths[0], lengths[1], room)
        if not cut.overflowing:
            parts = [_part(parts[i], kept[i], cut.side, i) for i in range(2)]
        else:
            rows = combinations(lengths, kept, cut.stride)
            if rows > _MOST_ROWS:
                raise ValueError(
                    f"{self.name}: return_overflowing_tokens gives {rows} rows for texts of "
                    f"{lengths} tokens, expected at most {_MOST_ROWS}: with truncation="
                    '"only_second" there is one row for each piece of the second text'
                )
            parts = [_part(parts[i], lengths[i], cut.side, i) for i in range(2)]
            for part, k in zip(parts, kept, strict=True):
                part.truncate(k, stride=cut.stride, direction=cut.side)
        return self.call("post_process", *parts, add_special_tokens=special)

    def _view(self, cut: Cut | None, split: bool | None, *, bare: bool = False) -> Any:
        """Return the tokenizer with these settings; ``bare`` leaves out all that follows it."""
        split = self.split_special_tokens if split is None else split
        limits = None if cut is None else (cut.most, cut.strategy, cut.side, cut.stride)
        if limits is None and not bare and split is self.split_special_tokens:
            return self.native
        key = (limits, split, bare)
        view = self._views.get(key)
        if view is None:
            # Two threads may make the same view. A lock could be held when the process forks.
            view = guarded(self.name, self._make_view, *key)
            for old in list(self._views)[: 1 - _MOST_VIEWS]:
                self._views.pop(old, None)
            self._views[key] = view
        return view

    def _make_view(self, limits: tuple[Any, ...] | None, split: bool, bare: bool) -> Any:
        view = import_module("tokenizers").Tokenizer(self.native.model)
        parts = ["normalizer", "pre_tokenizer", *([] if bare else ["post_processor", "decoder"])]
        for part in parts:
            own = getattr(self.native, part)
            if own is not None:
                setattr(view, part, own)
        added = self.native.get_added_tokens_decoder()
        view.add_tokens([added[i] for i in sorted(added)])
        view.encode_special_tokens = split
        if limits is not None:
            most, strategy, side, stride = limits
            view.enable_truncation(most, stride=stride, strategy=strategy, direction=side)
        return view


def guarded(where: str, call: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
    """Call the library and turn its errors into ValueError.

    It raises Exception itself and, on a tokenizer.json that contradicts itself, Rust's panics.
    """
    try:
        return call(*arguments, **options)
    except BaseException as error:
        text = str(error)[:200]
        if type(error) is Exception and text.startswith("Truncation error"):
            raise ValueError(
                f"{where}: truncation cannot shorten the texts to max_length: {text}"
            ) from None
        panic = type(error).__name__ == "PanicException"
        if panic and text.startswith("`stride`"):
            raise ValueError(
                f"{where}: stride is not below what max_length leaves of a text: {text}"
            ) from None
        if panic or type(error) is Exception:
            raise ValueError(
                f"{where}: the library tokenizers fails on this tokenizer.json: {text}"
            ) from None
        raise


def _characters(item: Any) -> int:
    """Count the characters of an input."""
    return len(item) if isinstance(item, str) else sum(map(_characters, item))


def _long(pair: tuple[Any, Any], cut: Cut) -> bool:
    """Tell whether both texts may be cut into pieces so often that combining them takes long."""
    first, second = (_characters(text) // max(cut.most, 1) + 1 for text in pair)
    return first > 1 and second > 1 and first * second > 64


def _part(encoding: Any, length: int, side: str, type_id: int) -> Any:
    """Return the first or last tokens of a text as the first or second of a pair.

    The library cannot forget what is cut off, nor change a type, but it pickles encodings as JSON.
    """
    state = json.loads(encoding.__getstate__())
    count = len(state["ids"])
    for name, values in state.items():
        if isinstance(values, list) and len(values) == count:
            state[name] = values[:length] if side == "right" else values[count - length :]
    state["type_ids"] = [type_id] * length
    made = import_module("tokenizers").Encoding()
    made.__setstate__(json.dumps(state).encode())
    return made
