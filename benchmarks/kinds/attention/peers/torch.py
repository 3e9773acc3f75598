"""PyTorch runs F.scaled_dot_product_attention under inference_mode.

Lengths become a mask that broadcasts, [B, 1, 1, K], or when causal [B, 1, S, K], since is_causal
and a mask exclude each other. Grouped heads are passed as they are, with enable_gqa.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from ....core.dtypes import Array
from ....core.kind import Prepared
from ....core.models.attention.case import AttentionCase, AttentionInputs, mask
from . import other_way, other_ways


def variants(case: AttentionCase, threads: int) -> tuple[str, ...]:
    """Return the ways that give the right answer."""
    return ("function", *other_ways(case))


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def prepare(
    case: AttentionCase, inputs: AttentionInputs, threads: int, variant: str
) -> Prepared[Array]:
    """Make the call ready in one of the variants."""
    other = other_way(prepare, case, inputs, threads, variant, "function")
    if other is not None:
        return other
    parts = [torch.from_numpy(part) for part in inputs]
    more: dict[str, Any] = {"enable_gqa": True} if case.kv_heads != case.N else {}
    if case.lengths:
        more["attn_mask"] = torch.from_numpy(mask(case))
    else:
        more["is_causal"] = case.causal
    return Prepared(lambda: scaled_dot_product_attention(*parts, **more), lambda y: y.numpy())
