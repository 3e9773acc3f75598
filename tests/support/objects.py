"""Objects that are no array of float32, integers or bools: wrong in the place of any array."""

import array
import collections
import datetime
import decimal
import fractions
import math

import numpy as np
import torch

import treadle

F32 = np.float32


class Raises:
    """An object that raises when it is asked for an array."""

    def __array__(self, *_, **__):
        raise RuntimeError("no array today")


class Lies:
    """An object whose ``__array__`` returns something that is no array."""

    def __array__(self, *_, **__):
        return "an array"


class OtherDevice:
    """DLPack of a GPU: its memory must not be touched."""

    dtype = np.dtype(F32)

    def __dlpack_device__(self):
        return (2, 0)

    def __dlpack__(self, **_):
        raise AssertionError("the memory of another device was asked for")


class BrokenDLPack:
    def __dlpack_device__(self):
        raise BufferError("not now")

    def __dlpack__(self, **_):
        raise BufferError("not now")


class NoCapsule:
    def __dlpack_device__(self):
        return (1, 0)

    def __dlpack__(self, **_):
        return object()


LOOP = []
LOOP.append(LOOP)

OBJECTS = {
    "text": "abc",
    "bytes": b"abcd",
    "dict": {"x": 1},
    "set": {1.0, 2.0},
    "object": object(),
    "class": np.ndarray,
    "function": math.sin,
    "module": math,
    "generator": (i for i in range(3)),
    "iterator": iter([1.0]),
    "range": range(3),
    "deque": collections.deque([1.0]),
    "Decimal": decimal.Decimal(1),
    "Fraction": fractions.Fraction(1, 2),
    "date": datetime.date(2026, 1, 1),
    "ellipsis": ...,
    "complex": 1j,
    "huge integer": 10**400,
    "ragged": [[1.0], [1.0, 2.0]],
    "list of text": [["a"]],
    "list of None": [[None]],
    "list of bools": [[True, False]],
    "list of objects": [object()],
    "list of float64": [np.float64(1)],
    "list of huge integers": [10**400],
    "list of infinity beyond float32": [1e300],
    "list in itself": LOOP,
    "array of doubles": array.array("d", [1.0]),
    "memoryview of bytes": memoryview(b"abcd"),
    "raises": Raises(),
    "lies": Lies(),
    "other device": OtherDevice(),
    "broken DLPack": BrokenDLPack(),
    "no capsule": NoCapsule(),
    "masked": np.ma.masked_array([1.0, 2.0], [True, False]),
    "torch meta": torch.zeros(2, 2, device="meta"),
    "torch double": torch.zeros(2, 2, dtype=torch.float64),
    "torch half": torch.zeros(2, 2, dtype=torch.float16),
    "torch sparse": torch.zeros(2, 2).to_sparse(),
    "torch module": torch.nn.Linear(2, 2),
    "treadle module": treadle.GRU(2, 2),
}
