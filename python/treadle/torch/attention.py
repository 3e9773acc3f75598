"""Attention for autograd, and as custom operators for torch.compile and torch.export.

`scaled_dot_product_attention` has PyTorch's arguments and results. What treadle cannot do runs PyTorch's
own, and a warning says so once for each reason: what `treadle.torch.LSTM` names, and a mask that wants a
gradient or is neither bool nor float32, and heads of more than 256 floats.
"""

from __future__ import annotations

from typing import Any

import torch

from treadle import functional
from treadle._inputs.attention import AttentionArguments
from treadle._public import published
from treadle.functional.attention_backward import SavedAttention
from treadle.torch.fallback import fall_back, obstacle
from treadle.torch.tensors import shared_array as array

_NAMES = ("query", "key", "value")
MOST = 256  # floats of a head: kMostHeadSize of the kernels


@published("treadle.torch")
def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
    lengths: Any = None,
    softcap: float | None = None,
) -> Any:
    """torch.nn.functional.scaled_dot_product_attention on treadle's kernels, forward and backward.

    query, key, value  float32 [..., S, E], [..., K, E], [..., K, F]
    attn_mask          bool (True where the query attends) or float32, broadcasts to [..., S, K]
    dropout_p          the probability with which an attention probability is dropped; which are kept
                       follows from torch.manual_seed and from the number of calls since, but they
                       are not those that PyTorch keeps
    lengths            integers [B] in 0..K, beside PyTorch's arguments: the keys of a row that exist
    softcap            beside PyTorch's, too: scores become softcap tanh(score / softcap)

    Returns [..., S, F]. Raises ValueError for a shape that does not fit, TypeError for another kind of
    object; lengths and softcap need treadle, and a RuntimeError says where it cannot run.

    >>> import torch, treadle.torch
    >>> q = torch.ones(2, 4, 8, 16, requires_grad=True)
    >>> treadle.torch.scaled_dot_product_attention(q, q, q, is_causal=True).sum().backward()
    >>> q.grad.shape
    torch.Size([2, 4, 8, 16])
    """
    reason = hindrance(query, key, value, attn_mask)
    compiling = torch.compiler.is_compiling()
    if reason is None and compiling and not _plain(query, key, value):
        reason = "shapes that broadcast are being compiled"
    if reason is not None:
        if lengths is not None or softcap is not None:
            raise RuntimeError(
                f"treadle.torch.scaled_dot_product_attention: {reason}, where lengths and softcap are "
                "not to be had"
            )
        fall_back("scaled_dot_product_attention", reason)
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    options = (is_causal, scale, enable_gqa, softcap, dropout_p)
    # A tensor: under torch.compile it is another number in every call.
    seed = torch.randint(2**62, (1,)) if dropout_p else None
    if compiling:
        rows = None if lengths is None else torch.as_tensor(lengths)
        y, _ = torch.ops.treadle.attention(query, key, value, attn_mask, rows, seed, *options)
        return y
    mask = None if attn_mask is None else array(attn_mask)
    given = (query, key, value)
    if dropout_p or (torch.is_grad_enabled() and any(t.requires_grad for t in given)):
        return _Attend.apply(mask, lengths, seed, options, *given)
    return torch.from_numpy(
        functional.scaled_dot_product_attention(
            array(query),
            array(key),
            array(value),
            mask,
            is_causal=is_causal,
            scale=scale,
            enable_gqa=enable_gqa,
            lengths=lengths,
            softcap=softcap,
        )
    )


def hindrance(query: Any, key: Any, value: Any, mask: Any) -> str | None:
    """Why treadle's attention cannot run on these heads, or None."""
    given = (query, key, value)
    reason = unsuited(given, (mask,))
    if reason is None and max(t.shape[-1] if t.dim() else 0 for t in given) > MOST:
        return f"a head has more than {MOST} floats"
    return reason


def unsuited(given: tuple[Any, ...], masks: tuple[Any, ...]) -> str | None:
    """Why treadle's attention cannot run on tensors of this kind, whatever their sizes, or None."""
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


