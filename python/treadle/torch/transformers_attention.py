"""treadle's attention under its name in Transformers' models.

The function takes the masks of Transformers' "eager" and computes what that computes, so that a
model is right whether it hands the mask on, adds something to it or cuts it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as nn

from treadle._public import published
from treadle.torch.attention import attend, attention_obstacle, plain
from treadle.torch.attention_ops import Options
from treadle.torch.fallback import fall_back, recorded_early, watched
from treadle.torch.mask_patterns import MaskPattern, kept_pattern, without_repetitions
from treadle.torch.transformers_classes import refuse_other_classes

if TYPE_CHECKING:
    from treadle.torch.tensors import TensorLike

# These arguments change what a model's attention computes, and treadle does not have them.
REFUSED = {
    "s_aux": "sinks",
    "sinks": "sinks",
    "indices": "a sparse choice of keys",
    "block_indices": "a sparse choice of keys",
}
# These do not: they tell kernels of other kinds what the mask says, too.
IGNORED = (
    "sliding_window",
    "cu_seq_lens_q",
    "cu_seq_lens_k",
    "max_length_q",
    "max_length_k",
    "position_ids",
    "deterministic",
)


@published("treadle.torch")
def register_attention(name: str = "treadle") -> None:
    """Let Transformers' models run and train on treadle's attention, by its name.

    ``AutoModel.from_pretrained(directory, attn_implementation="treadle")`` then computes attention
    as "eager" does, on treadle's kernels: padding, causal and sliding masks, position biases, caps
    and attention dropout included; grouped heads are not repeated in memory. Where treadle cannot
    run, PyTorch's functions run, and a warning says so once for each reason: with other dtypes than
    float32, under autocast, with a bias that is being trained, and with output_attentions.

    Models whose classes do not ask Transformers for their attention function (MPNet, DeBERTa,
    Falcon, ...) would never call treadle's. They are refused when they are built.

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
        For a name that Transformers would misunderstand. Later, for a model that would not call
        treadle's attention, and when a model's attention has parts that treadle does not have
        (sinks, a sparse choice of keys, a paged cache).

    Examples
    --------
    >>> import treadle.torch
    >>> treadle.torch.register_attention()
    """
    others = ("eager", "sdpa", "flex_attention")
    if type(name) is not str or not name or "flash" in name or "|" in name or name in others:
        raise ValueError(
            f"treadle.torch.register_attention: name is {name!r}, expected one without 'flash' "
            "and '|' that Transformers does not use itself"
        )
    try:
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import sdpa_mask  # noqa: F401 - what attention_mask uses
    except ImportError as error:
        raise ImportError(
            "treadle.torch.register_attention: Transformers' attention interface cannot be "
            f"imported ({error}); pip install 'transformers>=5'"
        ) from error
    refuse_other_classes(name)
    AttentionInterface.register(name, attention_forward)
    # Without a mask function for this name, models would pass no mask and attend to padding.
    AttentionMaskInterface.register(name, attention_mask)


def attention_mask(
    *sizes: Any, dtype: torch.dtype = torch.float32, **options: Any
) -> TensorLike | None:
    """Return the mask that Transformers' "eager" has: 0 where a query attends, else the least
    number of the dtype, [B, 1, S, K]. None stands for zeros.

    What does not change from row to row or from query to query is in memory once.
    """
    from transformers.masking_utils import sdpa_mask

    # Else None could also mean a causal mask.
    options |= {"allow_is_causal_skip": False, "allow_torch_fix": False}
    seen = sdpa_mask(*sizes, **options)
    if seen is None:
        return None
    base = without_repetitions(seen)
    numbers = torch.zeros(base.shape, dtype=dtype, device=base.device)
    numbers = numbers.masked_fill(base.logical_not(), torch.finfo(dtype).min)
    return numbers.expand(seen.shape)


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
    position_bias: TensorLike | None = None,
    softcap: float | None = None,
    cache: object = None,
    **options: Any,
) -> tuple[TensorLike, TensorLike | None]:
    """Attend for a model of Transformers: [B, N, S, E] -> [B, S, N, E].

    ``attention_mask`` is added to the scores [B, N, S, K], or bool, True where a query attends. The
    second result is None or, with output_attentions, the probabilities.
    """
    for name, meaning in REFUSED.items():
        if options.get(name) is not None:
            raise _refusal(f"the model's attention has {meaning} ({name})")
    if cache is not None:
        raise _refusal("the cache is paged")
    mask = _whole_mask(attention_mask, position_bias, is_causal, query, key)
    causal = mask is None and bool(is_causal) and query.shape[2] > 1
    dropped = dropout if module.training else 0.0
    reason = attention_obstacle(query, key, value, mask)
    recorded = watched((query, key, value, mask)) or recorded_early()
    if reason is None and recorded and not plain(query, key, value):
        reason = "shapes that broadcast are being compiled"
    head_mask, by_formula = options.get("head_mask"), softcap is not None
    if options.get("output_attentions"):
        reason, by_formula = "output_attentions is True", True
    elif head_mask is not None:
        reason, by_formula = "a head mask is given", True
    grouped = query.shape[1] != key.shape[1]
    given = Options(causal, scaling, grouped, softcap, dropped, recorded)
    if reason is not None:
        fall_back("register_attention", reason)
        if mask is None and causal:
            mask = _causal_mask(query, key)
        if by_formula:
            y, probabilities = _formula(query, key, value, mask, given, head_mask)
        else:
            y, probabilities = _sdpa(query, key, value, mask, given), None
        return y.transpose(1, 2).contiguous(), probabilities
    pattern = MaskPattern(mask, None, causal)
    if mask is not None and not recorded:
        pattern = kept_pattern(mask, query.shape[0])
    given = given._replace(is_causal=pattern.is_causal)
    y = attend(query, key, value, pattern.mask, pattern.lengths, given, recorded)
    return y.transpose(1, 2).contiguous(), None


def _whole_mask(
    mask: TensorLike | None,
    bias: TensorLike | None,
    is_causal: bool | None,
    query: TensorLike,
    key: TensorLike,
) -> TensorLike | None:
    """Return the mask with the position bias, for the keys that there are."""
    if mask is not None and mask.dim() == 4 and mask.shape[3] > key.shape[2]:
        mask = mask[..., : key.shape[2]]  # in Transformers 4, a cache of a fixed size
    if bias is None:
        return mask
    if mask is None and is_causal:
        mask = _causal_mask(query, key)
    if mask is None:
        return bias
    return bias.masked_fill(~mask, -torch.inf) if mask.dtype is torch.bool else bias + mask


def _causal_mask(query: TensorLike, key: TensorLike) -> TensorLike:
    """Return the mask that ``is_causal`` means in PyTorch's functions: query s sees keys 0..s."""
    whole = torch.ones((query.shape[2], key.shape[2]), dtype=torch.bool, device=query.device)
    mask: TensorLike = whole.tril()[None, None]
    return mask


