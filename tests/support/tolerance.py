"""How wrong a float32 result may be. Every bound is derived; there is no free constant.

elementwise   error in units in the last place, `ulp`; the tests assert measured maxima
products      min((K + 1) / 2, 3) * eps * sum_k |a_k| |b_k| for every element, `assert_product`:
              a term passes at most K + 1 roundings of eps / 2 each (Higham, Accuracy and Stability
              of Numerical Algorithms, 3.1), and roundings of random signs stay below 3 eps in all
sequences     at most twice the error of the same formula run in float32 NumPy, plus 4 eps, both
              errors against float64 and both as the largest over all elements, `assert_sequence`
bits          invariance is equality, `assert_same_bits`
"""

import numpy as np

EPS = float(np.finfo(np.float32).eps)
TINY = float(np.finfo(np.float32).tiny)  # smallest normal number: below it treadle flushes to zero


def ulp(size):
    """float32's spacing at a number of that size; never less than at the smallest normal one."""
    return np.exp2(np.floor(np.log2(np.maximum(np.abs(size), TINY))) - 23)


def assert_product(actual, a, b, bias=None):
    """`actual` [M, N] is a [M, K] times the rows of b [N, K], plus bias [N]."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    bias = np.zeros(len(b)) if bias is None else np.asarray(bias, np.float64)
    exact, size = a @ b.T + bias, np.abs(a) @ np.abs(b).T + np.abs(bias)
    factor = min((a.shape[1] + 1) / 2, 3)
    assert actual.dtype == np.float32
    assert actual.shape == exact.shape
    excess = np.abs(actual - exact) - factor * EPS * size
    assert excess.size == 0 or excess.max() <= 0, (
        f"error exceeds {factor} eps * sum|a||b| by {excess.max():.3g} at {_worst(excess)}"
    )


def assert_sequence(actual, function, *args, **kwargs):
    """`actual`, an array or nested tuples, is what `reference.function(*args, **kwargs)` says."""
    exact = function(*args, dtype=np.float64, **kwargs)
    rounded = function(*args, dtype=np.float32, **kwargs)
    assert all(part.dtype == np.float32 for part in flatten(rounded))
    assert_close(actual, exact, rounded, cell=function.__name__.endswith("_cell"))


def assert_close(actual, exact, rounded, *, cell=False):
    """max |actual - exact| <= 2 max |rounded - exact| + 4 eps max(1, max |exact|)

    The maxima are over y and h_n together, which are one quantity, and over c_n. A cell returns h
    and c, which are two.
    """
    actual, exact, rounded = flatten(actual), flatten(exact), flatten(rounded)
    assert len(actual) == len(exact) == len(rounded)
    for ours, truth in zip(actual, exact, strict=True):
        assert ours.dtype == np.float32
        assert ours.shape == truth.shape, f"shape {ours.shape}, expected {truth.shape}"
        finite = np.isfinite(truth)
        np.testing.assert_array_equal(ours[~finite], truth[~finite].astype(np.float32))
    first = 1 if cell else 2
    for name, part in (("h", slice(first)), ("c", slice(first, None))):
        ours, truth, theirs = (_joined(outputs[part]) for outputs in (actual, exact, rounded))
        finite = np.isfinite(truth)
        if not finite.any():
            continue
        ours, truth, theirs = ours[finite], truth[finite], theirs[finite]
        error, allowed = np.abs(ours - truth).max(), np.abs(theirs - truth).max()
        bound = 2 * allowed + 4 * EPS * max(1, np.abs(truth).max())
        assert error <= bound, (
            f"{name}: error {error:.3g}, allowed {bound:.3g} (float32 NumPy errs by {allowed:.3g})"
        )


def _joined(arrays):
    return np.concatenate([np.zeros(0), *(array.ravel() for array in arrays)])


def assert_same_bits(actual, expected):
    """Equal in every bit, NaN payloads and signs of zero included (arrays or nested tuples)."""
    for index, (a, b) in enumerate(zip(flatten(actual), flatten(expected), strict=True)):
        assert a.dtype == b.dtype == np.float32
        assert a.shape == b.shape, f"output {index}: shapes {a.shape} and {b.shape}"
        different = np.ascontiguousarray(a).view(np.uint32) != np.ascontiguousarray(b).view(
            np.uint32
        )
        assert not different.any(), (
            f"output {index}: {different.sum()} of {a.size} elements differ, first at "
            f"{np.argwhere(different)[0].tolist()}"
        )


def flatten(result):
    """The arrays of an array or of nested tuples, in order."""
    if isinstance(result, (tuple, list)):
        return [array for part in result for array in flatten(part)]
    return [result]


def _worst(error):
    return np.unravel_index(np.argmax(error), error.shape)
