"""Whole convolutional nets: sequences of PyTorch's modules as `treadle.from_torch` makes them.

PyTorch in float64 is the reference. The same net in PyTorch's float32 shows how much its depth
costs in digits, as `support.tolerance.assert_close` says.
"""

import numpy as np
import pytest
import torch
from torch import nn

import treadle
from support import samples
from support.tolerance import assert_close, assert_same_bits


def normed(inputs, outputs, kernel, activation, **options):
    """Return a convolution without a bias, its batch norm and its activation."""
    conv = nn.Conv2d(inputs, outputs, kernel, bias=False, **options)
    return [conv, nn.BatchNorm2d(outputs), activation]


def residual_free():
    """Return a ResNet without its sums: a stem, two stages, the average of all pixels, classes."""
    return nn.Sequential(
        *normed(3, 16, 7, nn.ReLU(inplace=True), stride=2, padding=3),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Sequential(
            *normed(16, 16, 3, nn.ReLU(), padding=1), *normed(16, 16, 3, nn.ReLU(), padding=1)
        ),
        nn.Sequential(
            *normed(16, 32, 3, nn.ReLU(), stride=2, padding=1),
            *normed(32, 32, 3, nn.Identity(), padding=1),
        ),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(32, 10),
    )


def crnn_front():
    """Return the front of a CRNN, which reads lines of text: its last image has one row."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2),
        *normed(32, 32, 3, nn.ReLU(), padding=1),
        nn.MaxPool2d((2, 2), (2, 1), (0, 1)),
        *normed(32, 48, 3, nn.LeakyReLU(0.2), padding=1),
        nn.MaxPool2d((2, 1)),
        nn.Conv2d(48, 48, (2, 2)), nn.ReLU(),
        nn.Flatten(1, 2),
    )  # fmt: skip


def mobile_block():
    """Return inverted bottlenecks of MobileNet: widen, a convolution for each channel, narrow."""
    return nn.Sequential(
        *normed(3, 16, 3, nn.Hardswish(), stride=2, padding=1),
        *normed(16, 48, 1, nn.ReLU6()),
        *normed(48, 48, 3, nn.ReLU6(), stride=2, padding=1, groups=48),
        *normed(48, 24, 1, nn.Identity()),
        *normed(24, 72, 1, nn.Hardswish()),
        *normed(72, 72, 5, nn.Hardswish(), padding=2, groups=72),
        *normed(72, 24, 1, nn.Identity()),
        nn.AdaptiveAvgPool2d((2, 3)),
    )


def autoencoder():
    """Return an autoencoder whose decoder has transposed convolutions."""
    return nn.Sequential(
        nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.SiLU(),
        ),
        nn.Sequential(
            nn.ConvTranspose2d(32, 16, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(16),
            nn.ELU(),
            nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(8, 3, 1), nn.Sigmoid(),
        ),
    )  # fmt: skip


def stylist():
    """Return a net of image to image translation: instance norms, and a decoder that resizes."""
    return nn.Sequential(
        nn.ZeroPad2d((1, 1, 2, 0)), nn.Conv2d(3, 12, 3), nn.InstanceNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 24, 4, stride=2, padding=1), nn.InstanceNorm2d(24, affine=True), nn.GELU(),
        nn.Conv2d(24, 24, 3, padding=1, dilation=1, groups=2), nn.GroupNorm(3, 24), nn.SiLU(),
        nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(24, 12, 3, padding=1), nn.Tanh(),
        nn.Upsample((20, 30)), nn.Conv2d(12, 3, 1),
        nn.AdaptiveMaxPool2d((7, None)),
    )  # fmt: skip


def vocoder():
    """Return a vocoder's generator: spectra [B, C, T] become waves [B, 1, 8 T]."""
    return nn.Sequential(
        nn.Conv1d(3, 32, 7, padding=3), nn.LeakyReLU(0.1),
        nn.ConvTranspose1d(32, 16, 8, stride=4, padding=2), nn.InstanceNorm1d(16), nn.LeakyReLU(),
        nn.Conv1d(16, 16, 3, dilation=3, padding=3), nn.BatchNorm1d(16), nn.LeakyReLU(0.1),
        nn.ConvTranspose1d(16, 8, 4, stride=2, padding=1), nn.ZeroPad1d((3, 3)),
        nn.Conv1d(8, 1, 7), nn.Tanh(),
    )  # fmt: skip


