"""x (1 + erf(x / sqrt(2))) / 2, and its form with tanh, become ONNX's Gelu.

The form with tanh is x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 (Hendrycks and Gimpel,
arXiv:1606.08415).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from treadle.graph.ir import Node
from treadle.graph.patterns import close, plus_number, product, scalars_keep_shape

if TYPE_CHECKING:
    from treadle.graph.view import View

CUBE = 0.044715


def fuse(view: View) -> int:
    """Fuse every GELU; return how many."""
    roots = reversed(list(view.nodes("Mul", "Div")))
    return sum(_fuse(view, root) for root in roots if root in view)


def _fuse(view: View, root: Node) -> bool:
    found = product(view, root)
    if found is None or not close(found.coefficient, 0.5) or len(found.factors) != 2:
        return False
    for x, gate in (found.factors, found.factors[::-1]):
        inner = _gate(view, x, gate)
        if inner is None or not view.is_float(x):
            continue
        approximate, nodes = inner
        group = [*found.nodes, *nodes]
        if view.is_private(group, root.outputs[0]) and scalars_keep_shape(view, group, x):
            attributes = {"approximate": approximate}
            new = Node("Gelu", [x], [root.outputs[0]], attributes, root.name)
            view.replace(group, [new], root)
            return True
    return False


def _gate(view: View, x: str, name: str) -> tuple[str, list[Node]] | None:
    """Return the form and the nodes of 1 + erf(x / sqrt(2)) or 1 + tanh(...)."""
    summand = plus_number(view, name)
    if summand is None or summand[1] != 1:
        return None
    function = view.maker(summand[0], "Erf", "Tanh")
    inside = None if function is None else view.maker(function.inputs[0], "Mul", "Div")
    found = None if inside is None else product(view, inside)
    if function is None or found is None:
        return None
    nodes = [summand[2], function, *found.nodes]
    if function.op == "Erf":
        fits = found.factors == [x] and close(found.coefficient, math.sqrt(0.5))
        return ("none", nodes) if fits else None
    if not close(found.coefficient, math.sqrt(2 / math.pi)):
        return None
    cubic = _cubic(view, x, found.factors)
    return None if cubic is None else ("tanh", [*nodes, *cubic])


def _cubic(view: View, x: str, factors: list[str]) -> list[Node] | None:
    """Return the nodes of x + 0.044715 x^3, or of x times 1 + 0.044715 x^2."""
    if len(factors) == 2 and x in factors:
        other = factors[1] if factors[0] == x else factors[0]
        summand = plus_number(view, other)
        if summand is None or summand[1] != 1:
            return None
        power = _power(view, x, summand[0], 2)
        return None if power is None else [summand[2], *power]
    if len(factors) != 1:
        return None
    add = view.maker(factors[0], "Add")
    if add is None or x not in add.inputs:
        return None
    power = _power(view, x, add.inputs[1] if add.inputs[0] == x else add.inputs[0], 3)
    return None if power is None else [add, *power]


def _power(view: View, x: str, name: str, exponent: int) -> list[Node] | None:
    """Return the nodes of 0.044715 times a power of x."""
    root = view.maker(name, "Mul")
    found = None if root is None else product(view, root)
    if found is None or not close(found.coefficient, CUBE):
        return None
    nodes = list(found.nodes)
    total = 0
    for factor in found.factors:
        if factor == x:
            total += 1
            continue
        node = view.maker(factor, "Pow")
        number = None if node is None else view.number(node.inputs[1])
        if node is None or node.inputs[0] != x or number is None or number != int(number):
            return None
        total += int(number)
        nodes.append(node)
    return nodes if total == exponent else None
