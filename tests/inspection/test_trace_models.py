"""Traces of whole models: the gates of their recurrent layers, the maps of their attention."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest
import torch

import treadle
import treadle.torch
from reference import attention as reference
from support import samples
from support.tolerance import assert_close, assert_same_bits

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
