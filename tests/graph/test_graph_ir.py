"""The data classes of the graph."""

from treadle.graph import Graph, Node, Value


def test_nodes_and_graphs_are_compared_by_identity():
    """Fusions keep nodes in sets, and attributes may be arrays, which have no truth value."""
    first, second = Node("Relu", ["x"], ["y"]), Node("Relu", ["x"], ["y"])
    assert first != second
    assert len({first, second}) == 2
    assert Graph([], [], [first], {}) != Graph([], [], [first], {})
    assert first.attributes is not second.attributes


def test_values_are_compared_by_content():
    assert Value("x", "float32", (1, "n")) == Value("x", "float32", (1, "n"))
    assert Value("x", "float32", None) != Value("x", "float32", ())
