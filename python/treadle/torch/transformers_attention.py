"""treadle's attention under its name in Transformers' models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from treadle._public import published
from treadle.torch.attention import attention_obstacle, scaled_dot_product_attention
from treadle.torch.fallback import fall_back

if TYPE_CHECKING:
    from treadle.torch.tensors import TensorLike


@published("treadle.torch")
def register_attention(name: str = "treadle") -> None:
    """Let Transformers' models run and train on treadle's attention, by its name.

    ``AutoModel.from_pretrained(directory, attn_implementation="treadle")`` then computes every
    attention that has no other parts than PyTorch's own by
    `treadle.torch.scaled_dot_product_attention`, padding, causal and sliding masks and attention
    dropout included; grouped heads are not repeated in memory. Where treadle cannot run,
    Transformers' "sdpa" runs, and a warning says so once for each reason.

    Parameters
    ----------
    name
        The name of the implementation. It must not contain "flash", for which Transformers has
        another meaning.

    Raises
    ------
    ImportError
        Without Transformers.
    ValueError
        For a name that Transformers would misunderstand.

    Examples
    --------
    >>> import treadle.torch
    >>> treadle.torch.register_attention()
    """
    if type(name) is not str or not name or "flash" in name:
        raise ValueError(
            f"treadle.torch.register_attention: name is {name!r}, expected one without 'flash'"
        )
    try:
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import sdpa_mask
    except ImportError as error:
        raise ImportError(
            "treadle.torch.register_attention: Transformers' attention interface cannot be "
            f"imported ({error}); pip install 'transformers>=5'"
        ) from error
    AttentionInterface.register(name, attention_forward)
    # Without a mask function for this name, models would pass no mask and attend to padding.
    AttentionMaskInterface.register(name, sdpa_mask)


def attention_forward(
    module: torch.nn.Module,
    query: TensorLike,
    key: TensorLike,
    value: TensorLike,
    attention_mask: TensorLike | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: object = None,
    softcap: float | None = None,
    s_aux: object = None,
    cache: object = None,
    **options: object,
) -> tuple[TensorLike, None]:
    """Attend for a model of Transformers: [B, N, S, E] -> [B, S, N, E], and no probabilities.

    ``attention_mask`` is bool [B, 1, S, K], True where a query attends, or None.
    """
    if s_aux is not None:
        raise ValueError(
            "treadle.torch: the model's attention has sinks (s_aux), which treadle does not have; "
            'use attn_implementation="eager"'
        )
    reason = attention_obstacle(query, key, value, attention_mask)
    if reason is None and position_bias is not None:
        reason = "the attention has a position bias"
    if reason is None and cache is not None:
        reason = "the cache is paged"
    if reason is not None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        fall_back("register_attention", reason)
        more = {"position_bias": position_bias, "cache": cache, "softcap": softcap, **options}
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **more
        )
        return output, None
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    queries, keys = query.shape[2], key.shape[2]
    causal = bool(causal) and queries > 1 and attention_mask is None
    if causal and keys > queries:  # an empty static cache, treated as in sdpa_attention_forward
        key, value = key[:, :, :queries], value[:, :, :queries]
    lengths = None
    if attention_mask is not None and not torch.compiler.is_compiling():
        lengths = _prefix_lengths(attention_mask)
    y = scaled_dot_product_attention(
        query,
        key,
        value,
        attention_mask if lengths is None else None,
        dropout,
        causal,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
        lengths=lengths,
        softcap=softcap,
    )
    return y.transpose(1, 2).contiguous(), None


def _prefix_lengths(mask: TensorLike) -> TensorLike | None:
    """Return lengths [B] if a mask only ends each row's keys (padding on the right), else None.

    Keys beyond a length cost nothing; a mask is read for every query.
    """
    if mask.dtype is not torch.bool or mask.dim() != 4 or mask.shape[1] != 1:
        return None
    if mask.stride(2) and not bool((mask == mask[:, :, :1]).all()):
        return None
    exists = mask[:, 0, 0]
    if bool((exists[:, 1:] > exists[:, :-1]).any()):
        return None
    return exists.sum(dim=1)
