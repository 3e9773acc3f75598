"""Attention for autograd, and as custom operators for torch.compile and torch.export.

`scaled_dot_product_attention` has PyTorch's arguments and results. Where treadle cannot run,
PyTorch's function runs instead, and a warning says so once for each reason: the reasons of
`treadle.torch.LSTM`, a mask that wants a gradient or is neither bool nor float32, and heads of more
than 256 floats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

from treadle import functional
from treadle._inputs.arrays import to_int64
from treadle._inputs.attention import AttentionCall
from treadle._public import published
from treadle.functional.attention_backward import SavedAttention
from treadle.layers.attention import MAX_HEAD_SIZE
from treadle.torch.autograd import with_dense_rows
from treadle.torch.fallback import fall_back, obstacle
from treadle.torch.mask_patterns import MaskPattern, mask_pattern
from treadle.torch.tensors import shared_array

if TYPE_CHECKING:
    from collections.abc import Iterable

    from treadle._inputs.types import ArrayLike
    from treadle.torch.tensors import TensorLike

_FUNCTION = "treadle.torch.scaled_dot_product_attention"
_NAMES = ("query", "key", "value")


class Options(NamedTuple):
    """The options of a call, in the order in which the operators take them."""

    is_causal: bool
    scale: float | None
    enable_gqa: bool
    softcap: float | None
    dropout_p: float
    by_pattern: bool = False
    """True if the mask may be replaced by what it says (`treadle.torch.mask_patterns`)."""


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
    reason = attention_obstacle(query, key, value, attn_mask)
    if reason is None and torch.compiler.is_compiling() and not plain(query, key, value):
        reason = "shapes that broadcast are being compiled"
    if reason is not None:
        if lengths is not None or softcap is not None:
            raise RuntimeError(
                f"{_FUNCTION}: {reason}, where lengths and softcap are not to be had"
            )
        fall_back("scaled_dot_product_attention", reason)
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    options = Options(is_causal, scale, enable_gqa, softcap, dropout_p)
    return attend(query, key, value, attn_mask, lengths, options)


def attend(
    query: TensorLike,
    key: TensorLike,
    value: TensorLike,
    mask: TensorLike | None,
    lengths: ArrayLike | None,
    options: Options,
) -> TensorLike:
    """Attend where nothing is in the way, as an operator in graphs, for autograd, or else at once.

    The arguments are those of `scaled_dot_product_attention`.
    """
    # The seed is a tensor, so that a compiled graph draws another number in every call.
    seed = torch.randint(2**62, (1,)) if options.dropout_p else None
    if torch.compiler.is_compiling():
        rows = None if lengths is None else torch.as_tensor(lengths)
        y, _ = torch.ops.treadle.attention(query, key, value, mask, rows, seed, *options)
        return y
    given = (query, key, value)
    if options.dropout_p or (torch.is_grad_enabled() and any(t.requires_grad for t in given)):
        rows = None if lengths is None else _saveable(lengths)
        return _Attend.apply(mask, rows, seed, options, *given)
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
    return torch.from_numpy(to_int64(_FUNCTION, "lengths", lengths))


def plain(*tensors: TensorLike) -> bool:
    """Tell whether all tensors have the shape [B, N, rows, columns] with the same B."""
    return all(t.dim() == 4 for t in tensors) and len({t.shape[0] for t in tensors}) == 1


class _Context(Protocol):
    """PyTorch's context of a call, with what the functions below leave in it."""

    options: Options

    @property
    def saved_tensors(self) -> tuple[Any, ...]: ...
    @property
    def needs_input_grad(self) -> tuple[bool, ...]: ...
    def save_for_backward(self, *tensors: TensorLike | None) -> None: ...
    def set_materialize_grads(self, value: bool) -> None: ...


