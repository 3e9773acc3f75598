"""Model files of ONNX with bytes changed, and a use of them that allows documented errors only."""

from contextlib import suppress

import numpy as np

from support import onnx_files
from treadle.graph.model import Model
from treadle.onnx.load import read_graph
from treadle.onnx.protobuf import BYTES, Part, Wire


def use(data):
    """Read a model and run it; ValueError, TypeError and MemoryError are the answers it may give
    for what is wrong with it."""
    try:
        model = Model(read_graph(data, "test", None)[0])
    except ValueError:
        return
    rng = np.random.default_rng(0)
    arrays = []
    for value in model.inputs:
        shape = [n if isinstance(n, int) and n < 100 else 2 for n in value.shape or ()]
        numbers = rng.normal(size=shape)
        dtype = "float32" if value.dtype == "bfloat16" else value.dtype
        arrays.append(numbers.astype(dtype))
    with suppress(ValueError, TypeError, MemoryError):
        model(*arrays)


def mutated(data, rng):
    """The bytes with some of them changed, cut out, doubled or moved."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        i = int(rng.integers(len(data)))
        n = int(rng.integers(1, 20))
        kind = rng.integers(6)
        if kind == 0:
            data[i] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[i] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF]))
        elif kind == 2:
            del data[i : i + n]
        elif kind == 3:
            data[i:i] = data[i : i + n]
        elif kind == 4:
            data[i:i] = onnx_files.varint(int(rng.choice([2**31, 2**32, 2**63 - 1, 2**64 - 1])))
        else:
            j = int(rng.integers(len(data)))
            data[i : i + n] = data[j : j + n]
        if not data:
            break
    return bytes(data)


def structure(data):
    """The places of a file's bytes that are no numbers of large tensors, as an array."""
    places = np.zeros(len(data), bool)

    def mark(part, depth):
        try:
            fields = list(Wire(data, "file").fields(part, "a message"))
        except ValueError:  # no message
            return False
        position = part.begin
        for _, wire, value, end in fields:
            begin = value if wire == BYTES else end
            places[position:begin] = True
            if wire == BYTES:
                small = end - begin <= 256
                inner = small or depth > 14 or not mark(Part(begin, end), depth + 1)
                places[begin : min(end, begin + 256)] |= inner
            position = end
        return True

    mark(Part(0, len(data)), 0)
    return np.flatnonzero(places)


def mutated_near(data, place, rng):
    """The file with some bytes around a place changed; half the time it keeps its length."""
    begin, end = max(0, place - 40), min(len(data), place + 40)
    changed = mutated(data[begin:end], rng)
    if rng.random() < 0.5:
        changed = (changed + bytes(end - begin))[: end - begin]
    return data[:begin] + changed + data[end:]
