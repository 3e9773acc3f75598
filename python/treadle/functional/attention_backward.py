"""Training of attention: a forward pass that saves, and its backward pass.

    y, saved = treadle.functional.scaled_dot_product_attention_forward(q, k, v, is_causal=True)
    gradients = treadle.functional.scaled_dot_product_attention_backward(saved, dy)
    gradients["query"]

The forward pass saves one float for each query, the logarithm of the sum of its exponentials; the
backward pass computes the probabilities again, block by block (Dao et al., arXiv:2205.14135). Sums
run in fixed blocks, so that a gradient has the same bits with any number of threads. The arrays of
the forward pass, y among them, are not copied: they must not change before the backward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import to_float32
from treadle._inputs.attention import AttentionCall, four
from treadle._public import published

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float

__all__ = [
    "SavedAttention",
    "scaled_dot_product_attention_backward",
    "scaled_dot_product_attention_forward",
]


@published("treadle.functional")
class SavedAttention:
    """The values that a forward pass saves for its backward pass; ``nbytes`` is 4 B N S.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> q = np.ones((2, 4, 8, 16), np.float32)
    >>> treadle.functional.scaled_dot_product_attention_forward(q, q, q)[1]
    <saved by treadle.functional.scaled_dot_product_attention_forward: 256 bytes>
    """

    _function = "treadle.functional.scaled_dot_product_attention_forward"

    def __init__(self, call: AttentionCall, results: tuple[Float, Float] | None = None) -> None:
        """Run the forward pass, unless ``results`` has its y and its log-sum-exp [B, N, S]."""
        self._call = call
        if results is None:
            lse = np.empty(call.arrays[0].shape[:3], np.float32)
            y = _core.attention(self._function, *call.arrays, call.options, lse=lse)
        else:
            y, lse = results
            y = four(y, call.sizes.leading, call.sizes.query_heads)
        self._y, self.lse = y, lse

    lse: Float
    """[B, N, S]: log(sum_j exp(s_ij)), -inf for a query that sees no key."""

    @property
    def nbytes(self) -> int:
        """The number of bytes that the forward pass has saved."""
        return self.lse.nbytes

    def __repr__(self) -> str:
        return f"<saved by {self._function}: {self.nbytes} bytes>"

    @property
    def y(self) -> Float:
        """The result of the forward pass in the caller's shape."""
        return self._y.reshape(self._call.sizes.result)

    def backward(self, function: str, dy: ArrayLike) -> dict[str, Float]:
        """Return the gradients of query, key and value, in their shapes."""
        call, sizes = self._call, self._call.sizes
        gradient = to_float32(function, "dy", dy, checks.fits(function, "dy", sizes.result))
        names = ("query", "key", "value")
        grads = {n: _zeros_like(array) for n, array in zip(names, call.arrays, strict=True)}
        _core.attention_backward(
            function,
            *call.arrays,
            options=call.options,
            forward={"out": self._y, "lse": self.lse},
            dout=four(gradient, sizes.leading, sizes.query_heads),
            grads=grads,
        )
        heads = (sizes.query_heads, sizes.key_heads, sizes.key_heads)
        return {
            name: _summed(grad.reshape(*sizes.leading, *n, *grad.shape[2:]), shape)
            for (name, grad), n, shape in zip(grads.items(), heads, call.shapes, strict=True)
        }


def _zeros_like(array: Float) -> Float:
    """Return zeros in the layout of an array: if its heads are a view of [B, S, N, E], so are the
    result's, and merging them costs no copy.
    """
    B, N, S, E = array.shape
    if 0 < array.strides[1] < array.strides[2]:
        return np.zeros((B, S, N, E), np.float32).transpose(0, 2, 1, 3)
    return np.zeros((B, N, S, E), np.float32)


def _summed(gradient: Float, shape: tuple[int, ...]) -> Float:
    """Sum the gradient of an array that was broadcast over the axes that the array did not have."""
    extra = gradient.ndim - len(shape)
    axes = (
        *range(extra),
        *(i for i, n in enumerate(shape, extra) if n == 1 and gradient.shape[i] != 1),
    )
    return gradient.sum(axis=axes, keepdims=True).reshape(shape) if axes else gradient


@published("treadle.functional")
def scaled_dot_product_attention_forward(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    attn_mask: ArrayLike | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
    lengths: ArrayLike | tuple[ArrayLike | None, ArrayLike | None] | None = None,
    window: int | tuple[int | None, int | None] | None = None,
    softcap: float | None = None,
    alibi_slopes: ArrayLike | None = None,
    seed: int | None = None,
) -> tuple[Float, SavedAttention]:
    """Run attention and save the values that its backward pass needs: (y, saved).

    The arguments and y are those of `treadle.functional.scaled_dot_product_attention`, dropout
    included; the products are in float32.
    Nothing of dropout is stored: the backward pass draws the same numbers again (Philox4x32 of 7
    rounds: Salmon et al., SC11).

    Examples
    --------
    >>> import numpy as np, treadle
    >>> q, k = np.ones((2, 5, 8), np.float32), np.ones((2, 7, 8), np.float32)
    >>> y, saved = treadle.functional.scaled_dot_product_attention_forward(q, k, k, lengths=[7, 3])
    >>> y.shape
    (2, 5, 8)
    """
    call = AttentionCall(
        SavedAttention._function,
        query,
        key,
        value,
        attn_mask=attn_mask,
        dropout_p=dropout_p,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=enable_gqa,
        lengths=lengths,
        window=window,
        softcap=softcap,
        alibi_slopes=alibi_slopes,
        seed=seed,
    )
    saved = SavedAttention(call)
    return saved.y, saved


@published("treadle.functional")
def scaled_dot_product_attention_backward(saved: SavedAttention, dy: ArrayLike) -> dict[str, Float]:
    """Return the gradients of query, key and value of `scaled_dot_product_attention_forward`.

    p_ij are the probabilities before dropout, p'_ij = keep_ij p_ij (keep_ij = 1 without dropout),
    cap' the derivative of the cap (1 without one), and d stands for the gradient of a loss::

        d v_j = sum_i p'_ij dy_i       d p_ij = keep_ij dy_i . v_j
        d s_ij = p_ij (d p_ij - y_i . dy_i) scale cap'
        d q_i = sum_j d s_ij k_j       d k_j = sum_i d s_ij q_i

    Keys that no query sees, and queries that do not exist, get zeros. Masks and alibi_slopes get no
    gradient.

    Parameters
    ----------
    saved
        The second result of `scaled_dot_product_attention_forward`.
    dy
        float32 like y, [..., S, F].

    Returns
    -------
    dict
        query [..., S, E], key [..., K, E] and value [..., K, F].

    Raises
    ------
    ValueError
        For a shape that does not fit.
    TypeError
        For another dtype or kind of ``saved``.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> q, v = np.zeros((1, 2, 4), np.float32), np.ones((1, 2, 1), np.float32)
    >>> y, saved = treadle.functional.scaled_dot_product_attention_forward(q, q, v)
    >>> gradients = treadle.functional.scaled_dot_product_attention_backward(saved, np.ones_like(y))
    >>> gradients["value"].ravel()  # two queries look at two keys with probability 1/2 each
    array([1., 1.], dtype=float32)
    """
    function = "treadle.functional.scaled_dot_product_attention_backward"
    if not isinstance(saved, SavedAttention):
        raise TypeError(
            f"{function}: saved is {type(saved).__name__}, expected that of "
            "scaled_dot_product_attention_forward"
        )
    return saved.backward(function, dy)
