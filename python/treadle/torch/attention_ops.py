"""Attention as custom operators, which graphs of PyTorch keep and its modes see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch

from treadle import functional
from treadle._inputs.attention import AttentionCall
from treadle.functional.attention_backward import SavedAttention
from treadle.layers.attention import MAX_HEAD_SIZE
from treadle.torch import formula
from treadle.torch.fallback import fall_back, of_backward, refuse_tangents
from treadle.torch.mask_patterns import MaskPattern, mask_pattern
from treadle.torch.tensors import follow_threads, shared_array

if TYPE_CHECKING:
    from treadle.torch.tensors import TensorLike

FUNCTION = "treadle.torch.scaled_dot_product_attention"
NAMES = ("query", "key", "value")
FORMULA = "a formula of torch's operators"


class Options(NamedTuple):
    """The options of a call, in the order in which the operators take them."""

    is_causal: bool
    scale: float | None
    enable_gqa: bool
    softcap: float | None
    dropout_p: float
    by_pattern: bool = False
    """True if the mask may be replaced by what it says (`treadle.torch.mask_patterns`)."""


_OPTIONS = (
    "bool is_causal, float? scale, bool enable_gqa, float? softcap, float dropout_p, "
    "bool by_pattern=False"
)
_INPUTS = "Tensor query, Tensor key, Tensor value, Tensor? mask, Tensor? lengths, Tensor? seed"
_COUNT = _INPUTS.count("Tensor")


class AttentionArguments(NamedTuple):
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

    @property
    def number(self) -> int:
        """The seed as a number, 0 without dropout."""
        return 0 if self.seed is None else int(self.seed[0])

    def forward(self, function: str, results: tuple[Any, Any] | None = None) -> SavedAttention:
        """Run the forward pass, unless ``results`` has those of an earlier run, and return it."""
        pattern = MaskPattern(self.mask, self.lengths, self.is_causal)
        if self.by_pattern and self.mask is not None:
            pattern = mask_pattern(self.mask, self.query.shape[0])
        follow_threads()
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
            seed=self.number,
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
    refuse_tangents("treadle.attention")
    saved = AttentionArguments(*arguments).forward(FUNCTION)
    return torch.from_numpy(saved.y), torch.from_numpy(saved.lse)


@_attention.register_fake
def _(*arguments: Any) -> tuple[TensorLike, TensorLike]:
    query, _, value, *_ = AttentionArguments(*arguments)
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
    call = AttentionArguments(*arguments[:_COUNT], *arguments[_COUNT + 3 :])
    gradients = call.forward(FUNCTION, (y, lse)).backward("treadle.torch", dy)
    return [torch.from_numpy(gradients[name]).contiguous() for name in NAMES]


@_attention_backward.register_fake
def _(*arguments: Any) -> list[TensorLike]:
    query, key, value = arguments[:3]
    return [query.new_empty(t.shape) for t in (query, key, value)]


class Context(Protocol):
    """PyTorch's context of a call of attention, with the options that its forward leaves there."""

    options: Options

    @property
    def saved_tensors(self) -> tuple[Any, ...]: ...
    @property
    def needs_input_grad(self) -> tuple[bool, ...]: ...
    def save_for_backward(self, *tensors: TensorLike | None) -> None: ...
    def set_materialize_grads(self, value: bool) -> None: ...


def _setup(ctx: Context, inputs: tuple[Any, ...], output: tuple[TensorLike, ...]) -> None:
    ctx.save_for_backward(*inputs[:_COUNT], *output)
    ctx.options = Options(*inputs[_COUNT:])
    ctx.set_materialize_grads(False)


def _backward(ctx: Context, dy: TensorLike | None, _: object) -> tuple[TensorLike | None, ...]:
    nothing = (None,) * (_COUNT - 3 + len(ctx.options))
    if dy is None:
        return None, None, None, *nothing
    reason = None if torch.compiler.is_compiling() else of_backward((dy,))
    if reason is None:
        gradients = torch.ops.treadle.attention_backward(*ctx.saved_tensors, dy, *ctx.options)
    else:
        q, k, v, mask, lengths, seed, *_ = ctx.saved_tensors
        arguments = AttentionArguments(q, k, v, mask, lengths, seed, *ctx.options)
        gradients = gradients_by_formula(arguments, ctx.needs_input_grad[:3], dy, reason)
    return *gradients, *nothing


def gradients_by_formula(
    arguments: AttentionArguments, wanted: tuple[bool, ...], dy: TensorLike, reason: str
) -> list[TensorLike | None]:
    """Return the gradients of query, key and value by operators that PyTorch differentiates."""
    fall_back("scaled_dot_product_attention", reason, FORMULA)
    options = Options(
        arguments.is_causal,
        arguments.scale,
        arguments.enable_gqa,
        arguments.softcap,
        arguments.dropout_p,
    )
    mask, lengths, kept = arguments.mask, arguments.lengths, None
    if options.dropout_p:
        kept = _kept_by_dropout(arguments)
    run = lambda *own: (formula.attention(own, mask, lengths, kept, options),)
    return formula.gradients(run, arguments[:3], wanted, (dy,))


def _kept_by_dropout(arguments: AttentionArguments) -> TensorLike:
    """Return bool [B, N, S, K]: which probabilities the kernels keep.

    The choice follows from a probability's place alone, so that an attention with equal scores
    shows it: its values are the unit vectors, as many at a time as a head has floats.
    """
    query, key = (shared_array(t) for t in arguments[:2])
    options = {"enable_gqa": arguments.enable_gqa}
    q, k = (np.zeros((*t.shape[:-1], 1), np.float32) for t in (query, key))
    parts, K = [], k.shape[-2]
    for start in range(0, K, MAX_HEAD_SIZE):
        unit = np.eye(K, dtype=np.float32)[:, start : start + MAX_HEAD_SIZE]
        value = np.broadcast_to(unit, (*k.shape[:-2], *unit.shape))
        y, _ = functional.scaled_dot_product_attention_forward(
            q, k, value, dropout_p=arguments.dropout_p, seed=arguments.number, **options
        )
        parts.append(torch.from_numpy(y) > 0)
    return torch.cat(parts, -1)


_attention.register_autograd(_backward, setup_context=_setup)
