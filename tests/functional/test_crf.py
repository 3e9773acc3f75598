"""crf_decode against the scores of all sequences of tags."""

import re

import numpy as np
import pytest
import torch

import treadle
from reference import crf as reference
from support import samples
from support.objects import OBJECTS
from support.tolerance import EPS, assert_same_bits

decode = treadle.functional.crf_decode
T, B, K = 5, 4, 3


def scores(seed, tags=K):
    """transitions, start and end."""
    return [
        samples.normal([seed, i], *shape)
        for i, shape in enumerate([(tags, tags), (tags,), (tags,)])
    ]


def assert_same(actual, expected):
    """Compare tags and scores, whose bits shall be the same."""
    np.testing.assert_array_equal(actual[0], expected[0])
    assert_same_bits(np.atleast_1d(actual[1]), np.atleast_1d(expected[1]))


def assert_best(row, tags, score, parameters):
    """The tags are those of the highest score, and the score is theirs up to its roundings."""
    wide = [np.asarray(part, np.float64) for part in parameters]
    best, exact = reference.decode(row.astype(np.float64), *wide)
    assert tuple(tags) == (best if len(row) else ())
    size = np.abs(row).max(1).sum() + sum(np.abs(part).max() for part in wide) * max(len(row), 1)
    assert abs(float(score) - exact) <= (2 * len(row) + 2) * EPS * size


@pytest.mark.parametrize("tags", [1, 2, 4])
def test_best_of_all(tags):
    for seed in range(8):
        x, parameters = 2 * samples.normal(seed, T, B, tags), scores(seed, tags)
        found, best = decode(x, *parameters)
        assert (found.dtype, found.shape) == (np.int64, (T, B))
        assert (best.dtype, best.shape) == (np.float32, (B,))
        for row in range(B):
            assert_best(x[:, row], found[:, row], best[row], parameters)


def test_lengths_and_masks():
    """A row is what it is without the steps that do not exist, whatever is in these."""
    x, parameters = samples.normal(0, T, B, K), scores(0)
    lengths, mask = np.array([5, 0, 3, 4]), samples.normal(1, B, T) > -0.5
    mask[3, 0] = False
    for given in ({"lengths": lengths}, {"mask": mask}, {"lengths": lengths, "mask": mask}):
        present = (np.arange(T) < given.get("lengths", np.full(B, T))[:, None]) & given.get(
            "mask", True
        )
        spoiled = np.where(present.T[:, :, None], x, np.float32(np.nan))
        found, best = decode(spoiled, *parameters, **given)
        assert ((found == -1) == ~present.T).all()
        for row in range(B):
            there = present[row]
            alone, score = decode(x[there, row], *parameters)
            assert_same((found[there, row], best[row]), (alone, score))
            assert_best(x[there, row], alone, score, parameters)
    assert best[1] == 0


def test_forms():
    """The axes may come in another order or be absent, and so may start and end."""
    x, (transitions, start, end) = samples.normal(0, T, B, K), scores(0)
    found, best = decode(x, transitions, start, end, lengths=[5, 2, 1, 4])
    turned = decode(
        x.swapaxes(0, 1), transitions, start, end, lengths=[5, 2, 1, 4], batch_first=True
    )
    assert_same(turned, (found.T, best))
    single = decode(x[:, 1], transitions, start, end, lengths=2)
    assert_same(single, (found[:, 1], best[1]))
    zeros = np.zeros(K, np.float32)
    assert_same(decode(x, transitions), decode(x, transitions, zeros, zeros))
    tensors = map(torch.from_numpy, (x, transitions, start, end))
    assert_same(decode(*tensors, lengths=[5, 2, 1, 4]), (found, best))


