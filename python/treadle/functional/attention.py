"""Scaled dot-product attention over arrays of any layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.attention import Sizes, attention_call, checked_out, four

if TYPE_CHECKING:
    from typing import Any

    from treadle._inputs.types import ArrayLike, Float


def scaled_dot_product_attention(
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
    dtype: Any = "float32",
    out: Float | None = None,
) -> Float:
    """softmax(scale q k^T + mask) v, ``torch.nn.functional.scaled_dot_product_attention``.

    For query i and key j of a head, with all that is left out being nothing::

        s_ij = scale q_i . k_j                       scale: 1 / sqrt(E) when None
        s_ij = softcap tanh(s_ij / softcap)
        s_ij = s_ij - slope |i - j| + mask_ij        mask: 0 or -inf when bool
        y_i  = sum_j exp(s_ij) v_j / sum_j exp(s_ij)

    A query for which every key is ruled out gives zeros. Tiles that the causal triangle, the window
    or the lengths rule out are skipped; keys and values beyond a length are never read.

    q, k, v       float32 [..., S, E], [..., K, E], [..., K, F]: S queries, K keys, E and F in
                  1..256, usually [B, N, S, E] with N heads. The leading axes broadcast. Strides
                  may be anything (a view of [B, S, N, E] costs no copy) if the last is contiguous
    attn_mask     broadcasts to [..., S, K]. bool: True where the query attends (as in PyTorch's
                  function, and the opposite of its modules). float32: added to the scores
    is_causal     query i attends to the keys j <= i; not together with attn_mask
    enable_gqa    k and v have fewer heads than q, of which each serves N / N_k queries' heads that
                  follow each other (they are not repeated in memory)
    lengths       integers [B]: the keys of a row that exist; or a pair (of queries, of keys), each
                  of which may be None. Queries that do not exist give zeros. For more than two
                  leading axes, in the shape of all but the last one
    window        (left, right): query i attends to i - left <= j <= i + right; None is without
                  limit; one number stands for both
    softcap       number > 0 (Gemma 2)
    alibi_slopes  float32 [N] (Press, Smith and Lewis, arXiv:2108.12409)
    dtype         of the two products: "float32", or "bfloat16", to which q, k, v and the weights are
                  rounded, with sums, mask and softmax in float32
    out           float32 [..., S, F] that takes the result; last axis contiguous, in memory of its
                  own

    Returns ``out``, or a new float32 [..., S, F] whose heads lie side by side in memory, so that
    ``y.swapaxes(-2, -3).reshape(B, S, N * F)`` costs no copy. Dropout is training's:
    `scaled_dot_product_attention_forward`. The result for a row does not depend on the batch around it, on keys beyond its
    length nor on the number of threads, bit for bit.

    Raises ValueError for a shape or value that does not fit, TypeError for another dtype or kind.

    >>> import numpy as np, treadle
    >>> q, k = np.ones((2, 4, 3, 8), np.float32), np.ones((2, 2, 5, 8), np.float32)
    >>> v = np.arange(5, dtype=np.float32).reshape(5, 1) * np.ones((2, 2, 1, 1), np.float32)
    >>> y = treadle.functional.scaled_dot_product_attention(
    ...     q, k, v, enable_gqa=True, lengths=[5, 3])
    >>> y.shape, y[:, 0, 0, 0]
    ((2, 4, 3, 1), array([2., 1.], dtype=float32))

    Sources: Vaswani et al., arXiv:1706.03762; grouped heads: Ainslie et al., arXiv:2305.13245;
    computed in tiles with a running maximum: Dao et al., arXiv:2205.14135.
    """
    function = "treadle.functional.scaled_dot_product_attention"
    dtype = checks.dtype(function, "dtype", dtype, ("float32", "bfloat16"))
    sizes, (query, key, value), options = attention_call(
        function, q, k, v, attn_mask, is_causal, scale, enable_gqa, lengths, window, softcap,
        alibi_slopes, dtype=dtype,
    )  # fmt: skip
    inputs = {"q": query, "k": key, "v": value}
    target = None if out is None else _target(function, sizes, out, inputs)
    result = _core.attention(function, query, key, value, options, target, None, None)
    if out is not None:
        return out
    return result if len(sizes.leading) == 1 and sizes.query_heads else result.reshape(sizes.result)


def _target(function: str, sizes: Sizes, out: object, inputs: dict[str, Float]) -> Float:
    """The array that takes the result, as [B, N, S, F]; always a view of it."""
    array = checked_out(function, out, sizes.result, inputs)
    view = four(array, sizes.leading, sizes.query_heads)
    if array.size and not np.may_share_memory(view, array):
        raise ValueError(
            f"{function}: out has strides {array.strides}, expected leading axes that merge into one"
        )
    return view
