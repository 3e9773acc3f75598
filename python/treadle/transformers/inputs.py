"""This module checks the arguments of a model's call and takes out the tokens that exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from treadle._inputs import arrays, checks, masks
from treadle._inputs.ragged import Ragged
from treadle.transformers.encoder import Rows

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Int
    from treadle.transformers.encoder import PretrainedEncoder


class Tokens(NamedTuple):
    """The M tokens of a batch that attention_mask keeps."""

    places: Ragged
    rows: Rows


def check_tokens(
    function: str,
    encoder: PretrainedEncoder,
    input_ids: ArrayLike,
    attention_mask: ArrayLike | None,
    token_type_ids: ArrayLike | None,
    position_ids: ArrayLike | None,
    task_type_ids: ArrayLike | None,
) -> Tokens:
    """Check the arguments of a model's call, [B, S] or, where all rows are the same, [1, S]."""
    config = encoder.config
    ids = arrays.to_int64(function, "input_ids", input_ids)
    checks.shape(function, "input_ids", ids, (None, None), ("B", "S"))
    shape = ids.shape[0], ids.shape[1]
    _check_range(function, "input_ids", ids, config.vocab_size, "vocab_size")
    mask = attention_mask
    exists = None if mask is None else masks.kept(function, "attention_mask", mask, shape)
    places = Ragged.of(*shape, exists)
    # A family without types takes zeros, as some tokenizers give them anyway.
    types, tasks = (
        _types(function, name, value, places, (size, getattr(config, size) or 1))
        for name, value, size in (
            ("token_type_ids", token_type_ids, "type_vocab_size"),
            ("task_type_ids", task_type_ids, "task_type_vocab_size"),
        )
    )
    if position_ids is None:
        rows = np.arange(shape[0] + 1, dtype=np.int64) * shape[1]
        positions = encoder.positions(ids.reshape(-1), rows).reshape(shape)
        if positions.size and positions.max() >= config.max_position_embeddings:
            raise ValueError(
                f"{function}: input_ids has {shape[1]} tokens in a row, expected at most "
                f"{encoder.most_tokens}: shorten them with tokenizer(..., truncation=True)"
            )
    else:
        positions = _integers(function, "position_ids", position_ids, shape)
        most = config.max_position_embeddings
        _check_range(function, "position_ids", positions, most, "max_position_embeddings")
    return Tokens(places, Rows(places.gather(ids), types, places.gather(positions), tasks))


def _types(
    function: str, name: str, value: ArrayLike | None, places: Ragged, size: tuple[str, int]
) -> Int | None:
    """Check types, of which there are ``size`` (the name of the entry, its value), and take out
    those of the tokens that are kept."""
    if value is None:
        return None
    types = _integers(function, name, value, (places.batch, places.length))
    _check_range(function, name, types, size[1], size[0])
    return places.gather(types)


def _integers(function: str, name: str, value: ArrayLike, shape: tuple[int, int]) -> Int:
    """Check integers that belong to the tokens: [B, S], or [1, S] for all rows."""
    array = arrays.to_int64(function, name, value)
    if array.shape == (1, shape[1]) and shape[0] != 1:
        array = np.broadcast_to(array, shape)
    checks.shape(function, name, array, shape, ("B", "S"))
    return array


def _check_range(function: str, name: str, array: Int, size: int, meaning: str) -> None:
    """Raise ValueError unless all numbers are in 0..size - 1."""
    if array.size and (array.min() < 0 or array.max() >= size):
        wrong = int(array[(array < 0) | (array >= size)][0])
        raise ValueError(f"{function}: {name} holds {wrong}, expected 0..{size - 1} ({meaning})")
