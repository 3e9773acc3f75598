"""Layers of attention whose padding rows, or old cached tokens, hold NaN and infinity.

The programs come from padded batches made with torch.empty and from caches whose slots are used
again; what lies in the padding must not be seen in any result.
"""

import numpy as np
import pytest

import treadle
from support import samples
from support.tolerance import assert_same_bits

LENGTHS = np.array([9, 3, 6])
PADDING = np.arange(9)[None] >= LENGTHS[:, None]


def rows(seed=0, hidden=16):
    return samples.normal([seed, 1], 3, 9, hidden)


def spoilt(x):
    """A copy of x [B, S, H] with NaN or infinity in the rows of padding."""
    return np.where(PADDING[..., None], np.array([np.nan, np.inf] * 8, np.float32), x)


@pytest.mark.parametrize("mask", ["bool", "float"])
def test_multihead_attention(isa, threads, mask):
    m = treadle.MultiheadAttention(16, 2, batch_first=True)
    x = rows()
    hidden = PADDING if mask == "bool" else np.where(PADDING, -np.inf, 0).astype(np.float32)
    for queries in (x, x[:, :2]):  # many queries, and so few that decoding's kernel takes them
        expected, p = m(queries, x, x, key_padding_mask=hidden)
        actual, q = m(queries, spoilt(x), spoilt(x), key_padding_mask=hidden)
        assert_same_bits(actual, expected)
        assert_same_bits(q, p)
        actual, _ = m(queries, spoilt(x), spoilt(x), key_padding_mask=hidden, need_weights=False)
        assert np.isfinite(actual).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder(isa, threads, dtype, norm_first):
    """Padding of a batch, and tokens that a mask hides from all others."""
    layer = treadle.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=norm_first)
    m = treadle.TransformerEncoder(layer, 2).to(dtype)
    x = rows(1)
    for options in ({"src_key_padding_mask": PADDING}, {"is_causal": True}):
        if "is_causal" in options:
            options["src_key_padding_mask"] = PADDING
        expected, actual = m(x, **options), m(spoilt(x), **options)
        assert_same_bits(actual[~PADDING], expected[~PADDING])
    mask = np.zeros((9, 9), bool)
    mask[:, 5] = True
    mask[5, 5] = False
    bad = x.copy()
    bad[:, 5] = np.nan
    keep = np.delete(np.arange(9), 5)
    assert_same_bits(m(bad, mask=mask)[:, keep], m(x, mask=mask)[:, keep])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("s", [1, 3, 7])
def test_cache(isa, threads, dtype, s):
    """Tokens before a window, and tokens behind a row's length, may hold anything."""
    k, v = (samples.normal([2, i], 2, 2, 60, 24) for i in range(2))
    q = samples.normal([3, s], 2, 4, s, 24)

    def run(k, v):
        cache = treadle.KVCache(2, 2, 24, dtype=dtype)
        cache.append(k, v)
        return cache.attend(q, window=20), cache

    expected, _ = run(k, v)
    bad_k, bad_v = k.copy(), v.copy()
    bad_k[:, :, [3, 30]] = np.nan
    bad_v[:, :, [3, 30]] = np.nan
    actual, _ = run(bad_k, bad_v)
    assert_same_bits(actual, expected)
    # The window of the oldest query begins one token earlier than that of the next one.
    at = 60 - s - 20
    bad_v = v.copy()
    bad_v[:, :, at] = np.inf
    actual, cache = run(k, bad_v)
    assert_same_bits(actual[:, :, 1:], expected[:, :, 1:])
    # After truncating, the spoilt tokens are gone.
    cache.truncate([30, 30])
    fresh = treadle.KVCache(2, 2, 24, dtype=dtype)
    fresh.append(k[:, :, :30], v[:, :, :30])
    if at >= 30:
        assert_same_bits(cache.attend(q), fresh.attend(q))
