"""Attention that is written as two products and a softmax becomes treadle.Attention.

    y = softmax(hide(scale q k') + mask) v    q [B, N, S, E], k' [B, N, E, K], v [B, N, K, F]

(Vaswani et al., arXiv:1706.03762.) The scale may be a factor of q, of k or of the scores. Without
the axis N there is one head. Scores are hidden by a Where, which puts -infinity or a large negative
number in their place, or by a mask that is added. treadle.Attention has the heads before the last
axis, where exporters transpose them from, so that most of the Transposes around it go.

A query whose scores are all -infinity gives zeros, as treadle's Softmax does; where they are one
finite number, the mean of all values. Exports of PyTorch's scaled_dot_product_attention replace NaN
behind the softmax by zeros, which treadle.Attention does for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.graph.ir import Node
from treadle.graph.layout.orders import then

if TYPE_CHECKING:
    from treadle.graph.shapes.dims import Dim
    from treadle.graph.view import View

HEADS = (0, 2, 1, 3)  # [B, N, S, E] to [B, S, N, E], and back
MOST_HEAD_SIZE = 256  # of the engine


@dataclass(slots=True)
class _Found:
    """A _Found has the parts of an attention, and the nodes whose place it takes."""

    q: str
    k: str  # transposed: [.., E, K]
    v: str
    mask: _Mask
    scale: float
    nodes: list[Node]


@dataclass(slots=True)
class _Mask:
    """A _Mask is a value that is added to the scores, or that says which of them are hidden."""

    name: str = ""
    turned: bool = False  # true where a key is hidden
    attributes: dict[str, Any] = field(default_factory=dict)


def fuse(view: View) -> int:
    """Fuse every attention; return how many."""
    return sum(_fuse(view, node) for node in view.nodes("Softmax"))


def _fuse(view: View, softmax: Node) -> bool:
    found = _find(view, softmax)
    if found is None:
        return False
    product = found.nodes[-1]
    if not all(view.is_float(name) for name in (found.q, found.k, found.v)):
        return False
    if not view.is_private(found.nodes, product.outputs[0]):
        return False
    shapes = [view.known(name).shape or () for name in (found.q, found.k, found.v)]
    mask = view.known(found.mask.name).shape if found.mask.name else (1,)
    rank = len(shapes[0])
    if rank not in (3, 4) or any(len(shape) != rank for shape in shapes) or not mask:
        return False
    q, k, v = shapes
    if len(mask) > rank or not _sizes_fit(q, k, v, mask):
        return False
    plain = q[:-2] == k[:-2] == v[:-2] and k[-1] == v[-2]
    wanted = zip(reversed(mask), reversed((*q[:-1], k[-1])), strict=False)
    if not plain or not all(size in (1, other) for size, other in wanted):
        found.mask.attributes["broadcast"] = 1
    _replace(view, found, rank, product)
    return True


def _sizes_fit(
    q: tuple[Dim, ...], k: tuple[Dim, ...], v: tuple[Dim, ...], mask: tuple[Dim, ...]
) -> bool:
    """Return whether no sizes are known to exclude each other, and the engine has such heads."""
    sizes = (q[-1], v[-1])
    if not all(isinstance(size, int) and 0 < size <= MOST_HEAD_SIZE for size in sizes):
        return False
    if q[-1] != k[-2] and isinstance(k[-2], int):
        return False
    mask = (*[1] * (len(q) - len(mask)), *mask)
    scores = [*zip(q[:-2], k[:-2], v[:-2], mask[:-2], strict=True), (q[-2], mask[-2])]
    if len({size for size in (k[-1], v[-2]) if isinstance(size, int)}) > 1:
        return False
    scores.append((k[-1], mask[-1]) if mask[-1] != 1 else (k[-1],))
    return all(
        len({size for size in axis if isinstance(size, int) and size != 1}) <= 1 for axis in scores
    )


def _find(view: View, softmax: Node) -> _Found | None:
    rank = view.known(softmax.inputs[0]).rank
    if rank is None or softmax.attributes.get("axis", -1) not in (-1, rank - 1):
        return None
    nodes: list[Node] = [softmax]
    name = _without_nan(view, softmax.outputs[0], nodes)
    product = view.only_reader(name, "MatMul")
    if product is None or product.inputs[0] != name or product.inputs[1] == name:
        return None
    masked = _masked(view, softmax.inputs[0], rank, nodes)
    if masked is None:
        return None
    scores, mask = masked
    if name != softmax.outputs[0]:
        mask.attributes["nan_to_zero"] = 1
    scores, scale = _unscaled(view, scores, nodes)
    inner = view.maker(scores, "MatMul")
    if inner is None:
        return None
    nodes.append(inner)
    q, factor = _unscaled(view, inner.inputs[0], nodes)
    scale *= factor
    k, factor = _unscaled(view, inner.inputs[1], nodes)
    scale *= factor
    if not math.isfinite(scale) or scale == 0:
        return None
    return _Found(q, k, product.inputs[1], mask, scale, [*nodes, product])


def _without_nan(view: View, name: str, nodes: list[Node]) -> str:
    """Go on to Where(IsNaN(p), 0, p), whose nodes join nodes, if it is all that reads p."""
    readers = view.readers(name)
    test = next((node for node in readers if node.op == "IsNaN"), None)
    if test is None or len(readers) != 2 or view.is_kept(name):
        return name
    where = view.only_reader(test.outputs[0], "Where")
    if where is None or where not in readers or where.inputs[2] != name:
        return name
    array, rank = view.constant(where.inputs[1]), view.known(name).rank
    if view.number(where.inputs[1]) != 0 or array is None or rank is None or array.ndim > rank:
        return name
    nodes += [test, where]
    return where.outputs[0]


def _masked(view: View, name: str, rank: int, nodes: list[Node]) -> tuple[str, _Mask] | None:
    """Return the scores before their mask, and the mask; None where it cannot be taken."""
    node = view.maker(name, "Add", "Where")
    if node is None:
        return name, _Mask()
    if view.only_reader(name) is None:
        return None
    nodes.append(node)
    if node.op == "Add":
        first, second = node.inputs
        if not _is_scores(view, first):
            first, second = second, first
        if view.known(second).dtype != "float32" or not _is_scores(view, first):
            return None
        return first, _Mask(second)
    chosen, first, second = node.inputs
    turned = _is_scores(view, second)
    scores, low = (second, first) if turned else (first, second)
    number, array = view.number(low), view.constant(low)
    if number is None or array is None or array.ndim > rank or not _is_scores(view, scores):
        return None
    if number == -math.inf:
        return scores, _Mask(chosen, turned)
    mask = _Mask(chosen, turned, {"hidden_score": number})
    return (scores, mask) if math.isfinite(number) else None


def _is_scores(view: View, name: str) -> bool:
    """Return whether a value is a product, perhaps scaled."""
    value, _ = _unscaled(view, name, [])
    return view.maker(value, "MatMul") is not None


def _unscaled(view: View, name: str, nodes: list[Node]) -> tuple[str, float]:
    """Take a factor of one number off a value that one node reads; its node joins nodes."""
    node = view.maker(name, "Mul", "Div")
    if node is None or view.only_reader(name) is None:
        return name, 1.0
    first, second = node.inputs
    number, value = view.number(second), first
    if number is None and node.op == "Mul":
        number, value = view.number(first), second
    constant = second if value == first else first
    array, rank = view.constant(constant), view.known(value).rank
    if number is None or array is None or rank is None or array.ndim > rank:
        return name, 1.0
    if node.op == "Div" and number == 0:
        return name, 1.0
    nodes.append(node)
    return value, number if node.op == "Mul" else 1 / number


def _replace(view: View, found: _Found, rank: int, product: Node) -> None:
    label, name = product.outputs[0], product.name
    new: list[Node] = []

    def add(op: str, inputs: list[str], suffix: str, **attributes: object) -> str:
        output = view.new_name(f"{label}.{suffix}")
        new.append(Node(op, inputs, [output], dict(attributes), name))
        return output

    q, k, v, mask = found.q, found.k, found.v, found.mask.name
    if mask and found.mask.turned:
        mask = add("Not", [mask], "seen")
    if rank == 3:  # [B, S, E] is [B, S, 1, E]
        head = view.add_constant(f"{label}.head", np.array([2], np.int64))
        q = add("Unsqueeze", [q, head], "q")
        k = add("Unsqueeze", [add("Transpose", [k], "kt", perm=[0, 2, 1]), head], "k")
        v = add("Unsqueeze", [v, head], "v")
        if mask and view.known(found.mask.name).rank == 3:
            axis = view.add_constant(f"{label}.axis", np.array([1], np.int64))
            mask = add("Unsqueeze", [mask, axis], "mask")
    else:
        q = add("Transpose", [q], "q", perm=list(HEADS))
        k = add("Transpose", [k], "k", perm=list(then((0, 1, 3, 2), HEADS)))
        v = add("Transpose", [v], "v", perm=list(HEADS))
    inputs = [q, k, v, mask] if mask else [q, k, v]
    y = add("treadle.Attention", inputs, "y", scale=found.scale, **found.mask.attributes)
    if rank == 3:
        new.append(Node("Squeeze", [y, head], [label], {}, name))
    else:
        new.append(Node("Transpose", [y], [label], {"perm": list(HEADS)}, name))
    view.replace(found.nodes, new, product)
