"""This module says how fast the machine could run a whole model.

Each product reads its weights once in a call and multiplies them with every row: the larger of
(bytes of the weights / bandwidth of what holds all weights of the case) and (FLOPs / FMA peak),
product by product. A recurrent layer over T steps reads its recurrent weights T times, from what
holds one layer's. Products are the convolutions, linear layers, recurrent layers and products of
matrices in treadle's own XX"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any, NamedTuple

import numpy as np

from ...core.dtypes import Array
from ...core.limits import TANH, Limit, Pass, Rates, limit_of
from ...core.target import Target
from .cases import CAPTURED, CHARACTERS, HIDDEN, LAYERS, File, ModelCase
from .reference import arguments

RECURRENT = ("treadle.Recurrent", "LSTM", "GRU", "RNN")
TRANSPOSED = ("treadle.ConvTranspose", "ConvTranspose")  # each input is multiplied by all weights
PRODUCTS = ("treadle.Conv", "treadle.Linear", "Conv", "Gemm", "MatMul", *TRANSPOSED)


class Product(NamedTuple):
    """Weights that are read `passes` times and multiplied with `rows` rows in all."""

    nbytes: int
    rows: int
    passes: int
    cell: str = ""  # of a recurrent layer
    activation: str = TANH


@functools.cache
def products(case: ModelCase) -> tuple[Product, ...]:
    """List every product of one call."""
    if case.group == CAPTURED:
        layer = Product(2 * 4 * HIDDEN * HIDDEN * 4, 1, 1, "lstm")
        return (*(layer,) * LAYERS, Product(CHARACTERS * HIDDEN * 4, 1, 1))
    inputs = arguments(case)
    found: list[Product] = []
    for file, path, feed in zip(case.files, inputs.paths, inputs.feeds, strict=True):
        found += _of_file(file, path, feed)
    return tuple(found)


def _of_file(file: File, path: str, feed: dict[str, Array]) -> list[Product]:
    import treadle.onnx
    from treadle.graph.model import Model
    from treadle.graph.optimise import copied

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = copied(treadle.onnx.load(path).graph)
    # What a number decides, such as the rate of the samples, is decided: branches go.
    known = dict(file.integers)
    graph.constants |= {name: np.array(number, np.int64) for name, number in known.items()}
    graph.inputs = [value for value in graph.inputs if value.name not in known]
    model = Model(graph)
    feed = {name: value for name, value in feed.items() if name not in known}
    values = {**feed, **model.trace(**feed)}
    constants = model.graph.constants
    found = []
    for node in model.graph.nodes:
        matrices = [
            constants[name].shape
            for name in node.inputs
            if name in constants and _is_weight(constants[name])
        ]
        if not matrices or node.op not in (*RECURRENT, *PRODUCTS):
            continue
        count = sum(math.prod(shape) for shape in matrices)
        x = values[node.inputs[0]] if node.inputs[0] in values else constants[node.inputs[0]]
        if node.op in RECURRENT:
            steps = x.shape[1 if node.attributes.get("batch_first") else 0]
            cell = str(node.attributes.get("mode", node.op.lower()))
            activation = node.attributes.get("activation", [TANH])[0]
            found.append(Product(count * 4, x.size // x.shape[-1], steps, cell, activation))
            continue
        y = x if node.op in TRANSPOSED else values[node.outputs[0]]
        found.append(Product(count * 4, y.size // _channels(node.op, y), 1))
    return found


def _is_weight(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim >= 2 and value.dtype.kind == "f"


def _channels(op: str, y: Array) -> int:
    """Return the size of the axis that a product's weights span: ONNX's own come first."""
    axis = 1 if op in ("Conv", "ConvTranspose") else -1
    return max(1, int(y.shape[axis]))


def flops(case: ModelCase) -> int:
    """Count the floating-point operations of one call's products."""
    return sum(2 * p.nbytes // 4 * p.rows for p in products(case))


def bytes_read(case: ModelCase) -> int:
    """Count the bytes of weights that one call reads."""
    return sum(p.nbytes * p.passes for p in products(case))


def weight_bytes(case: ModelCase) -> int:
    """Count the bytes of all weights."""
    return sum(p.nbytes for p in products(case))


def _resident(case: ModelCase, p: Product) -> int:
    return p.nbytes if p.passes > 1 else weight_bytes(case)


def buffer_sizes(case: ModelCase) -> list[int]:
    """Return the sizes of weights that are read again and again."""
    return sorted({_resident(case, p) for p in products(case)})


def limit(case: ModelCase, rates: Rates) -> Limit:
    """Return the limit."""
    found = products(case)
    passes = [
        Pass(p.nbytes * p.passes, _resident(case, p), 2 * p.nbytes // 4 * p.rows) for p in found
    ]
    chains = [p.passes * rates.chain(p.cell, p.activation) for p in found if p.cell]
    return limit_of(passes, rates, max(chains, default=0.0))


def target(case: ModelCase, limit: Limit, rates: Rates) -> Target | None:
    """Hold the voice activity detector against the clock."""
    if not case.target_us:
        return None
    streams = max(1, case.pool)
    name = f"{case.target_us:g} us" + (f" x {streams} streams" if case.pool else "")
    return Target(name, case.target_us * streams * 1e-6)
