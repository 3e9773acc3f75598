"""KVCache: decoding in any steps is attention over the whole sequence."""

import copy
import pickle

import numpy as np
import pytest

import treadle
from reference import attention as reference
from reference.formats import bfloat16, quantized_weights
from support import child, samples
from support.attention_checks import assert_attention
from support.systems import linux
from support.tolerance import EPS, assert_same_bits

attend = treadle.functional.scaled_dot_product_attention
B, N, SHARED, T, E = 3, 6, 2, 23, 16


def sequence(t=T, *, b=B, n=N, shared=SHARED, e=E, f=None, seed=0):
    """q [B, N, T, E], k [B, Nk, T, E], v [B, Nk, T, F]."""
    return (
        2 * samples.normal([seed, 1], b, n, t, e),
        2 * samples.normal([seed, 2], b, shared, t, e),
        samples.normal([seed, 3], b, shared, t, f or e),
    )


def decode(cache, arrays, steps, **options):
    """The sequence in chunks of these sizes."""
    results, begin = [], 0
    for size in steps:
        part = [x[:, :, begin : begin + size] for x in arrays]
        results.append(cache.step(*part, **options))
        begin += size
    return np.concatenate(results, axis=2)


STEPS = {
    "one by one": [1] * T,
    "prompt, then one by one": [15] + [1] * 8,
    "chunks": [4, 1, 0, 13, 5],
    "at once": [T],
}
OPTIONS = [
    {},
    {"window": (5, None)},
    {"softcap": 2.0},
    {"scale": 0.1},
    {"alibi_slopes": np.linspace(0, 1, N, dtype=np.float32)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: next(iter(o), "plain"))
@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_steps_are_causal_attention(isa, threads, steps, options):
    arrays = sequence(f=20)
    cache = treadle.KVCache(B, SHARED, E, 4, value_size=20)
    y = decode(cache, arrays, steps, **options)
    assert_attention(y, *arrays, is_causal=True, **options)
    assert cache.lengths.tolist() == [T] * B
    assert_same_bits(cache.keys, arrays[1])
    assert_same_bits(cache.values, arrays[2])


@pytest.mark.parametrize("e", [1, 17, 64, 128, 256], ids=lambda e: f"E{e}")
def test_long_caches(isa, threads, e):
    """One query against thousands of keys: the split over keys is of fixed chunks."""
    arrays = sequence(3000, b=2, n=4, shared=1, e=e)
    cache = treadle.KVCache(2, 1, e, 3000)
    cache.append(*(x[:, :, :2998] for x in arrays[1:]))
    y = decode(cache, [x[:, :, 2998:] for x in arrays], [1, 1])
    last = arrays[0][:, :, 2998:]
    assert_attention(y, last, *arrays[1:], is_causal=True, query_offset=[2998, 2998])
    assert_same_bits(y[:, :, 1:], attend(last[:, :, 1:], *arrays[1:], enable_gqa=True))


def test_rows_advance_at_their_own_speed(isa, threads):
    """Each row gets some of the tokens of a step, and the bits it gets alone."""
    arrays = sequence()
    cache = treadle.KVCache(B, SHARED, E, 4)
    alone = [treadle.KVCache(1, SHARED, E) for _ in range(B)]
    begin = np.zeros(B, int)
    for size, counts in ((7, [7, 3, 0]), (1, [1, 1, 1]), (5, [0, 5, 2]), (1, [1, 0, 1])):
        part = [np.full((B, x.shape[1], size, E), np.nan, np.float32) for x in arrays]
        for row, count in enumerate(counts):
            for target, source in zip(part, arrays, strict=True):
                target[row, :, :count] = source[row, :, begin[row] : begin[row] + count]
        y = cache.step(*part, lengths=counts)
        for row, count in enumerate(counts):
            one = [x[row : row + 1, :, :size] for x in part]
            if count:
                expected = alone[row].step(*one, lengths=[count])
                assert_same_bits(y[row : row + 1], expected)
            assert not y[row, :, count:].any()
        begin += counts
        assert cache.lengths.tolist() == begin.tolist()
    for row, length in enumerate(begin):
        assert_same_bits(cache.keys[row, :, :length], arrays[1][row, :, :length])


def test_append_then_attend_is_step():
    arrays = sequence()
    one, two = treadle.KVCache(B, SHARED, E), treadle.KVCache(B, SHARED, E)
    y = one.step(*arrays)
    two.append(*arrays[1:])
    assert_same_bits(two.attend(arrays[0]), y)
    assert_same_bits(two.attend(arrays[0][:, :, -4:]), two.attend(arrays[0][:, :, -4:].copy()))
    assert_attention(
        two.attend(arrays[0][:, :, -4:]), arrays[0][:, :, -4:], *arrays[1:], is_causal=True,
        query_offset=[T - 4] * B,
    )  # fmt: skip


def test_growth_keeps_what_is_there():
    """The cache grows by doubling; with enough room from the beginning its arrays do not move."""
    arrays = sequence()
    small, large = treadle.KVCache(B, SHARED, E, 1), treadle.KVCache(B, SHARED, E, T)
    where = large.keys.__array_interface__["data"]
    assert_same_bits(decode(small, arrays, [1] * T), decode(large, arrays, [1] * T))
    assert small.capacity == 32
    assert large.capacity == T
    assert large.keys.__array_interface__["data"] == where


def test_truncate():
    """Tokens that were tried and refused leave no trace."""
    arrays, other = sequence(), sequence(seed=5)
    cache, expected = treadle.KVCache(B, SHARED, E), treadle.KVCache(B, SHARED, E)
    for target in (cache, expected):
        target.append(*(x[:, :, :10] for x in arrays[1:]))
    cache.append(*(x[:, :, :7] for x in other[1:]))
    cache.truncate([10, 10, 10])
    part = [x[:, :, 10:] for x in arrays]
    assert_same_bits(cache.step(*part), expected.step(*part))
    cache.truncate([0, 5, 23])
    assert cache.lengths.tolist() == [0, 5, 23]
    for wrong in ([0, 6, 23], [-1, 0, 0], [0, 5], [0.0, 5.0, 23.0], 5):
        with pytest.raises((ValueError, TypeError), match=r"^treadle\.KVCache\.truncate: lengths "):
            cache.truncate(wrong)
    assert cache.lengths.tolist() == [0, 5, 23]


def test_reset():
    arrays = sequence()
    cache = treadle.KVCache(B, SHARED, E)
    y = cache.step(*arrays)
    cache.reset()
    assert cache.lengths.tolist() == [0] * B
    assert_same_bits(cache.step(*arrays), y)
    cache.reset([2, 0])
    assert cache.lengths.tolist() == [0, T, 0]
    cache.reset(1)
    assert cache.lengths.tolist() == [0] * B
    for wrong in ([3], [-1], [0.0], "0"):
        with pytest.raises((ValueError, TypeError), match=r"^treadle\.KVCache\.reset: rows "):
            cache.reset(wrong)


def test_reorder():
    """Beams: rows become copies of others, and go their own way from there."""
    arrays = sequence()
    cache = treadle.KVCache(B, SHARED, E)
    counts = [5, 9, 2]
    cache.append(*(x[:, :, :9] for x in arrays[1:]), lengths=counts)
    keys = cache.keys.copy()
    cache.reorder([1, 1, 0])
    assert cache.lengths.tolist() == [9, 9, 5]
    for row, source in enumerate((1, 1, 0)):
        assert_same_bits(cache.keys[row, :, : counts[source]], keys[source, :, : counts[source]])
    for wrong in ([0, 1], [0, 1, 3], [0, 1, -1], [0.0, 1.0, 2.0]):
        with pytest.raises((ValueError, TypeError), match=r"^treadle\.KVCache\.reorder: rows "):
            cache.reorder(wrong)


REORDER_WITHOUT_MEMORY = """
import resource
import numpy as np, treadle
treadle.set_num_threads(1)
cache = treadle.KVCache(2, 4, 256, 16384)
x = np.ones((2, 4, 16384, 256), np.float32)
x[1] = 2
cache.append(x, x)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**25, used + 2**25))
try:
    cache.reorder([1, 0])
except MemoryError as error:
    print(str(error).split(":")[0], end=" ")
cache.reorder([0, 0])
print(cache.keys[0].max() == cache.keys[1].max() == cache.values[1].max() == 1)
"""


@linux
def test_reorder_without_memory():
    """A circle of rows needs room for one of them: without it nothing moves."""
    assert child.succeed(REORDER_WITHOUT_MEMORY) == "treadle.KVCache.reorder True"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_any_reorder(dtype):
    """Rows that stay, chains, circles, and rows that are copied many times."""
    rng = np.random.default_rng(7)
    for _ in range(40):
        batch = int(rng.integers(1, 9))
        k, v = (samples.normal([3, i], batch, 2, 6, 5) for i in range(2))
        cache = treadle.KVCache(batch, 2, 5, dtype=dtype)
        cache.append(k, v, lengths=rng.integers(0, 7, batch))
        keys, values, lengths = cache.keys.copy(), cache.values.copy(), cache.lengths
        rows = rng.integers(0, batch, batch)
        cache.reorder(rows)
        assert cache.lengths.tolist() == lengths[rows].tolist()
        for b, source in enumerate(rows):
            assert_same_bits(
                cache.keys[b, :, : lengths[source]], keys[source, :, : lengths[source]]
            )
            assert_same_bits(
                cache.values[b, :, : lengths[source]], values[source, :, : lengths[source]]
            )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_pickle(dtype):
    """A cache comes back with its rows, its lengths and its capacity."""
    q, k, v = sequence()
    cache = treadle.KVCache(B, SHARED, E, 64, dtype=dtype)
    cache.append(k, v, lengths=[23, 0, 7])
    other = pickle.loads(pickle.dumps(cache))
    assert repr(other) == repr(cache)
    for part in (0, 2):
        end = cache.lengths[part]
        assert_same_bits(other.keys[part, :, :end], cache.keys[part, :, :end])
        assert_same_bits(other.values[part, :, :end], cache.values[part, :, :end])
    assert_same_bits(*(c.step(q[:, :, :1], k[:, :, :1], v[:, :, :1]) for c in (cache, other)))


def test_views_outlive_the_memory_of_the_cache():
    """A view keeps its numbers when the cache grows and lets go of the memory."""
    k, v = sequence()[1:]
    cache = treadle.KVCache(B, SHARED, E, T)
    cache.append(k, v)
    keys = cache.keys
    cache.append(k, v)
    del cache
    assert_same_bits(keys, k)


def test_a_call_that_raises_changes_nothing():
    arrays = sequence()
    cache = treadle.KVCache(B, SHARED, E)
    cache.append(*(x[:, :, :9] for x in arrays[1:]))
    keys = cache.keys.copy()
    q, k, v = (x[:, :, 9:12] for x in arrays)
    wrong = [
        {"lengths": [1, 2, 4]}, {"scale": "1"}, {"out": np.zeros(3, np.float32)},
        {"window": (-1, 0)},
        {"alibi_slopes": np.zeros(3, np.float32)}, {"q": q[:, :, :1]}, {"v": v[:, :1]},
        {"k": k[1:]},
        {"q": q[:, :5]}, {"q": q[..., 1:]}, {"q": q[:, :0]},
    ]  # fmt: skip
    for change in wrong:
        with pytest.raises((ValueError, TypeError), match=r"^treadle\.KVCache\.step: "):
            cache.step(**{"q": q, "k": k, "v": v} | change)
        assert cache.lengths.tolist() == [9] * B
        assert_same_bits(cache.keys, keys)
    with pytest.raises(ValueError, match=r"^treadle\.KVCache\.attend: q has 10 queries"):
        cache.attend(arrays[0][:, :, :10])


def test_views_are_read_only():
    cache = treadle.KVCache(B, SHARED, E)
    cache.append(*sequence()[1:])
    for view in (cache.keys, cache.values):
        with pytest.raises(ValueError, match="read-only"):
            view[:] = 0
    cache.lengths[:] = 0
    assert cache.lengths.tolist() == [T] * B


def test_out():
    arrays, cache = sequence(), treadle.KVCache(B, SHARED, E)
    out = np.empty((B, N, T, E), np.float32)
    assert cache.step(*arrays, out=out) is out
    assert_same_bits(out, attend(*arrays, is_causal=True, enable_gqa=True))


def test_repr():
    assert repr(treadle.KVCache(2, 3, 8, 5)) == "KVCache(2, 3, 8, lengths=[0, 0], capacity=5)"
    assert repr(treadle.KVCache(20, 3, 8, 5, value_size=4)) == (
        "KVCache(20, 3, 8, lengths=0..0, capacity=5, value_size=4)"
    )


def test_sizes_beyond_memory():
    with pytest.raises((MemoryError, ValueError), match=r"^treadle\.KVCache: "):
        treadle.KVCache(2**31 - 1, 2**31 - 1, 256, 2**31 - 1)
    with pytest.raises(MemoryError, match=r"^treadle\.KVCache: "):
        treadle.KVCache(2**15, 2**15, 256, 2**15)


def test_reference_offsets():
    """The definition of positions that these tests rest on: a causal step is the last row."""
    q, k, v = sequence(5)
    whole = reference.attention(q, k, v, is_causal=True)
    last = reference.attention(q[:, :, 4:], k, v, is_causal=True, query_offset=[4] * B)
    np.testing.assert_allclose(last, whole[:, :, 4:])


# -- other dtypes ----------------------------------------------------------------------------------


def rounded(x, dtype):
    """Return vectors [B, N, S, E] as a cache of the dtype rounds them, as float32."""
    if dtype == "bfloat16":
        return bfloat16(x)
    integers, scale = quantized_weights(x.reshape(-1, x.shape[-1]))
    return (integers * scale[:, None]).astype(np.float32).reshape(x.shape)


low_dtypes = pytest.mark.parametrize("dtype", ["bfloat16", "int8"])


@low_dtypes
@pytest.mark.parametrize("e", [1, 5, 64, 130, 256], ids=lambda e: f"E{e}")
def test_decoding_multiplies_what_is_kept_in_float32(isa, threads, dtype, e):
    q, k, v = sequence(700, b=2, n=4, shared=2, e=e, f=24)
    k, v = rounded(k, dtype), rounded(v, dtype)
    cache = treadle.KVCache(2, 2, e, 16, value_size=24, dtype=dtype)
    cache.append(k[:, :, :697], v[:, :, :697])  # kept as they are, being rounded
    y = decode(cache, [x[:, :, 697:] for x in (q, k, v)], [1, 2])
    # The scale of a vector is a factor of its own: three roundings more of all that is summed.
    assert_attention(
        y, q[:, :, 697:], k, v, is_causal=True, query_offset=[697, 697], rounding=8 * EPS
    )
    np.testing.assert_allclose(cache.keys, k, rtol=2 * EPS)
    np.testing.assert_allclose(cache.values, v, rtol=2 * EPS)


def test_bfloat16_gives_the_bits_of_float32(isa):
    """If the numbers are the same: widening is exact, and the sums go in the same order."""
    q, *rest = sequence(300)
    k, v = map(bfloat16, rest)
    results = []
    for dtype in ("float32", "bfloat16"):
        cache = treadle.KVCache(B, SHARED, E, dtype=dtype)
        cache.append(k[:, :, :-1], v[:, :, :-1])
        results.append(cache.step(q[:, :, -1:], k[:, :, -1:], v[:, :, -1:]))
    assert_same_bits(*results)


@low_dtypes
def test_prompts(isa, threads, dtype):
    """More than four queries multiply in bfloat16."""
    q, k, v = sequence(70)
    cache = treadle.KVCache(B, SHARED, E, dtype=dtype)
    y = cache.step(q, k, v)
    kept = [rounded(x, dtype) for x in (k, v)]
    near = [bfloat16(x) for x in (q, *kept)]
    assert_attention(y, *near, is_causal=True, rounding=2.0**-8)
    assert_same_bits(y, attend(q, *kept, is_causal=True, enable_gqa=True, dtype="bfloat16"))


@low_dtypes
def test_what_is_done_to_a_cache_keeps_its_numbers(dtype):
    """Growing, rows at their own speed, beams, truncation."""
    q, k, v = sequence()
    cache, plain = (treadle.KVCache(B, SHARED, E, 2, dtype=d) for d in (dtype, "float32"))
    for each, (key, value) in (
        (cache, (k, v)),
        (plain, (rounded(k, dtype), rounded(v, dtype))),
    ):
        each.append(key[:, :, :7], value[:, :, :7], lengths=[7, 3, 5])
        each.append(key[:, :, 7:], value[:, :, 7:], lengths=[2, 9, 16])
        each.reorder([2, 0, 2])
        each.truncate([20, 9, 18])
        each.reset([1])
        each.append(key[:, :, :3], value[:, :, :3])
    assert cache.lengths.tolist() == [23, 3, 21]
    for row, length in enumerate(cache.lengths):
        for ours, theirs in ((cache.keys, plain.keys), (cache.values, plain.values)):
            np.testing.assert_allclose(
                ours[row, :, :length], theirs[row, :, :length], rtol=2 * EPS, atol=0
            )
    ours, theirs = (c.attend(q[:, :, :2]) for c in (cache, plain))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert repr(cache).endswith(f"dtype={dtype!r})")


MEMORY = """
import resource
import treadle

def used():
    return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()

sizes = []
for dtype in ("float32", "bfloat16", "int8"):
    before = used()
    cache = treadle.KVCache(2, 4, 128, 65536, dtype=dtype)
    sizes.append(used() - before)
    assert cache.capacity == 65536
    del cache
print(*sizes)
"""


@linux
def test_memory_falls_with_the_dtype():
    sizes = list(map(int, child.succeed(MEMORY).split()))
    assert sizes[0] > 2 * 2 * 4 * 128 * 65536 * 4
    assert sizes[1] < 0.51 * sizes[0]
    assert sizes[2] < 0.29 * sizes[0]


@low_dtypes
def test_vectors_that_are_not_finite(isa, dtype):
    """The others of a row are as they were; int8 has one scale for all of a vector."""
    q, k, v = sequence(40, b=1, n=2, shared=2)
    v[0, 0, 7, 3] = np.nan
    k[0, 1, 11, 2] = np.inf
    cache = treadle.KVCache(1, 2, E, dtype=dtype)
    cache.append(k, v)
    y = cache.attend(q[:, :, -1:])
    assert np.isnan(y[0, 0, 0, 3])
    assert np.isnan(y[0, 0]).sum() == (1 if dtype == "bfloat16" else E)
    assert np.isnan(cache.keys[0, 1, 11]).any() or np.isinf(cache.keys[0, 1, 11]).any()
    window = cache.attend(q[:, :, -1:], window=(20, 0))
    assert np.isfinite(window).all()


@pytest.mark.parametrize("dtype", ["float16", None, 8, "INT8"], ids=str)
def test_dtypes_that_no_cache_has(dtype):
    with pytest.raises(ValueError, match=r"treadle.KVCache: dtype is .*, expected one of"):
        treadle.KVCache(1, 1, 4, dtype=dtype)


@low_dtypes
def test_rows_beyond_their_length_are_not_looked_at(dtype):
    """Reading the keys warns of nothing, even if NaN lies beyond the lengths."""
    cache = treadle.KVCache(2, 1, 8, 64, dtype=dtype)
    k = samples.normal(5, 2, 1, 20, 8)
    cache.append(k, k, lengths=[20, 1])
    for array in cache._arrays():
        array[1, :, 1:].view(np.uint8)[...] = 0x7F
    with np.errstate(all="raise"):
        assert cache.keys.shape == cache.values.shape == (2, 1, 20, 8)
        assert np.isfinite(cache.attend(k[:, :, :1])).all()


def test_a_copy_has_memory_of_its_own():
    k, v = sequence()[1:]
    cache = treadle.KVCache(B, SHARED, E, 64)
    cache.append(k, v)
    other = copy.copy(cache)
    for each, sign in ((cache, 1), (other, -1)):
        each.append(sign * k[:, :, :2], sign * v[:, :, :2])
    assert_same_bits(cache.keys[:, :, T:], k[:, :, :2])
    assert_same_bits(other.keys[:, :, T:], -k[:, :, :2])


TOO_LARGE = """
import resource
import treadle

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

before = peak()
try:
    treadle.KVCache(2**24, 2**24, 1, 1)
except MemoryError:
    print(peak() - before)
"""


@linux
def test_a_cache_that_does_not_fit_touches_no_memory():
    """2**50 bytes cannot be had: that shows before the 2**27 bytes of the lengths are written."""
    status, output, _ = child.run(TOO_LARGE)  # A sanitizer warns of the size on standard error.
    assert status == 0
    assert int(output) < 2**26
