"""What no argument of weft._core may be, and that it is refused."""

import math

import numpy as np
import pytest

from entries import WRONG_DTYPES

F32 = np.float32


def refused(function, right, wrong):
    """The right arguments do; each wrong value in the place of one of them does not."""
    function(*right)
    for index, values in wrong.items():
        for value in values:
            arguments = list(right)
            arguments[index] = value
            with pytest.raises((ValueError, TypeError)):
                function(*arguments)


def misaligned(*shape):
    """Zeros that begin one byte off."""
    size = 4 * math.prod(shape)
    return np.zeros(size + 1, np.uint8)[1:].view(F32).reshape(shape)


def frozen(array):
    array.flags.writeable = False
    return array


NO_MATRICES = [
    None,
    "x",
    3.0,
    [[1.0]],
    np.zeros((), F32),
    np.zeros(4, F32),
    np.zeros((2, 3, 4), F32),
]
NO_MATRICES += [np.zeros((3, 5), dtype) for dtype in (*WRONG_DTYPES, ">f4")]
NO_MATRICES += [misaligned(3, 5)]
NO_VECTORS = ["b", 1.0, np.zeros((), F32), np.zeros((1, 4), F32), np.zeros(4), misaligned(4)]
NO_NAMES = [None, 5, ["weft"]]
NO_ACTIVATIONS = ["relu", ("nosuch", 0.0, 0.0), ("relu",), ("relu", "0", 0.0), (1, 0.0, 0.0), 5]