def test_rows_do_not_see_each_other(monkeypatch):
    x, parameters = samples.normal(0, 9, 7, 5), scores(0, 5)
    found, best = decode(x, *parameters)
    x[:, 3] = np.nan
    spoiled, bad = decode(x, *parameters)
    others = np.arange(7) != 3
    assert_same((spoiled[:, others], bad[others]), (found[:, others], best[others]))
    assert np.isnan(bad[3])
    monkeypatch.setattr("treadle.functional.crf._BLOCK", 60)
    assert_same(decode(x[:, others], *parameters), (found[:, others], best[others]))


def test_ties_take_the_lowest_tag():
    found, best = decode(np.zeros((T, B, K), np.float32), np.zeros((K, K), np.float32))
    assert not found.any()
    assert not best.any()


def test_forbidden_pairs():
    """-inf never occurs in the best tags where other tags are possible."""
    x, transitions = 3 * samples.normal(0, 40, B, K), np.zeros((K, K), np.float32)
    transitions[0, 1] = transitions[2, 2] = start_of_2 = -np.inf
    found, best = decode(x, transitions, [0.0, 0.0, start_of_2])
    pairs = set(zip(found[:-1].ravel().tolist(), found[1:].ravel().tolist(), strict=True))
    assert not pairs & {(0, 1), (2, 2)}
    assert len(pairs) == K * K - 2
    assert 2 not in found[0]
    assert np.isfinite(best).all()
    _, nothing = decode(x, np.full((K, K), -np.inf, np.float32))
    assert (nothing == -np.inf).all()


def test_nothing():
    transitions = np.zeros((K, K), np.float32)
    for shape in ((0, B, K), (T, 0, K), (0, 0, K)):
        found, best = decode(np.zeros(shape, np.float32), transitions)
        assert found.shape == shape[:2]
        assert not best.any()
    found, best = decode(np.zeros((0, K), np.float32), transitions)
    assert (found.shape, best) == ((0,), 0)


ARRAYS = dict(
    zip(
        ["emissions", "transitions", "start", "end"],
        [samples.normal(0, T, B, K), *scores(0)],
        strict=True,
    )
)
WRONG = {
    "no tags": ("emissions", np.zeros((T, B, 0), np.float32)),
    "a vector": ("emissions", np.zeros(K, np.float32)),
    "four axes": ("emissions", np.zeros((1, T, B, K), np.float32)),
    "float64": ("emissions", np.zeros((T, B, K))),
    "integers": ("emissions", np.zeros((T, B, K), int)),
    "more tags": ("transitions", np.zeros((K + 1, K + 1), np.float32)),
    "no square": ("transitions", np.zeros((K, K + 1), np.float32)),
    "float64 transitions": ("transitions", np.zeros((K, K))),
    "short start": ("start", np.zeros(K - 1, np.float32)),
    "end of two axes": ("end", np.zeros((1, K), np.float32)),
    "long": ("lengths", [T + 1] * B),
    "negative": ("lengths", [0, 1, -1, 2]),
    "few lengths": ("lengths", [T]),
    "one length": ("lengths", T),
    "float lengths": ("lengths", [1.0] * B),
    "turned mask": ("mask", np.ones((T, B), bool)),
    "mask of numbers": ("mask", np.ones((B, T), np.float32)),
    "flag": ("batch_first", 1),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case):
    name, value = WRONG[case]
    with pytest.raises(
        (ValueError, TypeError), match=rf"^treadle\.functional\.crf_decode: .*\b{re.escape(name)}\b"
    ):
        decode(**ARRAYS | {name: value})


@pytest.mark.parametrize("value", OBJECTS.values(), ids=OBJECTS)
@pytest.mark.parametrize("name", [*ARRAYS, "lengths", "mask"])
def test_wrong_objects(name, value):
    with pytest.raises(
        (ValueError, TypeError), match=rf"^treadle\.functional\.crf_decode: {name}\b"
    ):
        decode(**ARRAYS | {name: value})


def test_more_rows_than_memory():
    one = np.zeros((1, 1, 1), np.float32)
    for shape in ((2**45, 1, 1), (1, 2**45, 1)):
        with pytest.raises((MemoryError, ValueError)):
            decode(np.broadcast_to(one, shape), one[0])
