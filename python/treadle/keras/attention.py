"""This module lets Keras' MultiHeadAttention attend on treadle's kernels.

Keras projects and masks; `Attention` replaces what goes on between the projections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from treadle.keras.backend import Unable
from treadle.keras.loop import widened
from treadle.torch.attention import attention_obstacle, scaled_dot_product_attention
from treadle.torch.fallback import fall_back, watched
from treadle.torch.mask_patterns import mask_pattern

if TYPE_CHECKING:
    from treadle.torch.tensors import TensorLike


class Attention:
    """The mixin that stands before Keras' MultiHeadAttention."""

    # Keras sets these.
    _dropout: float
    _attention_axes: tuple[int, ...]
    _flash_attention: bool | None
    _inverse_sqrt_key_dim: float

    def _compute_attention(
        self,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any = None,
        training: Any = None,
        return_attention_scores: bool = False,
        **options: Any,
    ) -> tuple[Any, Any]:
        """Return ([B, T, N, F], None): what each head makes of its query and the keys it sees.

        query           [B, T, N, E]
        key, value      [B, S, N, E] and [B, S, N, F]
        attention_mask  bool [B, T, S], also with 1 for B or with an axis of heads behind B

        A query that sees no key gets the mean of all values, as in Keras without dropout. Gradients
        are those of the mean; the kernel of PyTorch that Keras takes hands on S times as much.
        """
        theirs: Any = super()._compute_attention  # type: ignore[misc]
        own = (query, key, value, attention_mask, training, return_attention_scores)
        if getattr(query, "is_meta", False):  # the shapes of results are wanted, only
            return theirs(*own, **options)
        try:
            self._check(query, bool(training), return_attention_scores, options)
            given = [widened(tensor).transpose(1, 2) for tensor in (query, key, value)]
            y = attended(given, attention_mask, self._inverse_sqrt_key_dim)
            return y.transpose(1, 2).to(query.dtype), None
        except Unable as reason:
            fall_back("MultiHeadAttention", str(reason), "Keras' own code", "treadle.keras")
        return theirs(*own, **options)

    def _check(self, query: Any, training: bool, scores: bool, options: dict[str, Any]) -> None:
        """Raise Unable, with a reason, where Keras' own code has to run."""
        if scores:
            raise Unable("its attention scores are asked for")
        if training and self._dropout:
            raise Unable("it trains with dropout")
        if len(query.shape) != 4 or tuple(self._attention_axes) != (1,):
            raise Unable("it attends over other axes than the first")
        if self._flash_attention or any(options.values()):
            raise Unable("it asks for another kernel")


def attended(given: list[TensorLike], mask: Any, scale: float) -> TensorLike:
    """Return the attention [B, N, T, F] of query, key and value, with Keras' meaning of a mask."""
    query, key, value = given
    reason = attention_obstacle(query, key, value, None)
    if reason is not None:
        raise Unable(reason)
    if mask is None:
        return scaled_dot_product_attention(query, key, value, scale=scale)
    mask = mask.to(torch.bool)
    while len(mask.shape) < 4:
        mask = mask.unsqueeze(-3)
    if watched((query, mask)):
        # The least number, halved, hides a key beside others, and leaves all alike if none is seen.
        hides = torch.where(mask, 0.0, torch.finfo(torch.float32).min / 2)
        return scaled_dot_product_attention(query, key, value, hides, scale=scale)
    blind = ~mask.any(-1, keepdim=True)
    if not bool(blind.any()):
        return _seeing((query, key, value), mask, scale)
    # These queries see what any other of the sequence sees, so that a mask of lengths stays one;
    # their results are replaced.
    seen = mask.any(-2, keepdim=True)
    mask = mask | (blind & (seen | ~seen.any(-1, keepdim=True)))
    y = _seeing((query, key, value), mask, scale)
    return torch.where(blind, value.mean(dim=-2, keepdim=True), y)


def _seeing(
    given: tuple[TensorLike, TensorLike, TensorLike], mask: TensorLike, scale: float
) -> TensorLike:
    """Return the attention of queries each of which sees a key."""
    query, key, value = given
    B, T, S = query.shape[0], query.shape[2], key.shape[2]
    pattern = mask_pattern(mask.expand(B, mask.shape[1], T, S), B)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        pattern.mask,
        is_causal=pattern.is_causal,
        scale=scale,
        lengths=pattern.lengths,
    )
