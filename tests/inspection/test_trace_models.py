"""Traces of whole models: the gates of their recurrent layers, the maps of their attention."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest
import torch

import treadle
import treadle.torch
from reference import attention as reference
from reference.graph import graph_of
from support import samples
from support.tolerance import assert_close, assert_same_bits
from treadle.graph import Node
from treadle.graph.model import Model

T, B, I, H = 5, 3, 4, 6


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_a_captured_net_has_the_gates_of_the_layer(dtype):
    torch.manual_seed(0)
    net = torch.nn.LSTM(I, H, num_layers=2, bidirectional=True, batch_first=True)

    class Tagger(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.head = net, torch.nn.Linear(2 * H, 3)

        def forward(self, x):
            return self.head(self.net(x)[0])

    x = samples.normal(0, B, T, I)
    model = treadle.torch.capture(Tagger().eval(), (torch.from_numpy(x),)).to(dtype)
    trace = treadle.trace(model)(x)
    assert_same_bits(trace.output, model(x))
    layer = treadle.trace(treadle.from_torch(net).to(dtype))(x)
    names = [name for name in trace if ".gates." in name or ".states." in name]
    assert len(names) == len(layer) == 24
    for name in names:
        own = name[name.index("layer") :]
        assert_same_bits(trace[name], layer[own])
    chosen = treadle.trace(model, layers=1)(x)
    assert len(chosen) == 12


def test_attention_of_a_captured_module():
    torch.manual_seed(0)
    module = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()

    class Looks(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.look = module

        def forward(self, x):
            return self.look(x, x, x, need_weights=False)[0]

    x = samples.normal(0, B, T, 8)
    model = treadle.torch.capture(Looks().eval(), (torch.from_numpy(x),))
    trace = treadle.trace(model)(x)
    assert_same_bits(trace.output, model(x))
    (name,) = trace
    assert name.endswith(".self_attention.probabilities")
    parameters = treadle.from_torch(module).state_dict()
    exact, rounded = (
        reference.multihead_attention(parameters, 2, x, x, x, dtype=dtype)[1]
        for dtype in (np.float64, np.float32)
    )
    assert_close(trace[name], exact, rounded, cell=True)


@pytest.mark.parametrize("hidden", [0.5, -1e4, -np.inf])
def test_attention_whose_hidden_keys_have_a_score(hidden):
    nodes = [
        Node("Transpose", ["k"], ["kt"], {"perm": [0, 1, 3, 2]}),
        Node("MatMul", ["q", "kt"], ["s0"]),
        Node("Div", ["s0", "two"], ["s1"]),
        Node("Where", ["c", "s1", "low"], ["s2"]),
        Node("Softmax", ["s2"], ["p"], {"axis": 3}),
        Node("MatMul", ["p", "v"], ["y"]),
    ]
    heads = [(name, ("b", 2, length, 6)) for name, length in (("q", "s"), ("k", "k"), ("v", "k"))]
    constants = {"two": np.float32(2), "low": np.float32(hidden)}
    graph = graph_of(nodes, [*heads, ("c", ("b", 1, 1, "k"), "bool")], ["y"], constants)
    sizes = {"q": T, "k": T + 2, "v": T + 2}
    given = {key: samples.normal(i, B, 2, n, 6) for i, (key, n) in enumerate(sizes.items())}
    given["c"] = (np.arange(T + 2) < np.array([[7], [3], [1]])[:B])[:, None, None]
    model = Model(graph)
    (name,) = trace = treadle.trace(model)(**given)
    assert_same_bits(trace.output["y"], model(**given)["y"])

    def probabilities(dtype):
        scores = given["q"].astype(dtype) @ given["k"].astype(dtype).swapaxes(-1, -2) / dtype(2)
        scores = np.where(given["c"], scores, dtype(hidden))
        exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return exponentials / exponentials.sum(axis=-1, keepdims=True)

    assert_close(trace[name], probabilities(np.float64), probabilities(np.float32), cell=True)


def test_a_file_of_keras(tmp_path):
    keras = pytest.importorskip("keras")
    import treadle.keras

    built = keras.Sequential(
        [
            keras.Input((T,), dtype="int32"),
            keras.layers.Embedding(11, I, mask_zero=True),
            keras.layers.LSTM(H, return_sequences=True, name="reads"),
            keras.layers.GRU(H, name="sums_up"),
            keras.layers.Dense(2),
        ]
    )
    path = tmp_path / "model.keras"
    built.save(path)
    model = treadle.keras.load(path)
    ids = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]], np.int32)
    trace = treadle.trace(model)(ids)
    assert_same_bits(trace.output, model(ids))
    (forget,) = [name for name in trace if name.endswith("gates.forget")]
    (update,) = [name for name in trace if name.endswith("gates.update")]
    for name in (forget, update):
        assert trace[name].shape == (T, 2, H)
        assert (np.isnan(trace[name][..., 0]) == (ids == 0).T).all()
