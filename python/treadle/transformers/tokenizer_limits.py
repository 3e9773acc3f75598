"""This module has the lengths of rows: where texts are cut, and how far rows are padded."""

from __future__ import annotations

from typing import Any

from treadle._inputs.checks import MAX_SIZE, integer, shown
from treadle.transformers.padding import Padding
from treadle.transformers.tokenizer_arguments import NAME, STRATEGIES, choice
from treadle.transformers.tokenizer_library import Cut
from treadle.transformers.tokenizer_settings import NO_LIMIT, SIDES
from treadle.transformers.tokenizer_vocabulary import Vocabulary

# No row is padded to more tokens, since a number in a file must not take all memory.
_MAX_PADDED = 2**24


class Limits(Vocabulary):
    """A tokenizer's limit and sides; programs may set them, so they are checked in every call."""

    model_max_length: int
    padding_side: str
    truncation_side: str
    pad_token_type_id = 0

    @property
    def max_len_single_sentence(self) -> int:
        """The number of tokens of a text, without the special ones, that fit into the limit."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=False)

    @property
    def max_len_sentences_pair(self) -> int:
        """The number of tokens of two texts, without the special ones, that fit into the limit."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

    def _most(self, max_length: int | None) -> int:
        if max_length is None:
            return integer(NAME, "model_max_length", self.model_max_length, 0, 2 * NO_LIMIT)
        return integer(NAME, "max_length", max_length, 0)

    def _cut(
        self, options: dict[str, Any], pad: str | None, most: int, *, pair: bool
    ) -> Cut | None:
        """Check the options of truncation; return None if nothing is to be cut."""
        wanted, special = options["truncation"], options["add_special_tokens"]
        if wanted is None:
            wanted = options["max_length"] is not None and pad is None
        strategy = choice("truncation", wanted, STRATEGIES)
        stride = integer(NAME, "stride", options["stride"], 0)
        if strategy is None or most > MAX_SIZE:
            return None
        room = self._check_most(most, pair=pair, special=special)
        if not options["return_overflowing_tokens"]:
            stride = 0
        elif stride and stride >= room:
            raise ValueError(
                f"{NAME}: stride is {stride} and max_length is {most}, of which {room} are for "
                f"texts, expected a stride below {room}"
            )
        overflowing = options["return_overflowing_tokens"]
        return Cut(most, strategy, self._side("truncation_side"), stride, overflowing=overflowing)

    def _side(self, name: str, value: object = None) -> str:
        """Check an argument, or the attribute of that name, which may be set to anything."""
        value = getattr(self, name) if value is None else value
        if not (isinstance(value, str) and value in SIDES):
            raise ValueError(f'{NAME}: {name} is {shown(value)}, expected "left" or "right"')
        return value

    def _check_most(self, most: int, *, pair: bool, special: bool) -> int:
        """Return how many tokens of texts fit between the special ones."""
        around = self.num_special_tokens_to_add(pair) if special else 0
        if most < around:
            raise ValueError(
                f"{NAME}: max_length is {most}, expected at least {around} special tokens"
            )
        return most - around

    def _padding(
        self,
        pad: str | None,
        cut: Cut | None,
        most: int,
        multiple: int | None,
        side: str | None,
    ) -> Padding | None:
        side = self._side("padding_side", side)
        if multiple is not None:
            multiple = integer(NAME, "pad_to_multiple_of", multiple, most=_MAX_PADDED)
        if pad is None:
            return None
        if self.pad_token is None or self.pad_token_id is None:
            raise ValueError(f"{NAME}: padding is asked for, but the tokenizer has no pad_token")
        if pad == "max_length" and most > _MAX_PADDED:
            raise ValueError(
                f'{NAME}: padding is "max_length" and that is {most}, expected max_length '
                f"up to {_MAX_PADDED}"
            )
        if cut and multiple and most % multiple:
            raise ValueError(
                f"{NAME}: max_length is {most} and pad_to_multiple_of is {multiple}, expected a "
                "multiple: padding would exceed what truncation keeps to"
            )
        return Padding(
            length=most if pad == "max_length" else None,
            multiple=multiple or 1,
            side=side,
            token=self.pad_token,
            token_id=self.pad_token_id,
            type_id=self.pad_token_type_id,
        )
