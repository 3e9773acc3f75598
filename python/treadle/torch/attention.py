"""Attention for autograd, and for what PyTorch records, transforms or watches.

`scaled_dot_product_attention` has PyTorch's arguments and results. Where treadle cannot run,
PyTorch's function runs instead, and a warning says so once for each reason: the reasons of
`treadle.torch.LSTM`, a mask that wants a gradient or is neither bool nor float32, and heads of more
than 256 floats. A formula of PyTorch's operators (`treadle.torch.formula`) takes the place of the
kernels for torch.func's transforms, forward-mode derivatives, batches of gradients and second
derivatives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.overrides import handle_torch_function, has_torch_function

from treadle import functional
from treadle._inputs.arrays import to_int64
from treadle._public import published
from treadle.functional.attention_backward import SavedAttention
from treadle.layers.attention import MAX_HEAD_SIZE
from treadle.torch import formula
from treadle.torch.attention_ops import (
    FORMULA,
    FUNCTION,
    NAMES,
    AttentionArguments,
    Options,
    gradients_by_formula,
)
from treadle.torch.autograd import with_dense_rows
from treadle.torch.fallback import (
    fall_back,
    obstacle,
    of_backward,
    recorded_early,
    transform,
    watched,
)
from treadle.torch.tensors import follow_threads, shared_array

if TYPE_CHECKING:
    from collections.abc import Iterable

    from treadle._inputs.types import ArrayLike
    from treadle.torch.attention_ops import Context
    from treadle.torch.tensors import TensorLike


@published("treadle.torch")
def scaled_dot_product_attention(
    query: TensorLike,
    key: TensorLike,
    value: TensorLike,
    attn_mask: TensorLike | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
    lengths: ArrayLike | None = None,
    softcap: float | None = None,
) -> TensorLike:
    """Run torch.nn.functional.scaled_dot_product_attention on treadle's kernels, also backward.

    Parameters
    ----------
    query, key, value
        float32 [..., S, E], [..., K, E], [..., K, F].
    attn_mask
        bool (True where the query attends) or float32; broadcasts to [..., S, K].
    dropout_p
        The probability with which an attention probability is dropped. The choice follows from
        torch.manual_seed and from the number of calls since, but it is not PyTorch's choice.
    lengths
        Integers [B] in 0..K: how many keys of a row exist. PyTorch's function has no such argument.
    softcap
        Scores become softcap tanh(score / softcap). PyTorch's function has no such argument.

    Returns
    -------
    Tensor
        [..., S, F]

    Raises
    ------
    ValueError
        For a shape that does not fit.
    TypeError
        For another kind of object.
    RuntimeError
        For lengths or softcap where treadle cannot run: PyTorch does not have them.

    Examples
    --------
    >>> import torch, treadle.torch
    >>> q = torch.ones(2, 4, 8, 16, requires_grad=True)
    >>> treadle.torch.scaled_dot_product_attention(q, q, q, is_causal=True).sum().backward()
    >>> q.grad.shape
    torch.Size([2, 4, 8, 16])
    """
    every = (query, key, value, attn_mask)
    recorded = watched(every) or recorded_early()
    if recorded and not torch.compiler.is_compiling() and has_torch_function(every):
        # A mode or a tensor's class takes the call, as it does those of PyTorch's functions.
        return handle_torch_function(
            scaled_dot_product_attention,
            every,
            *(*every, dropout_p, is_causal),
            scale=scale,
            enable_gqa=enable_gqa,
            lengths=lengths,
            softcap=softcap,
        )
    reason = attention_obstacle(query, key, value, attn_mask)
    if reason is None and recorded and not plain(query, key, value) and transform() is None:
        reason = "shapes that broadcast are being compiled"
    if reason is not None:
        if lengths is not None or softcap is not None:
            raise RuntimeError(f"{FUNCTION}: {reason}, where lengths and softcap are not to be had")
        fall_back("scaled_dot_product_attention", reason)
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    options = Options(is_causal, scale, enable_gqa, softcap, dropout_p)
    return attend(query, key, value, attn_mask, lengths, options, recorded)


def attend(
    query: TensorLike,
    key: TensorLike,
    value: TensorLike,
    mask: TensorLike | None,
    lengths: ArrayLike | None,
    options: Options,
    recorded: bool,
) -> TensorLike:
    """Attend where nothing is in the way, as an operator in graphs, for autograd, or else at once.

    The arguments are those of `scaled_dot_product_attention`, and whether the call is `watched`.
    """
    reason = None if not recorded or torch.compiler.is_compiling() else transform()
    if reason is not None:
        fall_back("scaled_dot_product_attention", reason, FORMULA)
        return formula.attention((query, key, value), mask, lengths, None, options)
    # The seed is a tensor, so that a compiled graph draws another number in every call.
    seed = torch.randint(2**62, (1,)) if options.dropout_p else None
    if recorded:
        rows = None if lengths is None else torch.as_tensor(lengths)
        y, _ = torch.ops.treadle.attention(query, key, value, mask, rows, seed, *options)
        return y
    given = (query, key, value)
    if options.dropout_p or (torch.is_grad_enabled() and any(t.requires_grad for t in given)):
        rows = None if lengths is None else _saveable(lengths)
        return _Attend.apply(mask, rows, seed, options, *given)
    follow_threads()
    return torch.from_numpy(
        functional.scaled_dot_product_attention(
            shared_array(query),
            shared_array(key),
            shared_array(value),
            shared_array(mask),
            is_causal=options.is_causal,
            scale=options.scale,
            enable_gqa=options.enable_gqa,
            lengths=lengths,
            softcap=options.softcap,
        )
    )


def attention_obstacle(
    query: TensorLike, key: TensorLike, value: TensorLike, mask: TensorLike | None
) -> str | None:
    """Return why treadle's attention cannot run on these heads, or None."""
    given = (query, key, value)
    reason = tensor_obstacle(given, (mask,))
    if reason is None and max(t.shape[-1] if t.dim() else 0 for t in given) > MAX_HEAD_SIZE:
        return f"a head has more than {MAX_HEAD_SIZE} floats"
    return reason