NETS = {
    "residual_free": (residual_free, (3, 33, 41)),
    "crnn_front": (crnn_front, (1, 32, 50)),
    "mobile_block": (mobile_block, (3, 30, 37)),
    "autoencoder": (autoencoder, (3, 20, 28)),
    "stylist": (stylist, (3, 17, 22)),
    "vocoder": (vocoder, (3, 29)),
}
every = pytest.mark.parametrize("name", NETS)


def trained(name):
    """Return PyTorch's net in inference and a batch of inputs; batch norms have seen some data."""
    make, shape = NETS[name]
    torch.manual_seed(0)
    net = make()
    for seed in range(3):
        net(torch.from_numpy(samples.normal(seed, 4, *shape)))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return net.eval(), samples.normal(9, 5, *shape)


@every
def test_like_torchs(isa, threads, name):
    net, x = trained(name)
    ours = treadle.from_torch(net)
    with torch.no_grad():
        rounded = net(torch.from_numpy(x)).numpy()
        exact = net.double()(torch.from_numpy(x).double()).numpy()
    assert_close(ours(x), exact, rounded)


@every
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_batches_have_the_bits_of_their_images(isa, threads, name, dtype):
    net, x = trained(name)
    ours = treadle.from_torch(net).to(dtype)
    y = ours(x)
    assert ours.dtype == dtype
    for part in (slice(0, 1), slice(3, 4), slice(1, 4), slice(None, None, -1)):
        assert_same_bits(ours(x[part]), y[part])
    # Channels last in memory are the same numbers.
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    assert_same_bits(np.ascontiguousarray(ours(last)), y)


@every
def test_the_modules_one_by_one(isa, name):
    """Activations that run in the product before them have the bits of those that run alone."""
    net, x = trained(name)
    ours = treadle.from_torch(net)

    def run(module, y):
        if not isinstance(module, treadle.Sequential):
            return module(y)
        for child in module:
            y = run(child, y)
        return y

    assert_same_bits(np.ascontiguousarray(run(ours, x)), np.ascontiguousarray(ours(x)))


@every
def test_files(name, tmp_path):
    net, x = trained(name)
    ours = treadle.from_torch(net)
    for dtype in ("float32", "int8"):
        module = ours.to(dtype)
        treadle.save(module, tmp_path / f"{name}.safetensors")
        loaded = treadle.load(tmp_path / f"{name}.safetensors")
        assert repr(loaded) == repr(module)
        assert_same_bits(loaded(x), module(x))
    assert ours.load_state_dict(net.state_dict()).missing_keys == []


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_crnn(isa, dtype):
    """The front of convolutions, the net over its columns and the classes are one sequence."""
    net, x = trained("crnn_front")
    lstm = nn.LSTM(48, 20, bidirectional=True, batch_first=True)
    classes = nn.Linear(40, 11)
    parts = [treadle.from_torch(one) for one in (net, lstm, classes)]
    ours = treadle.Sequential(parts[0], treadle.Transpose(1, 2), *parts[1:]).to(dtype)
    y = ours(x)
    assert ours.dtype == dtype
    assert_same_bits(ours(x[2:3]), y[2:3])
    if dtype == "float32":
        results = []
        with torch.no_grad():
            for kind in (torch.float32, torch.float64):
                for module in (net, lstm, classes):
                    module.to(kind)
                hidden, _ = lstm(net(torch.from_numpy(x).to(kind)).transpose(1, 2))
                results.append(classes(hidden).numpy())
        assert_close(y, results[1], results[0])
