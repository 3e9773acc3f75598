"""The choice of the best numbers of rows, of equal ones the first."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from treadle.generation.best import best


def by_sorting(values, k):
    keys = np.where(np.isnan(values), np.inf, values)
    places = np.argsort(-keys, axis=1, kind="stable")[:, :k]
    return places, np.take_along_axis(values, places, axis=1)


@hypothesis.given(
    st.integers(0, 2**31),
    st.integers(0, 4),
    st.integers(1, 9000),
    st.integers(1, 300),
    st.sampled_from([1, 3, 1000]),
    st.sampled_from([0.0, 0.5, 0.999, 1.0]),
)
def test_best_is_a_stable_sort(seed, rows, width, k, values, forbidden):
    """With many equal numbers, with few that are not -inf, and at every width of the last block."""
    generator = np.random.default_rng(seed)
    array = generator.integers(-values, values, (rows, width)).astype(np.float32)
    array[generator.random(array.shape) < forbidden] = -np.inf
    k = min(k, width)
    for ours, theirs in zip(best(array, k), by_sorting(array, k), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("width", [5, 500, 5000])
def test_nan_comes_first(width):
    array = np.zeros((2, width), np.float32)
    array[1, -1] = np.nan
    array[1, 2] = np.inf
    places, numbers = best(array, 2)
    assert places[1].tolist() == [2, width - 1]
    assert np.isnan(numbers[1]).tolist() == [False, True]
    array[1, 2] = 1
    assert best(array, 1)[0].tolist() == [[0], [width - 1]]
