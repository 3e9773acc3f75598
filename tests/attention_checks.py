"""Attention against its float64 definition, with a bound that is derived, and against itself."""

import numpy as np

import reference_attention as reference
import weft
from tolerance import EPS, assert_same_bits


def check_attention(arrays, mask=None, *, lengths=None, **options):
    """Run weft on (q, k, v) and compare; lengths as a pair (of queries, of keys)."""
    ours = dict(options)
    if lengths is not None:
        ours["lengths"] = lengths
        options |= dict(zip(("query_lengths", "key_lengths"), lengths, strict=True))
    grouped = arrays[0].shape[1] != arrays[1].shape[1]
    y = weft.functional.scaled_dot_product_attention(*arrays, mask, enable_gqa=grouped, **ours)
    assert_attention(y, *arrays, mask, **options)
    return y


def assert_attention(actual, q, k, v, mask=None, **options):
    """`actual` is what reference.attention defines; the arguments are its own, all finite but mask.

    A score is a sum of E products, which may err by 3 eps sum|q||k| (tolerance.py), and passes
    through three roundings of a size it has, or of what is added to it; softcap's tanh adds three
    of the cap. An error d_j of a score changes its weight w_j by the factor exp(d_j), and their sum
    likewise. exp, the sums over the keys and the quotient err by 8 eps sum_j w_j |v_j| in all.
    """
    exact, w = reference.attention(q, k, v, mask, weights=True, **options)
    assert actual.dtype == np.float32
    assert actual.shape == exact.shape
    group = q.shape[1] // max(k.shape[1], 1)
    k, v = (np.repeat(np.abs(x.astype(np.float64)), group, axis=1) for x in (k, v))
    scale = options.get("scale")
    size = np.abs(q.astype(np.float64)) @ k.swapaxes(2, 3)
    error = 6 * size * abs(q.shape[-1] ** -0.5 if scale is None else scale)
    error = error + 3 * (options.get("softcap") or 0)
    if options.get("alibi_slopes") is not None:
        far = np.abs(np.arange(q.shape[2])[:, None] - np.arange(k.shape[2]))
        error = error + 3 * options["alibi_slopes"][:, None, None] * (far + 1.0)
    if mask is not None and mask.dtype != bool:
        error = error + 3 * np.where(np.isfinite(mask), np.abs(mask.astype(np.float64)), 0)
    error = np.where(w > 0, EPS * error, 0)
    change = w * np.expm1(error) * np.exp(error)
    sums = w @ v
    bound = change @ v + change.sum(axis=-1, keepdims=True) * sums + 8 * EPS * sums + 1e-37
    excess = np.abs(actual - exact) - bound
    assert excess.size == 0 or excess.max() <= 0, (
        f"error exceeds the bound by {excess.max():.3g}: it is "
        f"{(np.abs(actual - exact) / bound).max():.3g} times as large"
    )


def assert_threads_change_nothing(call):
    """The same bits with one thread, two and three."""
    before, results = weft.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            weft.set_num_threads(n)
            results.append(call())
    finally:
        weft.set_num_threads(before)
    for other in results[1:]:
        assert_same_bits(other, results[0])
