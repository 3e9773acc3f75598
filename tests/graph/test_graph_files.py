"""Whole models in files: round trips, low precision, and descriptions that lie."""

import copy
import json
import pickle

import numpy as np
import pytest

import treadle
from treadle._storage import safetensors
from treadle.graph.files import ABOUT
from treadle.graph.ir import Graph, Node, Value
from treadle.graph.model import Model
from treadle.layers.files import GRAPH_FORMAT


def recurrent(rng, *, hidden=5, inputs=3):
    """A node of an LSTM over x [T, B, 3], with its constants."""
    constants = {
        "w_ih": rng.standard_normal((4 * hidden, inputs)).astype(np.float32),
        "w_hh": rng.standard_normal((4 * hidden, hidden)).astype(np.float32),
        "b_ih": rng.standard_normal(4 * hidden).astype(np.float32),
        "b_hh": rng.standard_normal(4 * hidden).astype(np.float32),
    }
    attributes = {
        "mode": "lstm",
        "input_size": inputs,
        "hidden_size": hidden,
        "weights": ["0.weight_ih", "0.weight_hh", "0.bias_ih", "0.bias_hh"],
    }
    inputs = ["x", "", "", "", *constants]
    return Node("treadle.Recurrent", inputs, ["h", "", ""], attributes, "lstm"), constants


def small_model():
    """An LSTM, a product, and an If on an input that adds a constant within its branch."""
    rng = np.random.default_rng(0)
    node, constants = recurrent(rng)
    constants["w"] = rng.standard_normal((4, 5)).astype(np.float32)
    constants["shape"] = np.array([-1, 4])

    def branch(name, value):
        array = np.full((4, 4), value, np.float32)
        inner = Node("treadle.Linear", ["y", f"{name}.w"], [f"{name}.out"], {}, name)
        return Graph([], [Value(f"{name}.out", "float32", None)], [inner], {f"{name}.w": array})

    nodes = [
        node,
        Node("treadle.Linear", ["h", "w"], ["y"], {"activation": "tanh"}, "linear"),
        Node(
            "If",
            ["flag"],
            ["z"],
            {"then_branch": branch("then", 1.0), "else_branch": branch("else", 2.0)},
            "choice",
        ),
        Node("Reshape", ["z", "shape"], ["rows"], {}, "reshape"),
    ]
    inputs = [Value("x", "float32", ("T", "B", 3)), Value("flag", "bool", ())]
    outputs = [Value("rows", "float32", (None, 4)), Value("y", "float32", None)]
    return Model(Graph(inputs, outputs, nodes, constants), optimised=True)


def arguments():
    x = np.random.default_rng(1).standard_normal((6, 2, 3)).astype(np.float32)
    return {"x": x, "flag": np.array(True)}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_round_trip(tmp_path, dtype):
    model = small_model().to(dtype)
    path = tmp_path / "model.safetensors"
    treadle.save(model, path)
    loaded = treadle.load(path)
    assert loaded.signature == model.signature
    for flag in (True, False):
        expected = model(**{**arguments(), "flag": (flag and np.array(True)) or np.array(False)})
        found = loaded(**{**arguments(), "flag": np.array(flag)})
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)
    again = pickle.loads(pickle.dumps(loaded))
    np.testing.assert_array_equal(again(**arguments())["rows"], model(**arguments())["rows"])


def test_branches_differ():
    model = small_model()
    yes, no = (model(**{**arguments(), "flag": np.array(f)})["rows"] for f in (True, False))
    np.testing.assert_array_equal(2 * yes, no)


def test_low_precision_is_smaller_and_near(tmp_path):
    model = small_model()
    exact = model(**arguments())["y"]
    for dtype, error in (("bfloat16", 2**-6), ("int8", 2**-4)):
        other = model.to(dtype)
        assert other.weight_bytes < model.weight_bytes
        assert 0 < np.abs(other(**arguments())["y"] - exact).max() < error
    kept = model.to("int8", keep=model.products)
    np.testing.assert_array_equal(kept(**arguments())["y"], exact)
    with pytest.raises(ValueError, match="keep has 'nobody', expected some of lstm"):
        model.to("int8", keep=["nobody"])


def test_trace_has_every_value():
    model = small_model()
    values = model.trace(**arguments())
    plain = model(**arguments())
    assert {"h", "y", "z", "rows"} <= set(values)
    for name, array in plain.items():
        np.testing.assert_array_equal(values[name], array)


def described(path):
    """The description in a model's file, and the bytes of its tensors."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["treadle"]), data[8 + length :]


def written(path, header, about, rest):
    header = {**header, "__metadata__": {"treadle": json.dumps(about)}}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + rest)


def places(value, path=()):
    """Yield the path of every entry of a description."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from places(item, (*path, key))


WRONG = [None, -1, 2**70, 1.5, "nobody", "", [], {}, [1], {"graph": 1}, {"array": {}}, True]


def test_descriptions_that_lie(tmp_path):
    """Whatever one entry is replaced by, loading and running either work or raise ValueError."""
    path = tmp_path / "model.safetensors"
    treadle.save(small_model(), path)
    header, about, rest = described(path)
    refused = ran = 0
    for number, place in enumerate(places(about)):
        for wrong in WRONG[number % 6 :: 6]:
            changed = copy.deepcopy(about)
            at = changed
            for key in place[:-1]:
                at = at[key]
            at[place[-1]] = wrong
            written(path, header, changed, rest)
            try:
                treadle.load(path)(**arguments())
                ran += 1
            except (ValueError, TypeError):
                refused += 1
    assert refused > 150
    assert ran > 0


def test_a_file_of_another_format_is_read_as_a_layer(tmp_path):
    path = tmp_path / "layer.safetensors"
    treadle.save(treadle.Linear(2, 3, seed=0), path)
    assert repr(treadle.load(path)) == "Linear(2, 3)"
    path.write_bytes(
        safetensors.serialize({}, GRAPH_FORMAT, {key: {} for key in ABOUT} | {"single": True})
    )
    with pytest.raises(ValueError, match="a graph is"):
        treadle.load(path)


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(TypeError, match="expected a treadle module or model"):
        treadle.save(3, tmp_path / "x")
