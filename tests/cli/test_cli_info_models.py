"""`treadle info` of whole models: inputs, passes, operators, and the time of each node."""

import numpy as np
import pytest

import treadle
from reference.graph import graph_of
from treadle.cli.main import main
from treadle.graph import Graph, Node, Value
from treadle.graph.describe import describe, example_inputs, profile
from treadle.graph.model import Model


def model():
    """A product with a bias and an activation, behind a Transpose that goes."""
    nodes = [
        Node("Identity", ["x"], ["i"]),
        Node("MatMul", ["i", "w"], ["p"], name="dense"),
        Node("Add", ["p", "b"], ["s"]),
        Node("Tanh", ["s"], ["y"]),
        Node("Cast", ["k"], ["z"], {"to": 1}),
    ]
    constants = {"w": np.ones((4, 3), "f"), "b": np.ones(3, "f")}
    inputs = [("x", ("batch", None, 4)), ("k", (2,), "int64")]
    return Model(graph_of(nodes, inputs, ["y", "z"], constants))


def test_description():
    lines = describe(model())
    assert lines[:2] == ["input     x: float32 [batch, ?, 4]", "input     k: int64 [2]"]
    assert "nodes     2, in the file 5" in lines
    assert "constants 60 bytes" in lines
    assert "passes    simplified 1, linear 1, epilogue 1" in lines
    assert [line.split() for line in lines[-2:]] == [["Cast", "1"], ["treadle.Linear", "1"]]


def test_description_counts_what_branches_hold():
    branch = Graph([], [Value("t", "", None)], [Node("Neg", ["x"], ["t"])], {})
    other = Graph([], [Value("e", "", None)], [Node("Neg", ["x"], ["e"])], {})
    node = Node("If", ["c"], ["y"], {"then_branch": branch, "else_branch": other})
    graph = graph_of([node], [("x", (2,)), ("c", (), "bool")], ["y"])
    lines = describe(Model(graph))
    assert [line.split() for line in lines[-2:]] == [["Neg", "2"], ["If", "1"]]


def test_example_inputs():
    inputs = example_inputs(model(), {"batch": 5, "x.1": 2, "k": 7})
    assert inputs["x"].shape == (5, 2, 4)
    assert inputs["x"].dtype == np.float32
    assert inputs["x"].any()
    np.testing.assert_array_equal(inputs["k"], [7, 7])
    assert example_inputs(model(), {})["x"].shape == (1, 1, 4)
    with pytest.raises(ValueError, match=r"no 'time', expected some of batch, k, x, x\.0, x\.1"):
        example_inputs(model(), {"time": 3})
    with pytest.raises(ValueError, match="how many axes x has"):
        example_inputs(Model(graph_of([], [("x", None)], ["x"])), {})


def test_profile():
    whole = model()
    header, *rows, total = profile(whole, example_inputs(whole, {}), rounds=2)
    assert header.split() == ["us", "share", "operator", "node"]
    assert [row.split()[2:] for row in rows] == [["treadle.Linear", "dense"], ["Cast", "z"]]
    times = [float(row.split()[0]) for row in rows]
    assert all(time >= 0 for time in times)
    assert float(total.split()[0]) == pytest.approx(sum(times), abs=0.02)


def test_command(tmp_path, capsys):
    path = tmp_path / "m.safetensors"
    treadle.save(model(), path)
    assert main(["info", str(path)]) == 0
    assert "treadle.Linear" in capsys.readouterr().out
    assert main(["info", str(path), "--profile", "--set", "batch=3", "--set", "x.1=2"]) == 0
    assert "dense" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--profile", "--set", "batch"], "--set is 'batch', expected NAME=NUMBER"),
        (["--profile", "--set", "batch=x"], "--set is 'batch=x', expected NAME=NUMBER"),
        (["--profile", "--set", "nobody=1"], "there is no 'nobody'"),
        (["--profile", "--set", "batch=-1"], "batch is -1"),
    ],
)
def test_wrong_options(tmp_path, capsys, options, message):
    path = tmp_path / "m.safetensors"
    treadle.save(model(), path)
    assert main(["info", str(path), *options]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1


def test_layers_have_no_nodes_to_profile(tmp_path, capsys):
    path = tmp_path / "m.safetensors"
    treadle.save(treadle.Linear(3, 4), path)
    assert main(["info", str(path), "--profile"]) == 1
    assert "--profile needs a whole model" in capsys.readouterr().err