def _refusal(reason: str) -> ValueError:
    return ValueError(
        f"treadle.torch.register_attention: {reason}, which treadle's attention does not have; "
        'use attn_implementation="eager"'
    )


def _sdpa(
    query: TensorLike, key: TensorLike, value: TensorLike, mask: TensorLike | None, options: Options
) -> TensorLike:
    """Attend by PyTorch's function, in any dtype."""
    if mask is not None and mask.is_floating_point() and mask.dtype is not query.dtype:
        least = torch.finfo(query.dtype).min
        mask = torch.clamp(mask, min=least).to(query.dtype)
    y: TensorLike = nn.scaled_dot_product_attention(
        query,
        key,
        value,
        mask,
        options.dropout_p,
        scale=options.scale,
        enable_gqa=options.enable_gqa,
    )
    return y


def _formula(
    query: TensorLike,
    key: TensorLike,
    value: TensorLike,
    mask: TensorLike | None,
    options: Options,
    head_mask: TensorLike | None,
) -> tuple[TensorLike, TensorLike]:
    """Attend step by step, as Transformers' "eager" does, and return the probabilities, too."""
    groups = query.shape[1] // key.shape[1]
    key, value = (t.repeat_interleave(groups, 1) if groups > 1 else t for t in (key, value))
    scale = query.shape[-1] ** -0.5 if options.scale is None else options.scale
    scores = torch.matmul(query, key.transpose(2, 3)) * scale
    if options.softcap is not None:
        scores = torch.tanh(scores / options.softcap) * options.softcap
    if mask is not None and mask.dtype is torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    elif mask is not None:
        scores = scores + mask
    probabilities = nn.softmax(scores, -1, dtype=torch.float32).to(query.dtype)
    probabilities = nn.dropout(probabilities, options.dropout_p, options.dropout_p > 0)
    if head_mask is not None:
        probabilities = probabilities * head_mask
    return torch.matmul(probabilities, value), probabilities