def _plain(*tensors: Any) -> bool:
    """[B, N, rows, columns] each, of one batch."""
    return all(t.dim() == 4 for t in tensors) and len({t.shape[0] for t in tensors}) == 1


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, mask: Any, lengths: Any, seed: Any, options: tuple[Any, ...], *given: Any
    ) -> Any:
        query, key, value = given
        causal, scale, gqa, softcap, p = options
        y, ctx.saved = functional.scaled_dot_product_attention_forward(
            array(query),
            array(key),
            array(value),
            mask,
            p,
            causal,
            scale=scale,
            enable_gqa=gqa,
            lengths=lengths,
            softcap=softcap,
            seed=None if seed is None else int(seed),
        )
        result = torch.from_numpy(y)
        # PyTorch raises where one of these has been changed in place before the backward pass.
        ctx.save_for_backward(*given, result)
        return result

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        if torch.is_grad_enabled():  # create_graph=True; once_differentiable would let it pass
            raise RuntimeError(
                "treadle.torch has no second derivatives (create_graph=True): use torch.nn.functional."
                "scaled_dot_product_attention"
            )
        ctx.saved_tensors  # noqa: B018 - raises, see above
        gradients = functional.scaled_dot_product_attention_backward(ctx.saved, array(dy))
        wanted = zip(_NAMES, ctx.needs_input_grad[4:], strict=True)
        return *[None] * 4, *(torch.from_numpy(gradients[n]) if w else None for n, w in wanted)


# What torch.compile and torch.export keep in their graphs.

_OPTIONS = "bool is_causal, float? scale, bool enable_gqa, float? softcap, float dropout_p"
_INPUTS = "Tensor query, Tensor key, Tensor value, Tensor? mask, Tensor? lengths, Tensor? seed"
_COUNT = _INPUTS.count("Tensor")


def _saved(inputs: Any, options: Any, results: tuple[Any, Any] | None = None) -> SavedAttention:
    """A forward pass that has been run, if there are ``results``, or that is run now."""
    query, key, value, mask, lengths, seed = (array(tensor) for tensor in inputs)
    causal, scale, gqa, softcap, p = options
    function = "treadle.torch.scaled_dot_product_attention"
    call = AttentionArguments(
        query=query,
        key=key,
        value=value,
        attn_mask=mask,
        dropout_p=p,
        is_causal=causal,
        scale=scale,
        enable_gqa=gqa,
        lengths=lengths,
        softcap=softcap,
        seed=0 if seed is None else int(seed[0]),
    )
    return SavedAttention(call.checked(function), results)


@torch.library.custom_op(
    "treadle::attention",
    mutates_args=(),
    device_types="cpu",
    schema=f"({_INPUTS}, {_OPTIONS}) -> (Tensor, Tensor)",
)
def _attention(*arguments: Any) -> tuple[Any, Any]:
    """y [B, N, S, F] and the log-sum-exp [B, N, S]."""
    saved = _saved(arguments[:_COUNT], arguments[_COUNT:])
    return torch.from_numpy(saved.y), torch.from_numpy(saved.lse)


@_attention.register_fake
def _(query: Any, key: Any, value: Any, *_: Any) -> tuple[Any, Any]:
    B, N, S, _ = query.shape
    y = query.new_empty((B, S, N, value.shape[3])).transpose(1, 2)
    return y, query.new_empty((B, N, S))


@torch.library.custom_op(
    "treadle::attention_backward",
    mutates_args=(),
    device_types="cpu",
    schema=f"({_INPUTS}, Tensor y, Tensor lse, Tensor dy, {_OPTIONS}) -> Tensor[]",
)
def _attention_backward(*arguments: Any) -> list[Any]:
    """The gradients of query, key and value."""
    y, lse, dy = arguments[_COUNT : _COUNT + 3]
    saved = _saved(arguments[:_COUNT], arguments[_COUNT + 3 :], (array(y), array(lse.contiguous())))
    gradients = saved.backward("treadle.torch", array(dy))
    return [torch.from_numpy(gradients[name]).contiguous() for name in _NAMES]


@_attention_backward.register_fake
def _(query: Any, key: Any, value: Any, *_: Any) -> list[Any]:
    return [query.new_empty(t.shape) for t in (query, key, value)]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    ctx.save_for_backward(*inputs[:_COUNT], *output)
    ctx.options = inputs[_COUNT:]
    ctx.set_materialize_grads(False)


def _back(ctx: Any, dy: Any, _: Any) -> tuple[Any, ...]:
    if dy is None:
        return (None,) * (_COUNT + len(ctx.options))
    gradients = torch.ops.treadle.attention_backward(*ctx.saved_tensors, dy, *ctx.options)
    return *gradients, *[None] * (_COUNT - 3 + len(ctx.options))


_attention.register_autograd(_back, setup_context=_setup)
