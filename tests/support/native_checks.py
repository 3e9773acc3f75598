"""Values that no argument of treadle._core may have, and checks that they are refused."""

import math

import numpy as np
import pytest

import treadle
from support.entries import WRONG_DTYPES

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


def refused_by_name(function, right, wrong):
    """The right arguments do; each wrong value in the place of one of them does not."""
    names = list(right)
    refused(
        lambda *values: function(**dict(zip(names, values, strict=True))),
        list(right.values()),
        {names.index(name): values for name, values in wrong.items()},
    )


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
NO_NAMES = [None, 5, ["treadle"]]
NO_ACTIVATIONS = ["relu", ("nosuch", 0.0, 0.0), ("relu",), ("relu", "0", 0.0), (1, 0.0, 0.0), 5]


def wrong_weights(dtype, rows, columns):
    """Return values that are no matrix [rows, columns] in a dtype's form (_storage/formats.py)."""
    kind = {"bfloat16": np.uint16, "int8": np.int8}[dtype]
    right = np.zeros((rows, columns), kind)
    arrays = [a for a in NO_MATRICES if not isinstance(a, np.ndarray) or a.dtype != kind]
    arrays += [right.astype(F32), right.astype(np.int64), right.view(f"V{right.itemsize}")]
    arrays += [right[1:], right[:, 1:], right[None], right[::-1], np.asfortranarray(right)]
    arrays += [right.view({"bfloat16": np.int16, "int8": np.uint8}[dtype])]
    if dtype == "bfloat16":
        return [*arrays, (right,), (right, None)]
    scales = np.ones((rows, -(-columns // 256)), F32)
    wrong = [scales[1:], scales[:, :0], np.ones((rows, 9), F32), scales[0], scales[None], -scales]
    wrong += [scales * np.inf, scales * F32(1e-45), scales.astype(float), scales.astype(">f4")]
    wrong += [None, "s", 1.0, [[1.0]], misaligned(*scales.shape)]
    pairs = [(a, scales) for a in arrays] + [(right, s) for s in wrong]
    return [*pairs, *arrays, right, (right,), (right, scales, scales), [right, scales], ()]


def right_weight(dtype, rows, columns):
    integers = np.ones((rows, columns), {"bfloat16": np.uint16, "int8": np.int8}[dtype])
    return integers if dtype == "bfloat16" else (integers, np.ones((rows, -(-columns // 256)), F32))


def native_encoder(**changes):
    """An encoder without layers: H = 6 with two heads, F = 5."""
    right = {
        "hidden": 6,
        "num_heads": 2,
        "feed_forward": 5,
        "activation": ("relu", 0.0, 0.0),
        "norm_first": False,
        "eps": 1e-5,
    }
    return treadle._core.Encoder("f", **right | changes)
