"""Layers over images and sequences without a pixel, a step or a batch.

CI runs these under the sanitizers: memory of no numbers may have no address, from which nothing is
to be counted.
"""

import numpy as np
import pytest
import torch

import treadle
from support.tolerance import assert_same_bits

nn = torch.nn


def their_net():
    """A net with every layer of images."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.ZeroPad2d((1, 0, 2, 1)),
        nn.Conv2d(6, 6, (3, 2), padding=1, groups=6),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 1),
        nn.InstanceNorm2d(8, affine=True),
        nn.MaxPool2d(2, padding=1),
        nn.Conv2d(8, 8, 3, stride=2, padding=(1, 2), groups=2, bias=False),
        nn.GroupNorm(4, 8),
        nn.ConvTranspose2d(8, 6, 3, stride=2, output_padding=1),
        nn.AvgPool2d(3, 2, ceil_mode=True),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Upsample((5, 4)),
        nn.AdaptiveMaxPool2d((3, 2)),
        nn.AdaptiveAvgPool2d((2, 2)),
        nn.Flatten(),
        nn.Linear(24, 3),
    ).eval()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_no_images(isa, dtype):
    """Every layer of a net passes on that there is no image; one that follows is not disturbed."""
    theirs = their_net()
    ours = treadle.from_torch(theirs)
    for size in ((9, 11), (16, 40)):
        image = torch.randn(1, 6, *size)
        with torch.no_grad():
            expected = theirs(image).numpy()
        np.testing.assert_allclose(ours(image), expected, atol=1e-5)
        low = ours.to(dtype)
        before = low(image)
        assert low(image[:0]).shape == (0, 3)
        assert_same_bits(low(image), before)


@pytest.mark.parametrize(
    "layer",
    [
        treadle.Conv2d(4, 6, 3, padding=4, seed=0),
        treadle.Conv2d(4, 8, (3, 5), padding=5, stride=2, groups=4, seed=0),
        treadle.Conv2d(4, 6, (2, 3), padding=6, dilation=3, groups=2, activation="tanh", seed=0),
    ],
    ids=repr,
)
def test_convolutions_of_padding_are_their_bias(isa, layer):
    for shape in ((2, 4, 0, 5), (2, 4, 5, 0), (2, 4, 0, 0), (4, 0, 3)):
        layer = layer.to("float32")  # packed for the level
        y = layer(np.zeros(shape, np.float32))
        bias = np.asarray(layer.bias)
        wanted = treadle.functional.tanh(bias) if layer.activation == "tanh" else bias
        assert y.size > 0
        assert_same_bits(y, np.broadcast_to(wanted[:, None, None], y.shape).copy())


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_recurrent_layers_over_nothing(isa, threads, kind):
    for options in ({}, {"bidirectional": True}, {"num_layers": 2}, {"dtype": "int8"}):
        module = getattr(treadle, kind)(5, 20, batch_first=True, seed=0, **options)
        width = 40 if "bidirectional" in options else 20
        for batch, steps in ((0, 3), (2, 0), (0, 0)):
            y, state = module(np.zeros((batch, steps, 5), np.float32))
            assert y.shape == (batch, steps, width)
            for part in state if kind == "LSTM" else (state,):
                assert part.shape[1:] == (batch, 20)
                assert not part.any()


def test_transformer_layers_over_nothing(isa):
    attention = treadle.MultiheadAttention(16, 4, batch_first=True, seed=0)
    encoder = treadle.TransformerEncoder(treadle.TransformerEncoderLayer(16, 4, 32), 2)
    for batch, steps in ((0, 3), (2, 0), (0, 0)):
        x = np.zeros((batch, steps, 16), np.float32)
        assert attention(x, x, x)[0].shape == x.shape
        assert encoder(x).shape == x.shape
