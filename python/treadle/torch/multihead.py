"""torch.nn.MultiheadAttention with treadle's attention between PyTorch's projections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as nn

from treadle._public import published
from treadle.layers.attention import MAX_HEAD_SIZE
from treadle.torch.attention import attend, tensor_obstacle
from treadle.torch.attention_ops import Options
from treadle.torch.fallback import fall_back, obstacle, recorded_early, watched
from treadle.torch.mask_patterns import MaskPattern, mask_pattern
from treadle.torch.tools import ForTools, node_of

if TYPE_CHECKING:
    from typing import TypeAlias

    from treadle.torch.tensors import TensorLike

    _Masks: TypeAlias = tuple[TensorLike | None, TensorLike | None]
    """key_padding_mask and attn_mask"""


@published("treadle.torch")
class MultiheadAttention(ForTools, torch.nn.MultiheadAttention):
    """torch.nn.MultiheadAttention, its attention on treadle's kernels, forward and backward.

    Parameters, state_dict, hooks, pickling and copying are PyTorch's own, and so are the
    projections. PyTorch's ``forward`` runs instead, and a warning says so once for each class and
    reason, with ``need_weights=True`` (PyTorch's default: pass False), with add_bias_kv or
    add_zero_attn, and in all cases that `treadle.torch.scaled_dot_product_attention` cannot run.

    Examples
    --------
    >>> import torch, treadle.torch
    >>> m, x = treadle.torch.MultiheadAttention(16, 4, batch_first=True), torch.zeros(2, 5, 16)
    >>> y, _ = m(x, x, x, need_weights=False)
    >>> y.sum().backward()
    >>> m.in_proj_weight.grad.shape
    torch.Size([48, 16])
    """

    theirs = torch.nn.MultiheadAttention
    # PyTorch sets these.
    embed_dim: int
    kdim: int
    vdim: int
    num_heads: int
    head_dim: int
    dropout: float
    batch_first: bool
    add_zero_attn: bool
    training: bool
    in_proj_weight: TensorLike
    in_proj_bias: TensorLike | None
    q_proj_weight: TensorLike
    k_proj_weight: TensorLike
    v_proj_weight: TensorLike
    bias_k: TensorLike | None
    _qkv_same_embed_dim: bool

    def forward(
        self,
        query: TensorLike,
        key: TensorLike,
        value: TensorLike,
        key_padding_mask: TensorLike | None = None,
        need_weights: bool = True,
        attn_mask: TensorLike | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[TensorLike, TensorLike | None]:
        """Attend as torch.nn.MultiheadAttention does: (y, None), or (y, weights) if need_weights.

        Parameters
        ----------
        query
            float32 [S, B, H], [B, S, H] with batch_first, [S, H].
        key, value
            [K, B, kdim] and [K, B, vdim], [B, K, ..], [K, ..].
        key_padding_mask
            [B, K] ([K]): bool, True where a key is padding, or float32 to be added.
        attn_mask
            [S, K] or [B*N, S, K]: bool, True where a query must not attend, or float32.
        is_causal
            A promise that attn_mask is the causal mask, which then need not be read.

        Notes
        -----
        Raises what PyTorch raises.
        """
        if isinstance(query, torch.fx.Proxy):
            rest = key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights
            return node_of(self, query, *rest, is_causal)
        if query.is_nested and query is key and key is value:
            y = self._forward_nested(query, (key_padding_mask, attn_mask), need_weights)
            if y is not None:
                return y, None
        masks = key_padding_mask, attn_mask
        reason = self._obstacle(query, key, value, masks, need_weights, is_causal)
        if reason is not None:
            fall_back(self, reason)
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights,
                is_causal,
            )  # fmt: skip
        recorded = watched((query, key, value, *masks)) or recorded_early()
        batched = query.dim() == 3
        turned = batched and not self.batch_first
        projected = self._projected(query, key, value)
        rows = [x if batched else x.unsqueeze(0) for x in projected]
        rows = [x.transpose(0, 1) if turned else x for x in rows]
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in rows)
        pattern = MaskPattern(None, None, True)
        if not is_causal or key_padding_mask is not None:
            sizes = q.shape[0], self.num_heads, q.shape[2], k.shape[2]
            merged = _merged(key_padding_mask, attn_mask, sizes)
            pattern = MaskPattern(merged) if recorded else _pattern(merged, sizes[0])
        y = self._attend(q, k, v, pattern, recorded)
        y = y.transpose(1, 2).flatten(2)
        y = nn.linear(y, self.out_proj.weight, self.out_proj.bias)
        y = y.transpose(0, 1) if turned else y
        return (y if batched else y.squeeze(0)), None

    def _forward_nested(
        self, x: TensorLike, masks: _Masks, need_weights: bool
    ) -> TensorLike | None:
        """Attend for a nested tensor [B, S of each row, H], to which PyTorch's encoder turns a
        batch with padding; return None where PyTorch's forward has to run."""
        plain = self.batch_first and self._qkv_same_embed_dim and self.bias_k is None
        if need_weights or self.add_zero_attn or not plain or self.head_dim > MAX_HEAD_SIZE:
            return None
        if masks != (None, None) or obstacle((x, *self.parameters())) is not None:
            return None
        lengths = [row.shape[0] for row in x.unbind()]
        if not lengths or not all(lengths):
            return None
        packed = nn.linear(x, self.in_proj_weight, self.in_proj_bias).to_padded_tensor(0.0)
        heads = packed.unflatten(-1, (3, self.num_heads, -1)).transpose(1, 3)
        q, k, v = heads[:, :, 0], heads[:, :, 1], heads[:, :, 2]
        y = self._attend(q, k, v, MaskPattern(None, torch.tensor(lengths)), False)
        y = y.transpose(1, 2).flatten(2)
        rows = [row[:length] for row, length in zip(y, lengths, strict=True)]
        nested = torch.nested.as_nested_tensor(rows)
        result: TensorLike = nn.linear(nested, self.out_proj.weight, self.out_proj.bias)
        return result

    def _attend(
        self, q: TensorLike, k: TensorLike, v: TensorLike, pattern: MaskPattern, recorded: bool
    ) -> TensorLike:
        dropout = self.dropout if self.training else 0.0
        options = Options(pattern.is_causal, None, False, None, dropout, recorded)
        return attend(q, k, v, pattern.mask, pattern.lengths, options, recorded)

    def _obstacle(
        self,
        query: TensorLike,
        key: TensorLike,
        value: TensorLike,
        masks: _Masks,
        need_weights: bool,
        is_causal: bool,
    ) -> str | None:
        """Return why PyTorch's forward has to run, or None."""
        if need_weights:
            return "need_weights is True"
        if self.bias_k is not None or self.add_zero_attn:
            return "add_bias_kv and add_zero_attn are PyTorch's"
        reason = tensor_obstacle((query, key, value, *self.parameters()), masks)
        if reason is not None:
            return reason
        if self.head_dim > MAX_HEAD_SIZE:
            return f"a head has more than {MAX_HEAD_SIZE} floats"
        if not self._fits(query, key, value, masks) or (is_causal and masks[1] is None):
            return "its arguments do not fit"  # PyTorch's error says more
        return None

    def _fits(self, query: TensorLike, key: TensorLike, value: TensorLike, masks: _Masks) -> bool:
        """Tell whether the shapes are those that PyTorch expects."""
        rank = query.dim()
        if rank not in (2, 3) or key.dim() != rank or value.dim() != rank:
            return False
        sizes = self.embed_dim, self.kdim, self.vdim
        if (query.shape[-1], key.shape[-1], value.shape[-1]) != sizes:
            return False
        time = 1 if rank == 3 and self.batch_first else 0
        batch = query.shape[1 - time] if rank == 3 else 1
        if key.shape[:-1] != value.shape[:-1] or (rank == 3 and key.shape[1 - time] != batch):
            return False
        queries, keys = query.shape[time], key.shape[time]
        padding, mask = masks
        if padding is not None and padding.shape != ((batch, keys) if rank == 3 else (keys,)):
            return False
        every = (queries, keys), (batch * self.num_heads, queries, keys)
        return mask is None or mask.shape in every

    def _projected(
        self, query: TensorLike, key: TensorLike, value: TensorLike
    ) -> tuple[TensorLike, TensorLike, TensorLike]:
        bias = self.in_proj_bias
        if self._qkv_same_embed_dim:
            weight = self.in_proj_weight
            if query is key and key is value:
                q, k, v = nn.linear(query, weight, bias).chunk(3, dim=-1)
                return q, k, v
            weights = weight.chunk(3)
        else:
            weights = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        biases = (None, None, None) if bias is None else bias.chunk(3)
        q, k, v = map(nn.linear, (query, key, value), weights, biases)
        return q, k, v


def _pattern(mask: TensorLike | None, rows: int) -> MaskPattern:
    """Return what a merged mask says. (In a graph, the operator looks when it runs.)"""
    if mask is None:
        return MaskPattern(mask)
    pattern = mask_pattern(mask if mask.dim() == 4 else mask[None, None], rows)
    return MaskPattern(mask) if pattern.mask is not None else pattern


def _merged(
    padding: TensorLike | None, mask: TensorLike | None, sizes: tuple[int, int, int, int]
) -> TensorLike | None:
    """Merge both masks into one of `scaled_dot_product_attention`, where True means attend."""
    batch, heads, queries, keys = sizes
    parts = []
    if padding is not None:
        parts.append(padding.reshape((batch, 1, 1, keys)))
    if mask is not None:
        parts.append(mask.view(batch, heads, queries, keys) if mask.dim() == 3 else mask)
    if all(part.dtype is torch.bool for part in parts):
        parts = [part.logical_not() for part in parts]
        return parts[0] & parts[1] if len(parts) == 2 else parts[0] if parts else None
    added = [
        torch.zeros_like(part, dtype=torch.float32).masked_fill_(part, -torch.inf)
        if part.dtype is torch.bool
        else part
        for part in parts
    ]
    return added[0] + added[1] if len(added) == 2 else added[0]
