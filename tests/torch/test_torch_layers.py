"""from_torch of Linear, Conv1d, Embedding, activations and Sequential, against PyTorch."""

import numpy as np
import pytest
import torch
from torch import nn

import treadle
from support.tolerance import assert_same_bits


def agree(module, x, atol=1e-5):
    module.eval()
    ours = treadle.from_torch(module)
    with torch.no_grad():
        np.testing.assert_allclose(ours(x), module(x).numpy(), atol=atol)
    return ours


@pytest.mark.parametrize(
    "module",
    [nn.Linear(7, 5), nn.Linear(7, 5, bias=False), nn.Conv1d(4, 6, 3), nn.Tanh(), nn.ReLU6(),
     nn.Conv1d(4, 6, 3, 2, 1, 2, 2, False), nn.Conv1d(4, 4, 5, padding="same", groups=4),
     nn.Conv1d(4, 6, 1, padding="valid"), nn.ReLU(inplace=True), nn.GELU("tanh"), nn.ELU(0.3),
     nn.LeakyReLU(0.2), nn.Softplus(), nn.LogSoftmax(-1), nn.Dropout(0.5), nn.Hardtanh(-2, 0.5),
     nn.Hardswish()],
    ids=repr,
)  # fmt: skip
def test_layers(module):
    agree(module, torch.randn(2, 4, 7))


def test_embedding():
    for padding in (None, 3, -1):
        module = nn.Embedding(9, 4, padding_idx=padding)
        ours = agree(module, torch.tensor([[0, 3, 8]]))
        assert ours.padding_idx == module.padding_idx


def test_a_net_of_sequences():
    module = nn.Sequential()
    module.add_module("front", nn.Sequential(nn.Conv1d(3, 8, 5, 2), nn.ReLU(), nn.Dropout1d(0.2)))
    module.add_module("flat", nn.Flatten())
    module.add_module("classes", nn.Sequential(nn.Linear(64, 20), nn.SiLU(), nn.Linear(20, 4)))
    x = torch.randn(6, 3, 20)
    ours = agree(module, x)
    assert ours.state_dict().keys() == module.state_dict().keys()
    assert ours.front[2].__class__ is treadle.Identity  # numbers are PyTorch's, too
    assert ours.front[0].stride == 2
    ours.load_state_dict(module.state_dict())


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(affine):
    """The statistics of training, in sequences and state dicts with PyTorch's count of batches."""
    norm = nn.BatchNorm1d(6, 1e-3, affine=affine)
    module = nn.Sequential(nn.Conv1d(4, 6, 3), norm, nn.ReLU())
    for _ in range(3):
        module(torch.randn(5, 4, 9) * 3 + 1)
    ours = agree(module, torch.randn(2, 4, 9))
    ours.load_state_dict(module.state_dict())
    assert repr(ours[1]) == f"BatchNorm1d(6, eps=0.001{'' if affine else ', affine=False'})"
    x = torch.randn(7, 6)
    one = agree(norm, x)
    assert_same_bits(one(x[3:4]), one(x)[3:4])
    assert_same_bits(one(x[:, :, None])[..., 0].copy(), one(x))
    for wrong in (x[:, :5], x[0], x[None, None]):
        with pytest.raises(ValueError, match=r"^treadle\.BatchNorm1d: x has shape"):
            one(wrong)
    with pytest.raises(ValueError, match="num_batches"):
        ours.load_state_dict({"0.num_batches_tracked": 1, **ours.state_dict()})


def test_a_module_that_stands_twice():
    shared = nn.Linear(4, 4)
    ours = agree(nn.Sequential(shared, nn.Tanh(), shared), torch.randn(2, 4))
    assert ours[0] is ours[2]


def test_recurrent_nets_hand_on_their_output():
    """PyTorch's Sequential hands a tuple to Linear, which fails; treadle's takes the output."""
    lstm, linear = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)
    ours = treadle.from_torch(nn.Sequential(lstm, linear))
    x = torch.randn(2, 5, 3)
    with torch.no_grad():
        np.testing.assert_allclose(ours(x), linear(lstm(x)[0]).numpy(), atol=1e-5)


def test_bfloat16_is_exact():
    module = nn.Sequential(nn.Linear(5, 4).bfloat16())
    ours = treadle.from_torch(module)
    assert_same_bits(ours[0].weight, module[0].weight.detach().float().numpy())


class Own(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Reader(nn.Sequential):
    def forward(self, x):
        return super().forward(x)[0]


class OwnDropout(nn.Dropout):
    def forward(self, x):
        return x + 1


REFUSED = {
    "max_norm": nn.Embedding(3, 4, max_norm=1.0),
    "beta": nn.Softplus(2.0),
    "threshold": nn.Softplus(threshold=5),
    "padding_mode": nn.Conv1d(2, 2, 3, padding=1, padding_mode="reflect"),
    "forward": Own(2, 2),
    "Reader": Reader(nn.Linear(2, 2)),
    r"module\.0 is of type .*BatchNorm3d": nn.Sequential(nn.BatchNorm3d(3)),
    "track_running_stats": nn.BatchNorm1d(3, track_running_stats=False),
    "OwnDropout": nn.Sequential(OwnDropout()),
    r"module\.1\.0 is of type .*Conv3d": nn.Sequential(
        nn.ReLU(), nn.Sequential(nn.Conv3d(1, 1, 1))
    ),
    "mode is 'bicubic'": nn.Upsample(scale_factor=2, mode="bicubic"),
    "return_indices": nn.AdaptiveMaxPool2d(2, return_indices=True),
    r"module\.0 is of type .*ReflectionPad2d": nn.Sequential(nn.ReflectionPad2d(1)),
    "dim": nn.Softmax(),
    "float64": nn.Linear(2, 2).double(),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused(message):
    with pytest.raises((TypeError, ValueError), match=message):
        treadle.from_torch(REFUSED[message])