class _Attend(torch.autograd.Function):
    """Attention for autograd: y from query, key and value.

    All that the backward pass reads is saved by PyTorch's engine, which notices where a tensor (the
    mask, too) has been changed in place, and frees the memory when the pass is over.
    """

    @staticmethod
    def forward(
        ctx: _Context,
        mask: TensorLike | None,
        lengths: TensorLike | None,
        seed: TensorLike | None,
        options: Options,
        *given: TensorLike,
    ) -> TensorLike:
        query, key, value = given
        arguments = _Arguments(query, key, value, mask, lengths, seed, *options)
        saved = arguments.forward(SavedAttention._function)
        result: TensorLike = torch.from_numpy(saved.y)
        ctx.options = options
        ctx.save_for_backward(*given, mask, lengths, seed, result, torch.from_numpy(saved.lse))
        return result

    @staticmethod
    def backward(ctx: _Context, dy: TensorLike) -> tuple[TensorLike | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True; once_differentiable would let it pass
            raise RuntimeError(
                "treadle.torch has no second derivatives (create_graph=True): use "
                "torch.nn.functional.scaled_dot_product_attention"
            )
        query, key, value, mask, lengths, seed, y, lse = ctx.saved_tensors
        results = shared_array(with_dense_rows(y)), shared_array(lse.contiguous())
        arguments = _Arguments(query, key, value, mask, lengths, seed, *ctx.options)
        saved = arguments.forward(SavedAttention._function, results)
        gradients = saved.backward("treadle.torch", shared_array(dy))
        wanted = zip(_NAMES, ctx.needs_input_grad[4:], strict=True)
        return *[None] * 4, *(torch.from_numpy(gradients[n]) if w else None for n, w in wanted)


# torch.compile and torch.export keep the operators that follow in their graphs.

_OPTIONS = (
    "bool is_causal, float? scale, bool enable_gqa, float? softcap, float dropout_p, "
    "bool by_pattern=False"
)
_INPUTS = "Tensor query, Tensor key, Tensor value, Tensor? mask, Tensor? lengths, Tensor? seed"
_COUNT = _INPUTS.count("Tensor")


class _Arguments(NamedTuple):
    """The arguments of the forward operator, in the order of its schema."""

    query: TensorLike
    key: TensorLike
    value: TensorLike
    mask: TensorLike | None
    lengths: TensorLike | None
    seed: TensorLike | None
    is_causal: bool
    scale: float | None
    enable_gqa: bool
    softcap: float | None
    dropout_p: float
    by_pattern: bool = False

    def forward(self, function: str, results: tuple[Any, Any] | None = None) -> SavedAttention:
        """Run the forward pass, unless ``results`` has those of an earlier run, and return it."""
        pattern = MaskPattern(self.mask, self.lengths, self.is_causal)
        if self.by_pattern and self.mask is not None:
            pattern = mask_pattern(self.mask, self.query.shape[0])
        call = AttentionCall(
            function,
            shared_array(self.query),
            shared_array(self.key),
            shared_array(self.value),
            attn_mask=shared_array(pattern.mask),
            dropout_p=self.dropout_p,
            is_causal=pattern.is_causal,
            scale=self.scale,
            enable_gqa=self.enable_gqa,
            lengths=pattern.lengths,
            softcap=self.softcap,
            # Without a tensor the backward operator, too, has to know the seed.
            seed=0 if self.seed is None else int(self.seed[0]),
        )
        return SavedAttention(call, results)


@torch.library.custom_op(
    "treadle::attention",
    mutates_args=(),
    device_types="cpu",
    schema=f"({_INPUTS}, {_OPTIONS}) -> (Tensor, Tensor)",
)
def _attention(*arguments: Any) -> tuple[TensorLike, TensorLike]:
    """Return y [B, N, S, F] and the log-sum-exp of the scores [B, N, S]."""
    saved = _Arguments(*arguments).forward(_FUNCTION)
    return torch.from_numpy(saved.y), torch.from_numpy(saved.lse)


@_attention.register_fake
def _(*arguments: Any) -> tuple[TensorLike, TensorLike]:
    query, _, value, *_ = _Arguments(*arguments)
    B, N, S, _ = query.shape
    y = query.new_empty((B, S, N, value.shape[3])).transpose(1, 2)
    return y, query.new_empty((B, N, S))


@torch.library.custom_op(
    "treadle::attention_backward",
    mutates_args=(),
    device_types="cpu",
    schema=f"({_INPUTS}, Tensor y, Tensor lse, Tensor dy, {_OPTIONS}) -> Tensor[]",
)
def _attention_backward(*arguments: Any) -> list[TensorLike]:
    """Return the gradients of query, key and value."""
    y, lse, dy = (shared_array(t.contiguous()) for t in arguments[_COUNT : _COUNT + 3])
    call = _Arguments(*arguments[:_COUNT], *arguments[_COUNT + 3 :])
    gradients = call.forward(_FUNCTION, (y, lse)).backward("treadle.torch", dy)
    return [torch.from_numpy(gradients[name]).contiguous() for name in _NAMES]


@_attention_backward.register_fake
def _(*arguments: Any) -> list[TensorLike]:
    query, key, value = arguments[:3]
    return [query.new_empty(t.shape) for t in (query, key, value)]


def _setup(ctx: _Context, inputs: tuple[Any, ...], output: tuple[TensorLike, ...]) -> None:
    ctx.save_for_backward(*inputs[:_COUNT], *output)
    ctx.options = Options(*inputs[_COUNT:])
    ctx.set_materialize_grads(False)


def _backward(ctx: _Context, dy: TensorLike | None, _: object) -> tuple[TensorLike | None, ...]:
    nothing = (None,) * (_COUNT - 3 + len(ctx.options))
    if dy is None:
        return None, None, None, *nothing
    gradients = torch.ops.treadle.attention_backward(*ctx.saved_tensors, dy, *ctx.options)
    return *gradients, *nothing


_attention.register_autograd(_backward, setup_context=_setup)
