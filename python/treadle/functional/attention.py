"""Scaled dot-product attention over arrays of any layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle import _core
from treadle._inputs.attention import AttentionCall, checked_out, four
from treadle._public import published

if TYPE_CHECKING:
    from typing import Any

    from treadle._inputs.types import ArrayLike, Float


@published("treadle.functional")
def scaled_dot_product_attention(
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
    dtype: Any = "float32",
    out: Float | None = None,
) -> Float:
    """Compute softmax(scale q k^T + mask) v, ``torch.nn.functional.scaled_dot_product_attention``.

    The arguments have PyTorch's names, order and meaning as far as ``enable_gqa``; the arguments
    behind it are treadle's own. This is computed for query i and key j of a head; an argument that
    is left out changes nothing::

        s_ij = scale q_i . k_j                       scale: 1 / sqrt(E) when None
        s_ij = softcap tanh(s_ij / softcap)
        s_ij = s_ij - slope |i - j| + mask_ij        mask: 0 or -inf when bool
        p_ij = keep_ij exp(s_ij) / sum_j exp(s_ij)   keep: 0 with probability dropout_p,
        y_i  = sum_j p_ij v_j                              else 1 / (1 - dropout_p)

    A query that may attend to no key gives zeros. Tiles that the causal triangle, the window or the
    lengths exclude are skipped; keys and values beyond a length are never read. A key that a query
    does not see changes nothing for it, whatever the key and its value hold, NaN included.

    Parameters
    ----------
    query, key, value
        float32 [..., S, E], [..., K, E], [..., K, F]: S queries, K keys, E and F in 1..256, usually
        [B, N, S, E] with N heads. The leading axes broadcast. Strides may be anything (a view of
        [B, S, N, E] costs no copy) if the last axis is contiguous.
    attn_mask
        Broadcasts to [..., S, K]. bool: True where the query attends (as in PyTorch's function, and
        the opposite of its modules). float32: added to the scores.
    dropout_p
        The probability of dropout, 0 to 1. Dropout is applied whenever this is above 0, as in
        PyTorch: pass 0 for inference. At 1 everything is dropped. It needs ``dtype="float32"``.
    is_causal
        If True, query i attends to the keys j <= i. It excludes attn_mask.
    scale
        A number; 1 / sqrt(E) when None.
    enable_gqa
        key and value have fewer heads than query, and each serves N / N_k heads of query that
        follow each other. Nothing is repeated in memory.
    lengths
        Integers [B]: how many keys of a row exist; or a pair (of queries, of keys), each of which
        may be None. Queries that do not exist give zeros. With more than two leading axes, lengths
        have the shape of all of these but the last.
    window
        (left, right): query i attends to the keys i - left <= j <= i + right. A side that is None
        has no limit; one number stands for both sides.
    softcap
        A number > 0, which caps the scores as in Gemma 2.
    alibi_slopes
        float32 [N] (Press, Smith and Lewis, arXiv:2108.12409).
    seed
        0..2**64 - 1: which probabilities dropout keeps follows from it and from their place
        (b, n, i, j) alone, on any CPU. None draws one.
    dtype
        The dtype of the two products: "float32", or "bfloat16", to which query, key, value and the
        probabilities are rounded; sums, mask and softmax stay in float32.
    out
        A float32 array [..., S, F] that takes the result. Its last axis is contiguous, and it
        shares no memory with the other arrays.

    Returns
    -------
    float32 array
        ``out``, or a new array [..., S, F] whose heads lie side by side in memory, so that
        ``y.swapaxes(-2, -3).reshape(B, S, N * F)`` costs no copy.

    Raises
    ------
    ValueError
        For a shape or value that does not fit.
    TypeError
        For another dtype or kind of object.

    Notes
    -----
    The result for a row does not depend on the batch around it, on keys beyond its length nor on
    the number of threads, bit for bit (dropout does depend on the row's place in its batch). For
    gradients, call `scaled_dot_product_attention_forward`, which takes the same arguments.

    References
    ----------
    Vaswani et al., arXiv:1706.03762; grouped heads: Ainslie et al., arXiv:2305.13245; computed in
    tiles with a running maximum: Dao et al., arXiv:2205.14135.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> q, k = np.ones((2, 4, 3, 8), np.float32), np.ones((2, 2, 5, 8), np.float32)
    >>> v = np.arange(5, dtype=np.float32).reshape(5, 1) * np.ones((2, 2, 1, 1), np.float32)
    >>> y = treadle.functional.scaled_dot_product_attention(
    ...     q, k, v, enable_gqa=True, lengths=[5, 3])
    >>> y.shape, y[:, 0, 0, 0]
    ((2, 4, 3, 1), array([2., 1.], dtype=float32))
    """
    function = "treadle.functional.scaled_dot_product_attention"
    call = AttentionCall(
        function,
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
        dtype=dtype,
    )
    target = None if out is None else _target(function, call, out)
    result = _core.attention(function, *call.arrays, call.options, target)
    if out is not None:
        return out
    sizes = call.sizes
    return result if len(sizes.leading) == 1 and sizes.query_heads else result.reshape(sizes.result)


def _target(function: str, call: AttentionCall, out: object) -> Float:
    """Return a view [B, N, S, F] of the array that takes the result."""
    inputs = dict(zip(("query", "key", "value"), call.arrays, strict=True))
    array = checked_out(function, out, call.sizes.result, inputs)
    view = four(array, call.sizes.leading, call.sizes.query_heads)
    if array.size and not np.may_share_memory(view, array):
        raise ValueError(
            f"{function}: out has strides {array.strides}, expected leading axes that merge into "
            "one"
        )
    return view
