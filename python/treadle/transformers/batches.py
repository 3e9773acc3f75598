"""This module makes the arrays of a batch from rows of tokens that have different lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle._inputs.types import Int


class Padded(NamedTuple):
    """The arguments of a model's call for one batch, [B, S]."""

    input_ids: Int
    attention_mask: Int
    token_type_ids: Int | None


def padded(fields: Mapping[str, Any]) -> Padded:
    """Return a tokenizer's rows as arrays; the numbers that pad them are never read."""
    lengths = np.array([len(row) for row in fields["input_ids"]], np.int64)
    mask = np.arange(lengths.max(initial=0)) < lengths[:, None]

    def array(name: str) -> Int:
        made = np.zeros(mask.shape, np.int64)
        if len(lengths):
            made[mask] = np.concatenate([np.asarray(row, np.int64) for row in fields[name]])
        return made

    types = array("token_type_ids") if "token_type_ids" in fields else None
    return Padded(array("input_ids"), mask.astype(np.int64), types)