def tensor_obstacle(
    given: tuple[TensorLike, ...], masks: Iterable[TensorLike | None]
) -> str | None:
    """Return why treadle's attention cannot run on such tensors of any size, or None."""
    reason = obstacle(given)
    if reason is not None:
        return reason
    if any(t.is_nested for t in given):
        return "a tensor is nested"
    for mask in masks:
        if mask is None:
            continue
        if not isinstance(mask, torch.Tensor) or mask.dtype not in (torch.bool, torch.float32):
            return "the mask is neither bool nor float32"
        if mask.requires_grad and torch.is_grad_enabled():
            return "the mask wants a gradient"
        if not mask.is_cpu:
            return f"a tensor is on {mask.device}"
    return None


def _saveable(lengths: ArrayLike) -> TensorLike:
    """Return lengths as a tensor, in which a change in place is noticed, or as a copy."""
    if isinstance(lengths, torch.Tensor):
        return lengths
    return torch.from_numpy(to_int64(FUNCTION, "lengths", lengths))


def plain(*tensors: TensorLike) -> bool:
    """Tell whether all tensors have the shape [B, N, rows, columns] with the same B."""
    return all(t.dim() == 4 for t in tensors) and all(
        t.shape[0] == tensors[0].shape[0] for t in tensors
    )


class _Attend(torch.autograd.Function):
    """Attention for autograd: y from query, key and value.

    All that the backward pass reads is saved by PyTorch's engine, which notices where a tensor (the
    mask, too) has been changed in place, and frees the memory when the pass is over.
    """

    @staticmethod
    def forward(
        ctx: Context,
        mask: TensorLike | None,
        lengths: TensorLike | None,
        seed: TensorLike | None,
        options: Options,
        *given: TensorLike,
    ) -> TensorLike:
        query, key, value = given
        arguments = AttentionArguments(query, key, value, mask, lengths, seed, *options)
        saved = arguments.forward(SavedAttention._function)
        result: TensorLike = torch.from_numpy(saved.y)
        ctx.options = options
        ctx.save_for_backward(*given, mask, lengths, seed, result, torch.from_numpy(saved.lse))
        return result

    @staticmethod
    def backward(ctx: Context, dy: TensorLike) -> tuple[TensorLike | None, ...]:
        query, key, value, mask, lengths, seed, y, lse = ctx.saved_tensors
        arguments = AttentionArguments(query, key, value, mask, lengths, seed, *ctx.options)
        wanted = ctx.needs_input_grad[4:]
        reason = of_backward((dy,))
        if reason is not None:
            return *[None] * 4, *gradients_by_formula(arguments, wanted, dy, reason)
        if watched((dy,)) and plain(query, key, value):
            found = torch.ops.treadle.attention_backward(*ctx.saved_tensors, dy, *ctx.options)
            return *[None] * 4, *(
                g if want else None for g, want in zip(found, wanted, strict=True)
            )
        results = shared_array(with_dense_rows(y)), shared_array(lse.contiguous())
        saved = arguments.forward(SavedAttention._function, results)
        gradients = saved.backward("treadle.torch", shared_array(dy))
        own = zip(NAMES, wanted, strict=True)
        return *[None] * 4, *(torch.from_numpy(gradients[n]) if w else None for n, w in own)
