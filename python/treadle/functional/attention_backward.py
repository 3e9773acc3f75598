"""Training of attention: a forward pass that saves, and the backward one.

    y, saved = treadle.functional.scaled_dot_product_attention_forward(q, k, v, is_causal=True)
    gradients = treadle.functional.scaled_dot_product_attention_backward(saved, dy)
    gradients["q"]

What is saved is one float for each query, the logarithm of the sum of its exponentials; the weights of
the softmax are computed again, block by block (Dao et al., arXiv:2205.14135). Sums run in fixed
blocks, so that a gradient has the same bits with any number of threads. The arrays of the forward pass,
y among them, are not copied: they must not change before the backward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import to_float32
from treadle._inputs.attention import Sizes, attention_call, four

if TYPE_CHECKING:
    from typing import Any

    from treadle._inputs.types import ArrayLike, Float

__all__ = [
    "SavedAttention",
    "scaled_dot_product_attention_backward",
    "scaled_dot_product_attention_forward",
]


class SavedAttention:
    """What a forward pass leaves for the backward pass; ``nbytes`` is 4 B N S.

    >>> import numpy as np, treadle
    >>> q = np.ones((2, 4, 8, 16), np.float32)
    >>> treadle.functional.scaled_dot_product_attention_forward(q, q, q)[1]
    <saved by treadle.functional.scaled_dot_product_attention_forward: 256 bytes>
    """

    _function = "treadle.functional.scaled_dot_product_attention_forward"

    def __init__(
        self,
        shapes: tuple[tuple[int, ...], ...],
        sizes: Sizes,
        arrays: tuple[Float, Float, Float],
        options: tuple[Any, ...],
        results: tuple[Float, Float] | None = None,
    ) -> None:
        """``results`` are y [B, N, S, F] and what was saved, where the forward pass has been run."""
        self._shapes, self._sizes, self._arrays, self._options = shapes, sizes, arrays, options
        if results is None:
            lse = np.empty(arrays[0].shape[:3], np.float32)
            results = _core.attention(self._function, *arrays, options, None, None, lse), lse
        self._y, self.lse = results

    lse: Float
    """[B, N, S]: log(sum_j exp(s_ij)), -inf for a query that sees no key."""

    @property
    def nbytes(self) -> int:
        """Bytes that the forward pass has saved."""
        return self.lse.nbytes

    def __repr__(self) -> str:
        return f"<saved by {self._function}: {self.nbytes} bytes>"

    @property
    def y(self) -> Float:
        """The result of the forward pass in the caller's shape."""
        return self._y.reshape(self._sizes.result)

    def backward(self, function: str, dy: ArrayLike) -> dict[str, Float]:
        """The gradients of q, k and v, in their shapes."""
        gradient = to_float32(function, "dy", dy)
        if gradient.shape != self._sizes.result:
            raise ValueError(
                f"{function}: dy has shape {gradient.shape}, expected {self._sizes.result}"
            )
        gradient = four(gradient, self._sizes.leading, self._sizes.query_heads)
        results = tuple(_zeros_like(a) for a in self._arrays)
        _core.attention_backward(
            function, *self._arrays, self._options, self.lse, self._y, gradient, *results
        )
        heads = (self._sizes.query_heads, self._sizes.key_heads, self._sizes.key_heads)
        return {
            name: _summed(result.reshape(*self._sizes.leading, *n, *result.shape[2:]), shape)
            for name, result, n, shape in zip("qkv", results, heads, self._shapes, strict=True)
        }


def _zeros_like(array: Float) -> Float:
    """Zeros, in memory [B, S, N, E] for a view of that: merging the heads again costs no copy."""
    B, N, S, E = array.shape
    if 0 < array.strides[1] < array.strides[2]:
        return np.zeros((B, S, N, E), np.float32).transpose(0, 2, 1, 3)
    return np.zeros((B, N, S, E), np.float32)


def _summed(gradient: Float, shape: tuple[int, ...]) -> Float:
    """The gradient of an array that was broadcast: summed over the axes that it did not have."""
    extra = gradient.ndim - len(shape)
    axes = (
        *range(extra),
        *(i for i, n in enumerate(shape, extra) if n == 1 and gradient.shape[i] != 1),
    )
    return gradient.sum(axis=axes, keepdims=True).reshape(shape) if axes else gradient


