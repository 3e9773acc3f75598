"""Checks of passes over graphs: what is left, and that it computes the same.

The graphs run in float64 (`reference.graph`), where a fusion must give the same numbers up to the
rounding of float64, and up to that of the constants that it made in float32.
"""

import numpy as np

from reference import graph as reference
from reference.graph import graph_of
from treadle.graph.fusions import AFTER_LAYOUT, BEFORE_LAYOUT
from treadle.graph.layout import relayout
from treadle.graph.optimise import apply, copied
from treadle.graph.shapes import infer
from treadle.graph.simplify import simplify, sweep

FUSIONS = {**BEFORE_LAYOUT, **AFTER_LAYOUT}
EPS = float(np.finfo(np.float32).eps)


def operators(graph):
    return [node.op for node in graph.nodes]


def fused(graph, *names):
    """A copy after these fusions, and how often they were made."""
    result = copied(graph)
    known = infer(result)
    counts = apply(result, known, {name: FUSIONS[name] for name in names})
    sweep(result)
    return result, counts


def laid_out(graph):
    """A copy that works channels last."""
    result = copied(graph)
    known = infer(result)
    relayout(result, known)
    simplify(result, known)
    return result


def numbers(graph, seed=5, size=2):
    """Inputs of a graph; its symbols stand for `size` and the next numbers."""
    random = np.random.default_rng(seed)
    inputs, symbols = {}, {}
    for value in graph.inputs:
        shape = [
            n if isinstance(n, int) else symbols.setdefault(n, size + len(symbols))
            for n in value.shape
        ]
        array = random.standard_normal(shape) * 2
        inputs[value.name] = array > 0 if value.dtype == "bool" else array.astype(value.dtype)
    return inputs


def assert_same(graph, changed, factor=0.0, inputs=None):
    """Both graphs give the same; `factor` is how many eps of float32 their constants differ by.

    An output moves by at most that many eps of the sum of magnitudes it is made of, which is taken
    to be the largest output or 1.
    """
    inputs = numbers(graph) if inputs is None else inputs
    assert [value.name for value in changed.outputs] == [value.name for value in graph.outputs]
    wanted, found = reference.run(graph, inputs), reference.run(changed, inputs)
    for name, array in wanted.items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype
        finite = np.abs(array[np.isfinite(array)])
        largest = max(1.0, float(finite.max(initial=0)))
        np.testing.assert_allclose(found[name], array, 0, (1e-12 + factor * EPS) * largest)


def only_fused(nodes, inputs, outputs, constants, names, factor=0.0):
    """The operators after fusions that must not change the results."""
    graph = graph_of(nodes, inputs, outputs, constants)
    result, _ = fused(graph, *names)
    assert_same(graph, result, factor)
    return operators(result)
