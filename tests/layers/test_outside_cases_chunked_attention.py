"""In which calls a token's attention has the same bits, whatever chunks the tokens come in.

Users compare the logits of a prompt that went through a cache whole with those of its pieces, and
those of decoding token by token with those of checking several tokens at once. docs/internals/
numerics.md has the rule: steps of up to four queries agree with each other, and so do longer
chunks; where G heads share keys, a step has at most 16 / G queries.
"""

import numpy as np
import pytest

import treadle
from support import samples
from support.tolerance import assert_same_bits

TOKENS = 24
STEPS = [[1] * 24, [4] * 6, [3, 1, 2, 4, 4, 4, 1, 2, 3]]
CHUNKS = [[24], [5, 19], [12, 12], [7, 5, 6, 6], [5, 5, 5, 9]]


def through_cache(dtype, cuts, heads=2):
    """The attention of each token, [B, N', S, F], when the tokens come in such chunks."""
    q = samples.normal(1, 2, heads, TOKENS, 40)
    k, v = (samples.normal([2, i], 2, 2, TOKENS + 300, 40) for i in range(2))
    cache = treadle.KVCache(2, 2, 40, dtype=dtype)
    cache.append(k[:, :, :300], v[:, :, :300])
    results, at = [], 0
    for count in cuts:
        part = slice(at, at + count)
        tokens = slice(300 + at, 300 + at + count)
        results.append(cache.step(q[:, :, part], k[:, :, tokens], v[:, :, tokens]))
        at += count
    return np.concatenate(results, 2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("cuts", [STEPS, CHUNKS], ids=["steps", "chunks"])
def test_tokens_through_a_cache(isa, threads, dtype, cuts):
    expected = through_cache(dtype, cuts[0])
    for other in cuts[1:]:
        assert_same_bits(through_cache(dtype, other), expected)


@pytest.mark.parametrize("cuts", [[[1] * 24, [2] * 12], [[3] * 8, [24], [4, 20]]])
def test_heads_that_share_keys(isa, threads, cuts):
    """Eight heads share the keys of one: a step has at most two queries."""
    expected = through_cache("float32", cuts[0], heads=16)
    for other in cuts[1:]:
        assert_same_bits(through_cache("float32", other, heads=16), expected)


def test_a_step_differs_from_a_chunk_by_rounding_alone(isa):
    """The two orders of the sums differ by some units in the last place, as the rule says."""
    step, chunk = through_cache("float32", STEPS[1]), through_cache("float32", CHUNKS[0])
    np.testing.assert_allclose(step, chunk, rtol=0, atol=1e-5)


@pytest.mark.parametrize("s", [2, 12])
def test_the_other_sequences_of_a_batch_do_not_count(isa, threads, s):
    """A sequence's own number of queries decides, not the longest one of the batch."""
    q, k, v = (samples.normal([3, i], 3, 2, n, 16) for i, n in enumerate((12, 50, 50)))
    lengths = [s, 12, 3]
    attend = treadle.functional.scaled_dot_product_attention
    together = attend(q, k, v, lengths=(lengths, [50, 50, 50]))
    for b, n in enumerate(lengths):
        alone = attend(q[b : b + 1, :, :n], k[b : b + 1], v[b : b + 1])
        assert_same_bits(together[b : b + 1, :, :n], alone)
