"""This module lets PyTorch's encoder layer call treadle's attention.

Where no gradient is wanted, the layer computes itself in one function, the fast path, which takes
the weights of the attention module and never calls it.
"""

from __future__ import annotations

from typing import Any

import torch

from treadle.torch.multihead import MultiheadAttention


def keep_off_fast_path(module: Any) -> None:
    """Let a torch.nn.TransformerEncoderLayer call its attention module if that is treadle's.

    The layer has a number for the activation that its fast path would compute, 0 for those that
    the fast path does not know. Nothing else reads it.
    """
    if _has_our_attention(module):
        module.activation_relu_or_gelu = 0


def allow_fast_path(module: Any) -> None:
    """Undo `keep_off_fast_path`, while the attention is still treadle's: 1 is relu, 2 is gelu."""
    if not _has_our_attention(module):
        return
    activation = module.activation
    if activation is torch.nn.functional.relu or isinstance(activation, torch.nn.ReLU):
        module.activation_relu_or_gelu = 1
    elif activation is torch.nn.functional.gelu or isinstance(activation, torch.nn.GELU):
        module.activation_relu_or_gelu = 2


def _has_our_attention(module: Any) -> bool:
    layer = isinstance(module, torch.nn.TransformerEncoderLayer)
    return layer and isinstance(getattr(module, "self_attn", None), MultiheadAttention)
