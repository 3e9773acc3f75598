"""This module lets Keras' recurrent layers infer in bfloat16 or int8, which Keras does not have.

The variables stay as they are, in float32, and so do files. The matrices that the kernels multiply
by are rounded from them, and again where they have changed; a step rounds what it multiplies. Such
a layer does not learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle.torch.tensors import TensorLike

DTYPES = ("float32", "bfloat16", "int8")
_ATTRIBUTE = "_treadle_dtype"


def dtype_of(layer: Any) -> str:
    """Return the dtype in which a layer multiplies."""
    found: str = vars(layer).get(_ATTRIBUTE, "float32")
    return found


def set_dtype(layer: Any, dtype: str) -> None:
    """Let a layer, and the two of a Bidirectional, multiply in a dtype."""
    for own in (
        layer,
        *(getattr(layer, name, None) for name in ("forward_layer", "backward_layer")),
    ):
        if own is not None:
            object.__setattr__(own, _ATTRIBUTE, dtype)


def forget_dtype(layer: Any) -> None:
    """Let a layer multiply in float32 again."""
    vars(layer).pop(_ATTRIBUTE, None)


def refuse_training(layer: Any, training: bool) -> None:
    """Raise ValueError where a layer in another dtype than float32 is called for training."""
    if training and dtype_of(layer) != "float32":
        raise ValueError(f"treadle.keras.{type(layer).__name__}: {_sentence(dtype_of(layer))}")


def without_backward(
    dtype: str, results: Sequence[TensorLike], tensors: Sequence[TensorLike]
) -> tuple[TensorLike, ...]:
    """Return results that have come from tensors, such that their backward pass raises an error."""
    found: tuple[TensorLike, ...] = _Untrainable.apply(dtype, len(results), *results, *tensors)
    return found


class _Untrainable(torch.autograd.Function):
    """The function of autograd that hands results on and says in its backward pass why it ends."""

    @staticmethod
    def forward(ctx: Any, dtype: str, count: int, *tensors: TensorLike) -> tuple[TensorLike, ...]:
        ctx.dtype = dtype
        return tuple(tensor.view_as(tensor) for tensor in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *_: TensorLike) -> Any:
        raise RuntimeError(f"treadle.keras: {_sentence(ctx.dtype)}")


def _sentence(dtype: str) -> str:
    return (
        f"a recurrent layer in {dtype} does not learn: call treadle.keras.restore and accelerate "
        "its model anew, or train first"
    )
