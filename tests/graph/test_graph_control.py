"""If, Loop and Scan: captured values, nesting, values that pass through, and what is refused."""

import threading

import numpy as np
import pytest

from treadle.graph.ir import Graph, Node, Value
from treadle.graph.model import Model

FLOAT = "float32"


def value(name, dtype=FLOAT):
    return Value(name, dtype, None)


def model(nodes, inputs, outputs, constants=None):
    graph = Graph([value(*i) for i in inputs], [value(o) for o in outputs], nodes, constants or {})
    return Model(graph, optimised=True)


def loop(body_nodes, body_outputs, *, carried, outputs, constants=None, captures=()):
    """A Loop over `n` steps, its body with the inputs i, going and the carried values."""
    inputs = [value("i", "int64"), value("going", "bool")] + [value(f"{c}.in") for c in carried]
    body = Graph(inputs, [value(o) for o in body_outputs], body_nodes, constants or {})
    return Node("Loop", ["n", "", *carried], outputs, {"body": body}, "loop")


def test_loop_with_captures_and_scanned_outputs():
    """y_i = y_{i-1} * w + i, with w from the graph around; every y_i and every i are scanned."""
    nodes = [
        Node("Mul", ["y0.in", "w"], ["scaled"]),
        Node("Cast", ["i"], ["number"], {"to": 1}),
        Node("Add", ["scaled", "number"], ["next"]),
    ]
    node = loop(nodes, ["going", "next", "next", "i"], carried=["y0"], outputs=["y", "all", "is"])
    run = model([node], [("y0",), ("w",), ("n", "int64")], ["y", "all", "is"])
    y0, w = np.array([1.0, 2.0], np.float32), np.array([0.5, 2.0], np.float32)
    out = run(y0=y0, w=w, n=4)
    y, every = y0, []
    for i in range(4):
        y = y * w + i
        every.append(y)
    np.testing.assert_array_equal(out["y"], y)
    np.testing.assert_array_equal(out["all"], every)
    np.testing.assert_array_equal(out["is"], [0, 1, 2, 3])


def test_loop_without_a_step_returns_what_it_got():
    node = loop([], ["going", "y0.in"], carried=["y0"], outputs=["y"])
    run = model([node], [("y0",), ("n", "int64")], ["y"])
    for n in (0, -3, 5):
        np.testing.assert_array_equal(run(y0=[1.0, 2.0], n=n)["y"], [1, 2])


def test_loop_ends_by_its_condition():
    nodes = [
        Node("Add", ["y0.in", "y0.in"], ["next"]),
        Node("Less", ["next", "limit"], ["more"]),
    ]
    constants = {"limit": np.float32(100)}
    node = loop(nodes, ["more", "next"], carried=["y0"], outputs=["y"], constants=constants)
    run = model([node], [("y0",), ("n", "int64")], ["y"])
    assert run(y0=np.float32(1), n=1000)["y"] == 128


def branch(nodes, output, constants=None):
    return Graph([], [value(output)], nodes, constants or {})


def test_nested_branches_return_captured_values():
    """An inner branch returns an input of the outermost graph as it is."""
    inner = Node(
        "If",
        ["b"],
        ["chosen"],
        {"then_branch": branch([], "x"), "else_branch": branch([Node("Neg", ["x"], ["n"])], "n")},
        "inner",
    )
    outer = Node(
        "If",
        ["a"],
        ["y"],
        {
            "then_branch": branch([inner], "chosen"),
            "else_branch": branch([], "c", {"c": np.full(3, 9, np.float32)}),
        },
        "outer",
    )
    run = model([outer], [("x",), ("a", "bool"), ("b", "bool")], ["y"])
    x = np.array([1, 2, 3], np.float32)
    expected = {(True, True): x, (True, False): -x, (False, True): np.full(3, 9)}
    for (a, b), y in expected.items():
        np.testing.assert_array_equal(run(x=x, a=np.array(a), b=np.array(b))["y"], y)


def test_scan_along_axes_and_backwards():
    """Running sums over the second axis of x, from its end, stacked as the last axis."""
    body = Graph(
        [value("s.in"), value("row")],
        [value("s.out"), value("s.out")],
        [Node("Add", ["s.in", "row"], ["s.out"])],
        {},
    )
    attributes = {
        "body": body,
        "num_scan_inputs": 1,
        "scan_input_axes": [1],
        "scan_input_directions": [1],
        "scan_output_axes": [-1],
    }
    run = model(
        [Node("Scan", ["s", "x"], ["last", "all"], attributes)], [("s",), ("x",)], ["last", "all"]
    )
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    out = run(s=np.zeros(3, np.float32), x=x)
    sums = np.cumsum(x[:, ::-1], axis=1)
    np.testing.assert_array_equal(out["all"], sums)
    np.testing.assert_array_equal(out["last"], sums[:, -1])


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"num_scan_inputs": 0}, "num_scan_inputs"),
        ({"num_scan_inputs": 3}, "num_scan_inputs"),
        ({"scan_input_axes": [1, 2]}, "scan_input_axes"),
        ({"scan_input_axes": [5]}, "axis is 5"),
    ],
)
def test_wrong_scans(attributes, text):
    body = Graph([value("s.in"), value("row")], [value("s.in")], [], {})
    node = Node("Scan", ["s", "x"], ["last"], {"body": body, "num_scan_inputs": 1, **attributes})
    with pytest.raises(ValueError, match=text):
        model([node], [("s",), ("x",)], ["last"])(s=[0.0], x=[[1.0]])


def test_a_body_that_does_not_fit():
    node = loop([], ["going"], carried=["y0"], outputs=["y"])
    with pytest.raises(ValueError, match="the body does not fit"):
        model([node], [("y0",), ("n", "int64")], ["y"])


def test_a_condition_that_is_no_bool():
    branches = {"then_branch": branch([], "x"), "else_branch": branch([], "x")}
    run = model([Node("If", ["x"], ["y"], branches, "choice")], [("x",)], ["y"])
    with pytest.raises(ValueError, match=r"node choice \(If\): a condition has dtype float32"):
        run(x=[1.0])


def test_graphs_too_deep():
    inner = branch([], "x")
    for i in range(40):
        node = Node("If", ["a"], [f"y{i}"], {"then_branch": inner, "else_branch": branch([], "x")})
        inner = branch([node], f"y{i}")
    with pytest.raises(ValueError, match="nested more than 16 deep"):
        model(inner.nodes, [("x",), ("a", "bool")], ["y39"])


def test_memory_that_grows_in_a_loop_is_limited():
    """A loop that doubles a value has no more memory than follows from its inputs."""
    nodes = [Node("Concat", ["y0.in", "y0.in"], ["next"], {"axis": 0})]
    node = loop(nodes, ["going", "next"], carried=["y0"], outputs=["y"])
    run = model([node], [("y0",), ("n", "int64")], ["y"])
    assert run(y0=[1.0], n=10)["y"].shape == (1024,)
    with pytest.raises(MemoryError):
        run(y0=[1.0], n=60)


def test_threads_share_a_model():
    """Eight threads run one model at the same time, and each gets its own results."""
    nodes = [Node("Mul", ["y0.in", "w"], ["next"])]
    node = loop(nodes, ["going", "next"], carried=["y0"], outputs=["y"])
    run = model([node], [("y0",), ("w",), ("n", "int64")], ["y"])
    wrong = []

    def work(number):
        w = np.full(64, number, np.float32)
        for n in range(1, 40):
            y = run(y0=np.ones(64, np.float32), w=w, n=n % 5)["y"]
            if not (y == float(number) ** (n % 5)).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
