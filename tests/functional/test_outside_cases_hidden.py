"""Keys that a query does not see contribute nothing, whatever they hold.

Buffers of padding are often not zero: torch.empty, the rest of a cache, a row that a model has
spoilt. A mask makes such a key's probability zero, and 0 x NaN is NaN (pytorch/pytorch#101967; the
gradients: pytorch/pytorch#41508).
"""

import itertools

import numpy as np
import pytest

import treadle
from support import samples
from support.tolerance import assert_same_bits

attend = treadle.functional.scaled_dot_product_attention
forward = treadle.functional.scaled_dot_product_attention_forward
backward = treadle.functional.scaled_dot_product_attention_backward

SPOILT = [np.nan, np.inf, -np.inf]
KINDS = ["bool", "float", "causal", "window", "lengths", "lengths with bool", "softcap", "alibi"]
# One query, those that decoding takes together, a tile, several tiles, and several parts of a head.
SIZES = [(1, 40), (4, 300), (5, 21), (13, 280), (70, 150), (400, 130)]


def hiding(kind, s, k, seed):
    """Options that hide keys, and what the queries see as booleans [S, K]."""
    rng = np.random.default_rng([seed, s, k])
    random = rng.random((s, k)) < 0.7
    at, key = np.arange(s)[:, None], np.arange(k)[None]
    if kind == "causal":
        return {"is_causal": True}, key <= at
    if kind == "window":
        return {"window": (3, 2)}, (key >= at - 3) & (key <= at + 2)
    if kind == "lengths":
        return {"lengths": ([s], [k - 7])}, np.broadcast_to(key < k - 7, (s, k))
    if kind == "float":
        numbers = rng.standard_normal((s, k), dtype=np.float32)
        return {"attn_mask": np.where(random, numbers, -np.inf).astype(np.float32)}, random
    more = {"softcap": {"softcap": 2.0}, "alibi": {"alibi_slopes": [0.5, 0.25]}}.get(kind, {})
    if kind == "lengths with bool":
        return {"attn_mask": random, "lengths": ([s], [k - 7])}, random & (key < k - 7)
    return {"attn_mask": random, **more}, random


def arrays(s, k, e=20, f=24, heads=2):
    return (
        samples.normal([1, s], 1, 2, s, e),
        samples.normal([2, k], 1, heads, k, e),
        samples.normal([3, k], 1, heads, k, f),
    )


def spoil(array, keys):
    """A copy whose vectors of these keys hold NaN, infinity and numbers."""
    array = array.copy()
    for i, key in enumerate(keys):
        array[..., key, i % 2 :: 1 + i % 3] = SPOILT[i % 3]
    return array