def scaled_dot_product_attention_forward(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    attn_mask: ArrayLike | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    lengths: ArrayLike | tuple[ArrayLike | None, ArrayLike | None] | None = None,
    window: int | tuple[int | None, int | None] | None = None,
    softcap: float | None = None,
    alibi_slopes: ArrayLike | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
) -> tuple[Float, SavedAttention]:
    """`treadle.functional.scaled_dot_product_attention`, and what its backward pass needs: (y, saved).

    The arguments are those, and dropout of the weights, w'_ij = w_ij keep_ij: ::

        keep_ij = 0 with probability dropout_p, else 1 / (1 - dropout_p)

    dropout_p  0 to 1; at 1 every weight is dropped
    seed       0..2**64 - 1: what is kept follows from it and from the weight's place (b, n, i, j)
               alone, on any CPU; None draws one

    Nothing of it is stored: the backward pass draws the same numbers again (Philox4x32 of 7 rounds:
    Salmon et al., SC11).

    >>> import numpy as np, treadle
    >>> q, k = np.ones((2, 5, 8), np.float32), np.ones((2, 7, 8), np.float32)
    >>> y, saved = treadle.functional.scaled_dot_product_attention_forward(q, k, k, lengths=[7, 3])
    >>> y.shape
    (2, 5, 8)
    """
    sizes, arrays, options = attention_call(
        SavedAttention._function, q, k, v, attn_mask, is_causal, scale, enable_gqa, lengths, window,
        softcap, alibi_slopes, dropout(SavedAttention._function, dropout_p, seed),
    )  # fmt: skip
    saved = SavedAttention((np.shape(q), np.shape(k), np.shape(v)), sizes, arrays, options)
    return saved.y, saved


def dropout(function: str, p: float, seed: int | None) -> tuple[float, int]:
    """Dropout's arguments checked, as the kernel takes them."""
    p = checks.number(function, "dropout_p", p, least=0.0, most=1.0)
    if seed is None:
        seed = int(np.random.default_rng().integers(2**64, dtype=np.uint64)) if p else 0
    return p, checks.integer(function, "seed", seed, 0, 2**64 - 1)


def scaled_dot_product_attention_backward(saved: SavedAttention, dy: ArrayLike) -> dict[str, Float]:
    """The gradients of what `scaled_dot_product_attention_forward` was given, but for its mask.

    dy  float32 like y, [..., S, F]

    With w_ij the weights of the softmax, w'_ij = keep_ij w_ij (keep_ij = 1 without dropout), cap' the
    derivative of the cap (1 without one), and d for the gradient of a loss::

        d v_j = sum_i w'_ij dy_i       d w_ij = keep_ij dy_i . v_j
        d s_ij = w_ij (d w_ij - y_i . dy_i) scale cap'
        d q_i = sum_j d s_ij k_j       d k_j = sum_i d s_ij q_i

    Returns a dict of q [..., S, E], k [..., K, E] and v [..., K, F]. Keys that no query sees, and
    queries that do not exist, get zeros. Masks and alibi_slopes get no gradient. Raises ValueError for
    a shape that does not fit, TypeError for another dtype or another kind of ``saved``.

    >>> import numpy as np, treadle
    >>> q, v = np.zeros((1, 2, 4), np.float32), np.ones((1, 2, 1), np.float32)
    >>> y, saved = treadle.functional.scaled_dot_product_attention_forward(q, q, v)
    >>> gradients = treadle.functional.scaled_dot_product_attention_backward(saved, np.ones_like(y))
    >>> gradients["v"].ravel()  # each of two queries looks at each of two keys with weight 1/2
    array([1., 1.], dtype=float32)
    """
    function = "treadle.functional.scaled_dot_product_attention_backward"
    if not isinstance(saved, SavedAttention):
        raise TypeError(
            f"{function}: saved is {type(saved).__name__}, expected that of "
            "scaled_dot_product_attention_forward"
        )
    return saved.backward(function, dy)
