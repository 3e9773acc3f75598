"""The native program: slots, constants, errors that name the node."""

import numpy as np
import pytest

from treadle import _core
from treadle.graph.ir import Graph, Node, Value
from treadle.graph.model import Model
from treadle.graph.program import run_node


def linear_model():
    """y = x W^T + b, and y as one row."""
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.standard_normal((5, 3)).astype(np.float32),
        "b": rng.standard_normal(5).astype(np.float32),
        "s": np.array([-1]),
    }
    nodes = [
        Node("treadle.Linear", ["x", "w", "b"], ["y"], {}, "first"),
        Node("Reshape", ["y", "s"], ["z"], {}, "second"),
    ]
    outputs = [Value("y", "float32", ("n", 5)), Value("z", "float32", None)]
    return Model(Graph([Value("x", "float32", ("n", 3))], outputs, nodes, constants)), constants


def test_model_runs():
    model, constants = linear_model()
    x = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    out = model(x=x)
    expected = x.astype(float) @ constants["w"].T.astype(float) + constants["b"]
    np.testing.assert_allclose(out["y"], expected, atol=4 * 4 * np.finfo(np.float32).eps)
    np.testing.assert_array_equal(out["z"], out["y"].reshape(-1))
    np.testing.assert_array_equal(model(x)["y"], out["y"])


@pytest.mark.parametrize(
    ("args", "named", "error", "text"),
    [
        ((), {}, TypeError, "x is missing, expected x: float32 [n, 3]"),
        ((), {"y": 1}, TypeError, "no input 'y'"),
        ((1, 2), {}, TypeError, "2 inputs are given"),
        ((np.zeros((2, 3), np.float32),), {"x": 1}, TypeError, "given twice"),
        ((np.zeros((2, 4), np.float32),), {}, ValueError, r"shape \(2, 4\), expected float32"),
        ((np.zeros((2, 3)),), {}, TypeError, "float64"),
    ],
)
def test_wrong_inputs(args, named, error, text):
    model, _ = linear_model()
    with pytest.raises(error, match=text.replace("[n, 3]", r"\[n, 3\]")):
        model(*args, **named)


def test_error_names_the_node():
    node = Node("Reshape", ["x", "s"], ["y"], {}, "the_node")
    with pytest.raises(ValueError, match=r"node the_node \(Reshape\): shape \[4\] cannot become"):
        run_node(node, [np.zeros(4, np.float32), np.array([3, -1])])


@pytest.mark.parametrize(
    "changes",
    [
        {"slots": 0},
        {"outputs": [3]},
        {"outputs": [-1]},
        {"outputs": [-9]},
        {"inputs": -1},
        {"nodes": [{"inputs": [1]}]},
        {"nodes": [{"inputs": [-7]}]},
        {"nodes": [{"outputs": [0]}]},
        {"nodes": [{"outputs": [9]}]},
        {"nodes": [{"last": [1, 1]}]},
        {"nodes": [{"last": [7]}]},
    ],
)
def test_impossible_plans(changes):
    """A plan that reads or frees what is not there is refused before it runs."""
    node = {"op": "Reshape", "name": "n", "inputs": [0, -2], "outputs": [1], "last": [0]}
    node["attributes"] = {}
    plan = {"inputs": 1, "slots": 2, "outputs": [1], "constants": [np.array([-1])], "nodes": [node]}
    _core.Program("f", plan)
    if "nodes" in changes:
        changes = {"nodes": [{**node, **changes["nodes"][0]}]}
    with pytest.raises(ValueError, match="a plan"):
        _core.Program("f", plan | changes)


def test_outputs_that_are_inputs_or_constants():
    x = Value("x", "int64", (2,))
    model = Model(Graph([x], [x, Value("c", "float32", (1,))], [], {"c": np.ones(1, np.float32)}))
    out = model([3, 4])
    np.testing.assert_array_equal(out["x"], [3, 4])
    out["x"][:] = 0
    np.testing.assert_array_equal(model([3, 4])["c"], [1])
