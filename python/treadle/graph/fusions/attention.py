"""Attention that is written as two products and a softmax becomes treadle.Attention.

    y = softmax(scale q k' + mask) v    q [B, N, S, E], k' [B, N, E, K], v [B, N, K, F]

(Vaswani et al., arXiv:1706.03762.) The scale may be a factor of q, of k or of the scores. Without
the axis N there is one head. treadle.Attention has the heads before the last axis, where exporters
transpose them from, so that most of the Transposes around it go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from treadle.graph.ir import Node
from treadle.graph.layout.orders import then
from treadle.graph.patterns import bound

if TYPE_CHECKING:
    from treadle.graph.view import View

MOST = float(np.finfo(np.float32).max)
HEADS = (0, 2, 1, 3)  # [B, N, S, E] to [B, S, N, E], and back


@dataclass(slots=True)
class _Found:
    """A _Found has the parts of an attention, and the nodes whose place it takes."""

    q: str
    k: str  # transposed: [.., E, K]
    v: str
    mask: str
    scale: float
    nodes: list[Node]


def fuse(view: View) -> int:
    """Fuse every attention; return how many."""
    return sum(_fuse(view, node) for node in view.nodes("Softmax"))


def _fuse(view: View, softmax: Node) -> bool:
    found = _find(view, softmax)
    if found is None:
        return False
    product = found.nodes[-1]
    shapes = [view.known(name).shape for name in (found.q, found.k, found.v)]
    q, k, v = (shape or () for shape in shapes)
    rank = len(q)
    if rank not in (3, 4) or len(k) != rank or len(v) != rank:
        return False
    if not q[:-2] == k[:-2] == v[:-2] or q[-1] != k[-2] or k[-1] != v[-2]:
        return False
    if not all(view.is_float(name) for name in (found.q, found.k, found.v)):
        return False
    if not view.is_private(found.nodes, product.outputs[0]):
        return False
    if found.mask and not _mask_fits(view, found.mask, (*q[:-1], k[-1])):
        return False
    _replace(view, found, rank, product)
    return True


def _mask_fits(view: View, mask: str, scores: tuple[int | str, ...]) -> bool:
    """Return whether a mask broadcasts to the scores and leaves each query a key.

    A query whose scores are all minus infinity gives NaN in the parts and zeros in the operator.
    """
    known = view.known(mask)
    if known.dtype != "float32" or known.shape is None or len(known.shape) > len(scores):
        return False
    pairs = zip(reversed(known.shape), reversed(scores), strict=False)
    if not all(size in (1, wanted) for size, wanted in pairs):
        return False
    array = view.constant(mask)
    if array is not None:
        rows = array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
        return bool((rows > -np.inf).any(1).all() and (rows < np.inf).all())
    return bound(view, mask) <= MOST


def _find(view: View, softmax: Node) -> _Found | None:
    rank = view.known(softmax.inputs[0]).rank
    if rank is None or softmax.attributes.get("axis", -1) not in (-1, rank - 1):
        return None
    product = view.only_reader(softmax.outputs[0], "MatMul")
    if product is None or product.inputs[0] != softmax.outputs[0]:
        return None
    nodes: list[Node] = [softmax]
    scores, mask, scale = softmax.inputs[0], "", 1.0
    add = view.maker(scores, "Add")
    if add is not None:
        nodes.append(add)
        first, second = add.inputs
        if view.maker(first, "MatMul", "Mul", "Div") is None or not _is_scores(view, first):
            first, second = second, first
        scores, mask = first, second
    scores, factor = _unscaled(view, scores, nodes)
    scale *= factor
    inner = view.maker(scores, "MatMul")
    if inner is None:
        return None
    nodes.append(inner)
    q, factor = _unscaled(view, inner.inputs[0], nodes)
    scale *= factor
    k, factor = _unscaled(view, inner.inputs[1], nodes)
    scale *= factor
    return _Found(q, k, product.inputs[1], mask, scale, [*nodes, product])


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

    q, k, v, mask = found.q, found.k, found.v, found.mask
    if rank == 3:  # [B, S, E] is [B, S, 1, E]
        head = view.add_constant(f"{label}.head", np.array([2], np.int64))
        q = add("Unsqueeze", [q, head], "q")
        k = add("Unsqueeze", [add("Transpose", [k], "kt", perm=[0, 2, 1]), head], "k")
        v = add("Unsqueeze", [v, head], "v")
        if mask and view.known(mask).rank == 3:
            axis = view.add_constant(f"{label}.axis", np.array([1], np.int64))
            mask = add("Unsqueeze", [mask, axis], "mask")
    else:
        q = add("Transpose", [q], "q", perm=list(HEADS))
        k = add("Transpose", [k], "k", perm=list(then((0, 1, 3, 2), HEADS)))
        v = add("Transpose", [v], "v", perm=list(HEADS))
    inputs = [q, k, v, mask] if mask else [q, k, v]
    y = add("treadle.Attention", inputs, "y", scale=found.scale)
    if rank == 3:
        new.append(Node("Squeeze", [y, head], [label], {}, name))
    else:
        new.append(Node("Transpose", [y], [label], {"perm": list(HEADS)}, name))
    view.replace(found.nodes, new, product)