@pytest.mark.parametrize(("s", "k"), SIZES, ids=lambda n: str(n))
def test_a_query_gets_nothing_from_keys_that_it_does_not_see(isa, threads, s, k):
    """Every query that sees no spoilt key has the bits that it has beside finite keys."""
    q, key, value = arrays(s, k)
    for kind, dtype in itertools.product(KINDS, ["float32", "bfloat16"]):
        options, seen = hiding(kind, s, k, 4)
        chosen = [0, 1, k // 2, k // 2 + 1, k - 2, k - 1]
        for keys in (chosen, [k - 1], np.flatnonzero(~seen.any(0))):
            clean = ~seen[:, keys].any(1)
            expected = attend(q, key, value, **options, dtype=dtype)
            actual = attend(q, spoil(key, keys), spoil(value, keys), **options, dtype=dtype)
            assert_same_bits(actual[:, :, clean], expected[:, :, clean])
            # A query that sees a NaN gets it.
            bad = value.copy()
            bad[:, :, keys] = np.nan
            actual = attend(q, key, bad, **options, dtype=dtype)
            assert np.isnan(actual[:, :, ~clean]).all()


def test_the_other_queries_of_a_call_change_nothing(isa, threads):
    """Queries have the same bits alone and among others, with any number of threads."""
    q, key, value = arrays(96, 200, heads=1)
    mask = np.random.default_rng(5).random((96, 200)) < 0.5
    value[:, :, 20] = np.nan
    mask[::2, 20] = False
    whole = attend(q, key, value, mask, enable_gqa=True)
    assert np.isfinite(whole[:, :, ::2]).all()
    assert np.isnan(whole[:, :, 1::2][:, :, mask[1::2, 20]]).all()
    for begin, end in ((0, 6), (3, 33), (40, 96)):
        part = attend(q[:, :, begin:end], key, value, mask[begin:end], enable_gqa=True)
        assert_same_bits(part, whole[:, :, begin:end])


def test_probabilities_of_hidden_keys_are_zero(isa):
    """A module tells the probabilities: those of hidden keys are 0, in rows of NaN as well."""
    m = treadle.MultiheadAttention(8, 2, batch_first=True)
    x = samples.normal(6, 1, 9, 8)
    x[:, 4] = np.nan
    y, p = m(x, x, x, key_padding_mask=np.arange(9)[None] >= 4)
    assert np.isfinite(np.delete(y, 4, 1)).all()
    assert (p[:, :, 4:] == 0).all()


@pytest.mark.parametrize(("s", "k"), [(1, 40), (5, 21), (13, 280), (200, 530)])
def test_gradients_pass_by_hidden_keys(isa, threads, s, k):
    """Hidden keys have gradients of 0, and what they hold reaches no other gradient."""
    q, key, value = arrays(s, k)
    dy = samples.normal(7, 1, 2, s, 24)
    for kind in KINDS:
        options, seen = hiding(kind, s, k, 8)
        expected = backward(forward(q, key, value, **options)[1], dy)
        hidden = np.flatnonzero(~seen.any(0))
        for keys in ([0, k // 2, k - 1], hidden):
            clean = ~seen[:, keys].any(1)
            _, saved = forward(q, spoil(key, keys), spoil(value, keys), **options)
            actual = backward(saved, dy)
            assert_same_bits(actual["query"][:, :, clean], expected["query"][:, :, clean])
            untouched = ~(seen & ~clean[:, None]).any(0)  # no spoilt query sees these keys
            for name in ("key", "value"):
                assert_same_bits(actual[name][:, :, untouched], expected[name][:, :, untouched])
                assert not actual[name][:, :, hidden].any()


def test_a_spoilt_query_reaches_only_the_keys_that_it_sees(isa, threads):
    """NaN in a query, or in its gradient, stays with the keys that the query sees."""
    s, k = 120, 270
    q, key, value = arrays(s, k)
    dy = samples.normal(9, 1, 2, s, 24)
    chosen = [2, 50, 51, s - 1]
    rest = np.delete(np.arange(s), chosen)
    for kind in KINDS:
        options, seen = hiding(kind, s, k, 10)
        expected = backward(forward(q, key, value, **options)[1], dy)
        blind = ~seen[chosen].any(0)
        for query, gradient in ((spoil(q, chosen), dy), (q, spoil(dy, chosen))):
            actual = backward(forward(query, key, value, **options)[1], gradient)
            assert_same_bits(actual["query"][:, :, rest], expected["query"][:, :, rest])
            for name in ("key", "value"):
                assert_same_bits(actual[name][:, :, blind], expected[name][:, :, blind])


def test_dropout_beside_hidden_keys(isa):
    """Dropout leaves hidden keys without effect, forward and backward."""
    q, key, value = arrays(30, 90)
    dy = samples.normal(11, 1, 2, 30, 24)
    mask = np.random.default_rng(12).random((30, 90)) < 0.7
    mask[:, 33] = False
    options = {"attn_mask": mask, "dropout_p": 0.3, "seed": 5}
    y, saved = forward(q, key, value, **options)
    bad_y, bad = forward(q, spoil(key, [33]), spoil(value, [33]), **options)
    assert_same_bits(bad_y, y)
    expected, actual = backward(saved, dy), backward(bad, dy)
    for name in expected:
        assert_same_bits(actual[name], expected[name])
