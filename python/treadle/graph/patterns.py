"""This module recognises what fusions look for: products of several nodes, scalars, chains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle.graph.ir import Node
    from treadle.graph.shapes.dims import Dim
    from treadle.graph.view import View

# Two constants that an exporter rounded are the same number up to this relative difference.
CLOSE = 1e-6
MOST_FACTORS = 8
# Operators whose elements are among those of their first input.
MOVES = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Expand", "Slice", "Tile")


def close(a: float | None, b: float) -> bool:
    """Return whether a constant of a file is this number, up to the rounding of float32."""
    return a is not None and math.isclose(a, b, rel_tol=CLOSE)


@dataclass(slots=True)
class Product:
    """A Product is taken apart: it is the coefficient times the factors, computed by nodes."""

    coefficient: float
    factors: list[str]
    nodes: list[Node]


def product(view: View, root: Node) -> Product | None:
    """Take a Mul, or a Div by a number, apart into its factors, through nodes with one reader.

    x * x has the factor x twice. Returns None where there are too many factors.
    """
    result = Product(1.0, [], [])
    _multiply(view, root, result)
    return result if len(result.factors) <= MOST_FACTORS else None


def _multiply(view: View, node: Node, result: Product) -> None:
    result.nodes.append(node)
    for place, name in enumerate(node.inputs):
        number = view.number(name)
        if number is not None and (node.op == "Mul" or place == 1):
            if node.op == "Div" and number == 0:
                result.factors += [""] * (MOST_FACTORS + 1)
                return
            result.coefficient *= number if node.op == "Mul" else 1 / number
            continue
        if len(result.factors) > MOST_FACTORS:
            return
        maker = view.maker(name, "Mul", "Div")
        if maker is not None and _divides(view, maker) and view.only_reader(name) is node:
            _multiply(view, maker, result)
        else:
            result.factors.append(name)


def _divides(view: View, node: Node) -> bool:
    """Return whether a node is a product: a Mul, or a Div by a number."""
    return node.op == "Mul" or view.number(node.inputs[1]) is not None


def plus_number(view: View, name: str) -> tuple[str, float, Node] | None:
    """Return (x, number, node) where a value is x + number or x - number."""
    node = view.maker(name, "Add", "Sub")
    if node is None:
        return None
    first, second = node.inputs
    number = view.number(second)
    if number is not None:
        return first, number if node.op == "Add" else -number, node
    number = view.number(first)
    return (second, number, node) if number is not None and node.op == "Add" else None


def clip_limits(view: View, node: Node) -> tuple[float, float] | None:
    """Return the limits of a Clip or Relu, infinite where there is none, or None if unknown."""
    if node.op == "Relu":
        return 0.0, math.inf
    limits = []
    for place, missing in ((1, -math.inf), (2, math.inf)):
        name = node.inputs[place] if place < len(node.inputs) else ""
        limit = view.number(name) if name else missing
        if limit is None or math.isnan(limit):
            return None
        limits.append(limit)
    return limits[0], limits[1]


def scalars_keep_shape(view: View, nodes: list[Node], x: str) -> bool:
    """Return whether all constants of one element in a pattern over x leave x's shape as it is."""
    rank = view.known(x).rank
    for node in nodes:
        for name in node.inputs:
            array = view.constant(name) if name else None
            if array is not None and array.ndim and (rank is None or array.ndim > rank):
                return False
    return True


def rounded(array: np.ndarray) -> np.ndarray:
    """Round to float32; what overflows becomes infinite, and is not `finite`."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def finite(*arrays: np.ndarray) -> bool:
    """Return whether all numbers are finite, as those of folded weights must be."""
    return all(bool(np.isfinite(array).all()) for array in arrays)


def constant_target(shape: Sequence[Dim], result: Sequence[Dim]) -> np.ndarray | None:
    """Return the second input of a Reshape from a shape to another, or None if it needs a call.

    >>> constant_target(("n", "t", 6), ("n", "t", 2, 3))
    array([0, 0, 2, 3])
    """
    symbols = [size for size in result if not isinstance(size, int)]
    kept = [place < len(shape) and shape[place] == size for place, size in enumerate(result)]
    if (
        0 in result
        or len(symbols)
        - sum(keep for keep, size in zip(kept, result, strict=True) if not isinstance(size, int))
        > 1
    ):
        return None
    target = [
        size if isinstance(size, int) else 0 if keep else -1
        for keep, size in zip(kept, result, strict=True)
    ]
    return np.array(target, np.int64)
