"""Attention against its float64 definition, with a bound that is derived, and against itself."""

import numpy as np

import treadle
from reference import attention as reference
from support.tolerance import EPS, assert_same_bits


def check_attention(arrays, mask=None, *, lengths=None, **options):
    """Run treadle on (q, k, v) and compare; lengths as a pair (of queries, of keys)."""
    ours = dict(options)
    if lengths is not None:
        ours["lengths"] = lengths
        options |= dict(zip(("query_lengths", "key_lengths"), lengths, strict=True))
    grouped = arrays[0].shape[1] != arrays[1].shape[1]
    y = treadle.functional.scaled_dot_product_attention(*arrays, mask, enable_gqa=grouped, **ours)
    assert_attention(y, *arrays, mask, **options)
    return y


def assert_attention(actual, q, k, v, mask=None, *, rounding=0.0, **options):
    """`actual` is what reference.attention defines; the arguments are its own, all finite but mask.
    `rounding` is that of the weights before they are multiplied by the values.

    A score is a sum of E products, which may err by 3 eps sum|q||k| (tolerance.py), and passes
    through three roundings of a size it has, or of what is added to it; softcap's tanh adds three
    of the cap. An error d_j of a score changes its weight w_j by the factor exp(d_j), and their sum
    likewise. exp, the sums over the keys and the quotient err by 8 eps sum_j w_j |v_j| in all, and
    what dropout multiplies by errs, and its product, by one more each.
    """
    exact, w = reference.attention(q, k, v, mask, weights=True, **options)
    assert actual.dtype == np.float32
    assert actual.shape == exact.shape
    error = _score_error(q, k, w, mask, **options)
    v = np.repeat(np.abs(v.astype(np.float64)), q.shape[1] // max(k.shape[1], 1), axis=1)
    keep = options.get("keep", 1.0)
    change = w * np.expm1(error) * np.exp(error)
    sums = (keep * w) @ v
    bound = (keep * change) @ v + change.sum(axis=-1, keepdims=True) * sums + 10 * EPS * sums
    bound += rounding * sums + 1e-37
    _assert_within("y", actual, exact, bound)


def _score_error(q, k, w, mask=None, *, scale=None, softcap=None, alibi_slopes=None, **_):
    """How far the score of a query and a key may be off, [B, N, S, K]; 0 where it is not used."""
    group = q.shape[1] // max(k.shape[1], 1)
    k = np.repeat(np.abs(k.astype(np.float64)), group, axis=1)
    size = np.abs(q.astype(np.float64)) @ k.swapaxes(2, 3)
    error = 6 * size * abs(q.shape[-1] ** -0.5 if scale is None else scale)
    error = error + 3 * (softcap or 0)
    if alibi_slopes is not None:
        far = np.abs(np.arange(q.shape[2])[:, None] - np.arange(k.shape[2]))
        error = error + 3 * alibi_slopes[:, None, None] * (far + 1.0)
    if mask is not None and mask.dtype != bool:
        error = error + 3 * np.where(np.isfinite(mask), np.abs(mask.astype(np.float64)), 0)
    return np.where(w > 0, EPS * error, 0)


def _assert_within(name, actual, exact, bound):
    excess = np.abs(actual - exact) - bound
    assert excess.size == 0 or excess.max() <= 0, (
        f"{name}: error exceeds the bound by {excess.max():.3g}: it is "
        f"{(np.abs(actual - exact) / bound).max():.3g} times as large"
    )


def assert_gradients(actual, q, k, v, dy, mask=None, **options):
    """`actual` (a dict) is what reference.attention_gradients defines; all finite but the mask.

    The weights are e^(score - lse). To the score's error comes that of lse: the mean error of the
    scores, the rounding of its own size, and 8 eps for the sum and its logarithm. A product of n
    terms errs by 3 eps of its size (tolerance.py), of which some are products with an error
    already. What dropout multiplies by errs, and its product.
    """
    exact = reference.attention_gradients(q, k, v, dy, mask, **options)
    y, w = reference.attention(q, k, v, mask, weights=True, **options)
    error = _score_error(q, k, w, mask, **options)
    scale = options.get("scale")
    scale = q.shape[-1] ** -0.5 if scale is None else abs(scale)
    group = q.shape[1] // max(k.shape[1], 1)
    q, k, v, dy = (np.abs(x.astype(np.float64)) for x in (q, k, v, dy))
    k, v = (np.repeat(x, group, axis=1) for x in (k, v))
    scores = q @ k.swapaxes(2, 3) * scale  # at least |score|, but for the mask: it is in `error`
    mean = (w * (error + EPS * scores)).sum(axis=-1, keepdims=True) + error.max(
        axis=-1, keepdims=True, initial=0
    )
    off = np.where(w > 0, error + mean + EPS * (8 + scores), 0)
    dw = w * np.expm1(off) * np.exp(off) + 2 * EPS * w
    keep = options.get("keep", 1.0)
    dp = keep * (dy @ v.swapaxes(2, 3))
    dot = (np.abs(y) * dy).sum(axis=-1, keepdims=True)
    d_dot = 8 * EPS * dot + ((keep * w * np.expm1(off)) @ v * 2 * dy).sum(axis=-1, keepdims=True)
    d_ds = (dw + 4 * EPS * w) * (dp + dot) + w * (5 * EPS * dp + d_dot)
    ds = w * (dp + dot)
    if options.get("softcap") is not None:
        d_ds = d_ds + ds * (8 * EPS + 2 * error / options["softcap"])
    shared = lambda x: x.reshape(x.shape[0], -1, group, *x.shape[2:]).sum(axis=2)
    product = lambda a, d_a, b: (d_a + 4 * EPS * a) @ b
    bounds = {
        "query": product(ds, d_ds, k) * scale,
        "key": shared(product(ds.swapaxes(2, 3), d_ds.swapaxes(2, 3), q) * scale),
        "value": shared(
            product((keep * w).swapaxes(2, 3), (keep * (dw + 2 * EPS * w)).swapaxes(2, 3), dy)
        ),
    }
    for (name, bound), truth in zip(bounds.items(), exact, strict=True):
        assert actual[name].dtype == np.float32
        assert actual[name].shape == truth.shape
        _assert_within(name, actual[name], truth, bound + 1e-37)


def assert_threads_change_nothing(call):
    """Check that the call gives the same bits with one thread, two and three."""
    before, results = treadle.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            treadle.set_num_threads(n)
            results.append(call())
    finally:
        treadle.set_num_threads(before)
    for other in results[1:]:
        assert_same_bits(other, results[0])
