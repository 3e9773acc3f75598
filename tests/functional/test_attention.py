"""scaled_dot_product_attention against its float64 definition and PyTorch, on every ISA."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle
from support import samples
from support.attention_checks import (
    assert_attention,
    assert_threads_change_nothing,
    check_attention,
)
from support.tolerance import assert_same_bits

attend = treadle.functional.scaled_dot_product_attention


def qkv(b, n, s, k, e, f=None, *, shared=None, seed=0):
    """q [B, N, S, E], k [B, Nk, K, E], v [B, Nk, K, F]; scores of a width that matters."""
    heads = shared or n
    return (
        2 * samples.normal([seed, 1], b, n, s, e),
        2 * samples.normal([seed, 2], b, heads, k, e),
        samples.normal([seed, 3], b, heads, k, f or e),
    )


HEAD_SIZES = [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 80, 96, 100, 127, 128, 192,
              255, 256]  # fmt: skip


@pytest.mark.parametrize("e", HEAD_SIZES, ids=lambda e: f"E{e}")
def test_head_sizes(isa, e):
    check_attention(qkv(2, 2, 5, 19, e))
    check_attention(qkv(1, 2, 37, 70, e), is_causal=True)
    check_attention(qkv(2, 2, 1, 33, e))


@pytest.mark.parametrize("f", [1, 5, 16, 40, 64, 100, 256], ids=lambda f: f"F{f}")
def test_value_sizes(isa, f):
    """Values of another size than keys."""
    for e in (1, 20, 64, 256):
        check_attention(qkv(1, 2, 9, 21, e, f))
        check_attention(qkv(1, 2, 1, 21, e, f))


LENGTHS = [1, 2, 3, 15, 16, 17, 31, 33, 64, 65, 127, 130]


@pytest.mark.parametrize("k", [*LENGTHS, 257, 700, 1500], ids=lambda k: f"K{k}")
def test_keys(isa, k):
    for s in (1, 2, 16, 23):
        check_attention(qkv(1, 1, s, k, 24))


@pytest.mark.parametrize("s", [*LENGTHS, 300], ids=lambda s: f"S{s}")
def test_queries(isa, s):
    check_attention(qkv(1, 2, s, 29, 16))
    check_attention(qkv(1, 2, s, s, 16), is_causal=True)


@pytest.mark.parametrize(
    "shape", [(0, 2, 3, 4, 5), (2, 0, 3, 4, 5), (2, 2, 0, 4, 5), (2, 2, 3, 0, 5)]
)
def test_nothing(isa, shape):
    """No row, head, query: an empty result. No key: zeros."""
    y = attend(*qkv(*shape))
    assert y.shape == (*shape[:3], 5)
    assert not y.any()


MASK_SHAPES = ["SK", "1K", "S1", "K", "1", "", "B11K", "B1SK", "1NSK", "BNSK"]


def mask(kind, **sizes):
    """A mask by name: float-B11K, bool-SK, ..."""
    rng = np.random.default_rng(5)
    kind, _, letters = kind.partition("-")
    shape = [1 if letter == "1" else sizes[letter] for letter in letters]
    if kind == "bool":
        return np.array(rng.random(shape) > 0.4)
    if kind == "float":
        return np.array(3 * rng.standard_normal(shape), np.float32)
    if kind == "triangle":
        return np.tri(sizes["S"], sizes["K"], dtype=bool)
    far = np.where(rng.random(shape) > 0.5, 0, -np.inf).astype(np.float32)
    return np.maximum(far, np.finfo(np.float32).min) if kind == "lowest" else far


MASKS = [f"{kind}-{letters}" for kind in ("bool", "float") for letters in MASK_SHAPES]
MASKS += ["infinite-SK", "infinite-BNSK", "lowest-SK", "triangle"]  # lowest: Transformers' masks


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("s", [1, 5, 40], ids=lambda s: f"S{s}")
def test_masks(isa, s, name):
    check_attention(qkv(3, 2, s, 35, 12), mask(name, B=3, N=2, S=s, K=35))


def test_a_bool_mask_is_the_float_mask_of_zeros_and_infinity(isa):
    arrays = qkv(2, 2, 33, 50, 16)
    mask = np.random.default_rng(0).random((2, 2, 33, 50)) > 0.5
    number = np.where(mask, np.float32(0), np.float32(-np.inf))
    assert_same_bits(attend(*arrays, mask), attend(*arrays, number))


def test_masked_rows_are_zero(isa):
    """All keys ruled out, in every way there is."""
    arrays = qkv(2, 2, 20, 30, 16)
    mask = np.arange(20)[:, None] % 3 != np.zeros(30)
    for each in (mask, np.where(mask, 0, -np.inf).astype(np.float32)):
        y = check_attention(arrays, each)
        assert not y[:, :, ::3].any()
        assert y[:, :, 1::3].all()
    assert not attend(*arrays, False).any()
    assert not attend(*arrays, lengths=[0, 0]).any()
    assert not attend(
        *arrays, window=(None, 0), lengths=[30, 30], attn_mask=np.arange(30) >= 20
    ).any()
    y = check_attention(qkv(1, 1, 9, 4, 8), window=(0, 0))  # beyond the fourth, no key is in reach
    assert not y[:, :, 4:].any()
    assert y[:, :, :4].all()


@pytest.mark.parametrize(
    "lengths", [(None, [30, 0, 7]), ([20, 3, 0], None), ([0, 20, 11], [30, 1, 16])]
)
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_lengths(isa, threads, lengths, causal):
    arrays = qkv(3, 2, 20, 30, 16)
    y = check_attention(arrays, lengths=lengths, is_causal=causal)
    if lengths[0] is not None:
        for row, length in enumerate(lengths[0]):
            assert not y[row, :, length:].any()
    mask = np.random.default_rng(0).random((20, 30)) > 0.5
    if not causal:
        check_attention(arrays, mask, lengths=lengths)
    if lengths[0] is None:
        assert_same_bits(attend(*arrays, lengths=lengths[1], is_causal=causal), y)
        assert_same_bits(attend(*arrays, lengths=tuple(lengths[1]), is_causal=causal), y)


def test_keys_beyond_a_length_are_not_read(isa):
    """NaN there changes no bit."""
    q, k, v = qkv(3, 2, 20, 30, 16)
    lengths = [30, 0, 7]
    expected = attend(q, k, v, lengths=lengths)
    for row, length in enumerate(lengths):
        k[row, :, length:] = np.nan
        v[row, :, length:] = np.nan
    assert_same_bits(attend(q, k, v, lengths=lengths), expected)


WINDOWS = [(0, 0), (3, None), (None, 3), (5, 2), (100, 0), (16, 16), (0, 40), (None, None), 4]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_windows(isa, window):
    ends = window if isinstance(window, tuple) else (window, window)
    for s, k in ((1, 9), (70, 70), (40, 90), (90, 40)):
        arrays = qkv(1, 2, s, k, 16)
        for causal in (False, True):
            y = attend(*arrays, window=window, is_causal=causal)
            assert_attention(y, *arrays, window=ends, is_causal=causal)


def test_a_window_to_the_left_alone_is_causal(isa):
    arrays = qkv(2, 2, 50, 50, 16)
    assert_same_bits(attend(*arrays, window=(None, 0)), attend(*arrays, is_causal=True))


@pytest.mark.parametrize("softcap", [0.5, 5.0, 50.0])
@pytest.mark.parametrize("s", [1, 30])
def test_softcap(isa, s, softcap):
    check_attention(qkv(2, 2, s, 40, 16), softcap=softcap)
    check_attention(qkv(2, 2, s, 40, 16), np.arange(40) > 7, softcap=softcap)


@pytest.mark.parametrize("s", [1, 30])
def test_alibi(isa, s):
    slopes = np.array([0.5, 0.25, 0.125, 0.0], np.float32)
    check_attention(qkv(2, 4, s, 40, 16), alibi_slopes=slopes)
    check_attention(qkv(2, 4, s, 40, 16), alibi_slopes=slopes, is_causal=True, softcap=3.0)


@pytest.mark.parametrize("scale", [0.0, 1.0, -0.3, 1e-3, 4])
def test_scale(isa, scale):
    check_attention(qkv(1, 2, 9, 21, 8), scale=scale)


@pytest.mark.parametrize("shared", [1, 2, 4, 8], ids=lambda n: f"Nk{n}")
@pytest.mark.parametrize("s", [1, 21], ids=lambda s: f"S{s}")
def test_grouped_heads(isa, threads, s, shared):
    """Each head of k and v serves those of q that follow each other: the same bits as repeated."""
    arrays = qkv(2, 8, s, 40, 16, shared=shared)
    y = check_attention(arrays)
    repeated = [arrays[0], *(np.repeat(x, 8 // shared, axis=1) for x in arrays[1:])]
    assert_same_bits(attend(*repeated), y)
    view = [np.broadcast_to(x[:, :1], x.shape) for x in arrays[1:]]
    assert_same_bits(
        attend(arrays[0], *view, enable_gqa=True),
        attend(arrays[0], *(np.ascontiguousarray(x) for x in view), enable_gqa=True),
    )


def test_large_scores(isa):
    """The maximum is taken off before exp: nothing overflows."""
    q, k, v = qkv(1, 2, 20, 40, 16)
    check_attention((100 * q, 100 * k, v))
    q[:] = 1e18
    k[:] = np.where(np.arange(40)[:, None] == 3, 1e18, -1e18)
    np.testing.assert_array_equal(attend(q, k, v), np.broadcast_to(v[:, :, 3:4], q.shape))


def test_special_values(isa):
    """NaN reaches the queries that see it, and no others."""
    for s in (1, 20):
        q, k, v = qkv(2, 2, s, 30, 16)
        clean = attend(q, k, v)
        q[0, 1, 0, 3] = np.nan
        y = attend(q, k, v)
        assert np.isnan(y[0, 1, 0]).all()
        y[0, 1, 0] = clean[0, 1, 0]
        assert_same_bits(y, clean)
        q, k, v = qkv(2, 2, s, 30, 16)
        k[1, 0, 7, 2] = np.nan
        y = attend(q, k, v)
        assert np.isnan(y[1, 0]).all()
        y[1, 0] = clean[1, 0]
        assert_same_bits(y, clean)
        q, k, v = qkv(2, 2, s, 30, 16)
        v[1, 0, 7, 2] = np.inf
        v[1, 0, 7, 3] = np.nan
        y = attend(q, k, v)
        assert (y[1, 0, :, 2] == np.inf).all()
        assert np.isnan(y[1, 0, :, 3]).all()
        y[1, 0, :, 2:4] = clean[1, 0, :, 2:4]
        assert_same_bits(y, clean)
    mask = np.zeros((20, 30), np.float32)
    mask[4, 5] = np.nan
    mask[6, 7] = np.inf
    q, k, v = qkv(2, 2, 20, 30, 16)
    y = attend(q, k, v, mask)
    assert np.isnan(y[:, :, [4, 6]]).all()
    y[:, :, [4, 6]] = clean[:, :, [4, 6]]
    assert_same_bits(y, clean)


# Layouts in memory.


def layouts(x):
    """Return copies of x in other layouts; all but the last have a contiguous last axis."""
    turned = np.ascontiguousarray(x.transpose(2, 0, 1, 3)).transpose(1, 2, 0, 3)
    middle = np.ascontiguousarray(x.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    wide = np.full((*x.shape[:-1], 3 * x.shape[-1] + 1), np.nan, np.float32)
    wide[..., 1 : 1 + x.shape[-1]] = x
    return {
        "[S, B, N, E]": turned,
        "[B, S, N, E]": middle,
        "within rows": wide[..., 1 : 1 + x.shape[-1]],
        "backwards": np.ascontiguousarray(x[::-1, ::-1, ::-1])[::-1, ::-1, ::-1],
        "swapped bytes": x.astype(">f4"),
        "last axis apart": np.asfortranarray(x),
        "torch": torch.from_numpy(middle),
    }


@pytest.mark.parametrize("s", [1, 19], ids=lambda s: f"S{s}")
def test_layouts(isa, s):
    arrays = qkv(3, 4, s, 33, 20)
    expected = attend(*arrays)
    for name in layouts(arrays[0]):
        assert_same_bits(attend(*(layouts(x)[name] for x in arrays)), expected)
    fused = np.stack([x[:, :, :19] for x in qkv(3, 4, 19, 33, 20)]).transpose(1, 3, 0, 2, 4)
    packed = np.ascontiguousarray(fused)  # [B, S, 3, N, E], as one projection gives them
    views = [packed[:, :, i].swapaxes(1, 2) for i in range(3)]
    assert_same_bits(attend(*views), attend(*(np.ascontiguousarray(x) for x in views)))


def test_repeated_rows(isa):
    """Strides of zero: one row of keys for the whole batch."""
    q, k, v = qkv(3, 2, 5, 9, 8)
    expected = attend(q, *(np.repeat(x[:1], 3, axis=0) for x in (k, v)))
    assert_same_bits(attend(q, k[:1], v[:1]), expected)
    assert_same_bits(attend(q, k[0], v[0]), expected)


def test_the_result_merges_its_heads_without_a_copy():
    y = attend(*qkv(2, 4, 5, 9, 8))
    merged = y.swapaxes(1, 2).reshape(2, 5, 32)
    assert np.shares_memory(merged, y)


def test_out(isa):
    arrays = qkv(2, 4, 5, 9, 8)
    expected = attend(*arrays)
    for out in (
        np.empty((2, 4, 5, 8), np.float32),
        np.empty((5, 2, 4, 8), np.float32).transpose(1, 2, 0, 3),
    ):
        assert attend(*arrays, out=out) is out
        assert_same_bits(out, expected)
    wide = np.full((2, 4, 5, 10), 7, np.float32)
    attend(*arrays, out=wide[..., 1:9])
    assert_same_bits(wide[..., 1:9], expected)
    assert (wide[..., [0, 9]] == 7).all()
    five = np.empty((1, 2, 4, 5, 8), np.float32)
    attend(*(x[None] for x in arrays), out=five)
    assert_same_bits(five[0], expected)


# Invariance, bit for bit.


@pytest.mark.parametrize(("s", "k"), [(1, 300), (1, 5000), (7, 33), (130, 130)])
def test_a_row_does_not_see_its_batch(isa, threads, s, k):
    arrays = qkv(5, 3, s, k, 24)
    lengths = np.array([k, k // 2, 0, 1, k - 1])
    whole = attend(*arrays, lengths=lengths)
    for row in range(5):
        one = [x[row : row + 1] for x in arrays]
        assert_same_bits(attend(*one, lengths=lengths[row : row + 1]), whole[row : row + 1])
        short = [one[0], *(x[:, :, : lengths[row]] for x in one[1:])]
        assert_same_bits(attend(*short), whole[row : row + 1])
        head = [x[:, 1:2] for x in one]
        assert_same_bits(attend(*head, lengths=lengths[row : row + 1]), whole[row : row + 1, 1:2])


@pytest.mark.parametrize(("s", "k"), [(1, 5000), (7, 33), (130, 130), (400, 400)])
def test_threads_change_nothing(isa, s, k):
    arrays = qkv(3, 3, s, k, 40)
    assert_threads_change_nothing(
        lambda: [attend(*arrays), attend(*arrays, is_causal=s == k, lengths=[k, 1, k // 2])]
    )


def test_padded_queries_change_nothing(isa):
    q, k, v = qkv(2, 2, 20, 20, 16)
    y = attend(q, k, v, is_causal=True, lengths=([13, 20], [13, 20]))
    assert_same_bits(y[:1, :, :13], attend(*(x[:1, :, :13] for x in (q, k, v)), is_causal=True))


# PyTorch.


def torchs(*arrays, **options):
    tensors = [None if x is None else torch.from_numpy(np.ascontiguousarray(x)) for x in arrays]
    return torch.nn.functional.scaled_dot_product_attention(*tensors, **options).numpy()


@pytest.mark.parametrize("ndim", [2, 3, 4, 5])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_like_torch(ndim, causal):
    """Any number of leading axes, masks included."""
    if ndim == 5:
        arrays = [x.reshape(3, 2, 2, *x.shape[2:]) for x in qkv(6, 2, 5, 9, 8)]
    else:
        arrays = [x[(0,) * (4 - ndim)] for x in qkv(6, 2, 5, 9, 8)]
    mask = None if causal else samples.normal(0, 5, 9) > 0
    ours = attend(*arrays, mask, is_causal=causal)
    theirs = torchs(*arrays, mask, is_causal=causal)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_leading_axes_broadcast_as_in_torch():
    q, k, v = (
        samples.normal(0, 3, 1, 2, 5, 8),
        samples.normal(1, 4, 2, 7, 8),
        samples.normal(2, 2, 7, 6),
    )
    ours = attend(q, k, v)
    theirs = torchs(q, k, v)
    assert ours.shape == theirs.shape == (3, 4, 2, 5, 6)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_grouped_heads_are_torchs():
    q, k, v = qkv(2, 6, 5, 9, 8, shared=2)
    np.testing.assert_allclose(
        attend(q, k, v, enable_gqa=True), torchs(q, k, v, enable_gqa=True), atol=1e-5
    )
    np.testing.assert_allclose(
        attend(q[0], k[0], v[0], enable_gqa=True),
        torchs(q[0], k[0], v[0], enable_gqa=True),
        atol=1e-5,
    )


def test_masked_rows_are_torchs():
    arrays, mask = qkv(2, 2, 5, 9, 8), np.arange(5)[:, None] > np.zeros(9)
    np.testing.assert_allclose(attend(*arrays, mask), torchs(*arrays, mask), atol=1e-5)


# Everything at once.


@st.composite
def calls(draw):
    """Arrays, a mask and options, of which any may come together."""
    size = st.integers(1, 40)
    b, shared, group = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    s, k, e, f = draw(size), draw(size), draw(st.integers(1, 70)), draw(st.integers(1, 70))
    arrays = qkv(b, shared * group, s, k, e, f, shared=shared, seed=draw(st.integers(0, 99)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    options = {"is_causal": draw(st.booleans())}
    mask = None
    if not options["is_causal"]:
        shape = [draw(st.sampled_from([n, 1])) for n in (b, shared * group, s, k)]
        kind = draw(st.sampled_from(["none", "bool", "float"]))
        if kind == "bool":
            mask = np.array(rng.random(shape) > 0.4)
        elif kind == "float":
            mask = rng.standard_normal(shape).astype(np.float32)
    reach = st.none() | st.integers(0, 40)
    options["window"] = (draw(reach), draw(reach))
    options["softcap"] = draw(st.none() | st.floats(0.5, 30))
    options["scale"] = draw(st.none() | st.floats(-0.5, 0.5))
    if draw(st.booleans()):
        options["alibi_slopes"] = rng.random(shared * group, np.float32)
    options["lengths"] = (
        draw(st.none() | st.just(rng.integers(0, s + 1, b))),
        draw(st.none() | st.just(rng.integers(0, k + 1, b))),
    )
    return arrays, mask, options


@settings(max_examples=200)
@given(calls())
def test_any_combination(call):
    arrays, mask, options = call
    check_attention(arrays, mask, **options)
