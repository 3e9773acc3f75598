"""Attention in bfloat16: exact products of rounded factors, the softmax in float32."""

import numpy as np
import pytest

import treadle
from reference.formats import bfloat16
from support import samples
from support.attention_checks import assert_attention, assert_threads_change_nothing
from support.tolerance import assert_same_bits

attend = treadle.functional.scaled_dot_product_attention
ROUNDING = 2.0**-8  # of a number with 8 bits, to the nearest


def heads(s, k, e, f, *, b=2, n=4, shared=2, seed=0):
    """q [B, N, S, E], k [B, Nk, K, E], v [B, Nk, K, F]."""
    return (
        2 * samples.normal([seed, s, 1], b, n, s, e),
        2 * samples.normal([seed, k, 2], b, shared, k, e),
        samples.normal([seed, k, 3], b, shared, k, f),
    )


SIZES = [
    (5, 1, 1, 1), (6, 2, 2, 3), (7, 17, 15, 16), (5, 63, 16, 17), (13, 64, 33, 32), (49, 65, 64,
    64), (5, 255, 128, 65), (6, 256, 256, 1), (9, 257, 31, 256), (100, 300, 32, 32),
]  # fmt: skip


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sizes(isa, threads, sizes):
    arrays = heads(*sizes)
    y = attend(*arrays, enable_gqa=True, dtype="bfloat16")
    assert_attention(y, *map(bfloat16, arrays), rounding=ROUNDING)


OPTIONS = {
    "causal": {"is_causal": True},
    "window": {"window": (3, 2)},
    "softcap": {"softcap": 2.0},
    "scale": {"scale": -0.3},
    "alibi": {"alibi_slopes": np.linspace(0, 1, 4, dtype=np.float32)},
    "bool": {"mask": samples.normal(4, 2, 4, 21, 70) > 0},
    "added": {"mask": samples.normal(5, 2, 4, 21, 70)},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options(isa, options):
    options = dict(options)
    arrays, mask = heads(21, 70, 24, 24), options.pop("mask", None)
    y = attend(*arrays, mask, enable_gqa=True, dtype="bfloat16", **options)
    assert_attention(y, *map(bfloat16, arrays), mask, rounding=ROUNDING, **options)


@pytest.mark.parametrize("keys", [0, 1, 33, 64, 69])
def test_keys_beyond_a_length_are_never_read(isa, keys):
    """An odd number of keys shares a word with one that is not there."""
    q, k, v = heads(9, 70, 20, 20)
    y = attend(q, k[:, :, :keys], v[:, :, :keys], enable_gqa=True, dtype="bfloat16")
    k[:, :, keys:] = v[:, :, keys:] = np.nan
    given = {"lengths": [keys, keys], "enable_gqa": True, "dtype": "bfloat16"}
    assert_same_bits(attend(q, k, v, **given), y)
    assert np.isfinite(y).all()


@pytest.mark.parametrize("queries", [1, 4])
def test_a_few_queries(isa, queries):
    """As many heads as share keys, and asking for the weights, change nothing."""
    q, k, v = heads(queries, 300, 32, 32, n=40, shared=2)
    y = attend(q, k, v, enable_gqa=True, dtype="bfloat16")
    assert_attention(y, *map(bfloat16, (q, k, v)), rounding=ROUNDING)
    alone = attend(q[:, :1], k[:, :1], v[:, :1], dtype="bfloat16")
    assert_same_bits(y[:, :1], alone)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_asking_for_weights_changes_nothing(isa, dtype):
    module = treadle.MultiheadAttention(32, 4, batch_first=True, seed=3, dtype=dtype)
    x = samples.normal(8, 2, 3, 32)
    assert_same_bits(module(x, x, x)[0], module(x, x, x, need_weights=False)[0])


def test_invariance(isa):
    """A sequence gets the same bits in any batch and with any number of threads."""
    arrays = heads(50, 300, 32, 40, b=3)
    call = lambda: attend(*arrays, enable_gqa=True, dtype="bfloat16", is_causal=True)
    assert_threads_change_nothing(call)
    y = call()
    for b in range(3):
        alone = attend(
            *(x[b : b + 1] for x in arrays), enable_gqa=True, dtype="bfloat16", is_causal=True
        )
        assert_same_bits(y[b : b + 1], alone)


def test_nan_and_infinity(isa):
    """NaN and infinity reach the outputs that depend on them, and no others."""
    q, k, v = heads(6, 40, 16, 16, shared=4)
    q[0, 0, 2, 3] = np.nan
    v[1, 1, 7, 5] = np.inf
    k[1, 2, 9, 0] = np.inf
    y = attend(q, k, v, dtype="bfloat16")
    wrong = ~np.isfinite(y)
    assert wrong[0, 0, 2].all()
    assert wrong[1, 1, :, 5].all()
    assert np.isnan(y[1, 2]).all(axis=-1).any()
    wrong[0, 0, 2] = wrong[1, 1, :, 5] = wrong[1, 2] = False
    assert not wrong.any()


@pytest.mark.parametrize("dtype", ["int8", "float16", None, 3, "BFLOAT16"], ids=str)
def test_other_dtypes(dtype):
    with pytest.raises(ValueError, match=r"attention: dtype is .*, expected one of \['float32'"):
        attend(*heads(2, 2, 4, 4), enable_gqa=True, dtype=dtype)


def test_dropout_needs_float32():
    with pytest.raises(ValueError, match=r"attention: dtype is 'bfloat16' with dropout"):
        attend(*heads(2, 2, 4, 4), enable_gqa=True, dtype="bfloat16", dropout_p=0.1)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_modules_attend_in_bfloat16(isa, dtype):
    """The error is that of the projections and of bfloat16 attention; the weights sum to 1."""
    module = treadle.MultiheadAttention(32, 4, batch_first=True, seed=3)
    x = samples.normal(7, 2, 20, 32)
    exact, weights = module(x, x, x)
    y, found = module.to(dtype)(x, x, x)
    # Eight bits of each factor, in three products one after the other.
    assert np.abs(y - exact).max() < 3 * 2.0**-7 * np.abs(exact).max()
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)
    assert np.abs(found - weights).max() < 0.01
