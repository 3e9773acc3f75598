"""MultiheadAttention, TransformerEncoder(Layer), LayerNorm as modules: weights, copies, files."""

import copy
import json
import math
import pickle

import numpy as np
import pytest
import torch

import treadle
from support import hostile, samples
from support.tolerance import assert_same_bits
from treadle.cli.main import main

LAYER = treadle.TransformerEncoderLayer(8, 2, 12, seed=0)
MODULES = [
    treadle.MultiheadAttention(8, 2, seed=0),
    treadle.MultiheadAttention(8, 4, 0.25, False, True, True, 8, 8, True, seed=0),
    treadle.MultiheadAttention(8, 2, kdim=8, vdim=8, add_bias_kv=True, seed=0),
    LAYER,
    treadle.TransformerEncoderLayer(8, 1, 12, 0.0, ("elu", 0.5), 1e-6, True, True, False, seed=0),
    treadle.TransformerEncoder(LAYER, 2),
    treadle.TransformerEncoder(LAYER, 3, treadle.LayerNorm(8, eps=1e-12, bias=False), False, False),
    treadle.LayerNorm((8,), seed=0),
    treadle.LayerNorm([5, 8], 0.1, False),
]
every_module = pytest.mark.parametrize("module", MODULES, ids=repr)


def call(module):
    x = samples.normal(0, 4, 5, 8)
    return module(x, x, x) if isinstance(module, treadle.MultiheadAttention) else module(x)


def assert_equal(other, module):
    assert other is not module
    assert type(other) is type(module)
    assert repr(other) == repr(module)
    assert other.state_dict().keys() == module.state_dict().keys()
    assert_same_bits(list(other.state_dict().values()), list(module.state_dict().values()))
    assert_same_bits(call(other), call(module))


def test_reprs_make_the_modules_again():
    for module in MODULES:
        assert repr(eval(repr(module), vars(treadle))) == repr(module)
    assert repr(MODULES[1]) == (
        "MultiheadAttention(8, 4, dropout=0.25, bias=False, add_bias_kv=True, add_zero_attn=True, "
        "kdim=8, vdim=8, batch_first=True)"
    )
    assert repr(MODULES[5]) == (
        "TransformerEncoder(TransformerEncoderLayer(8, 2, dim_feedforward=12), 2)"
    )
    assert "norm=LayerNorm((8,), eps=1e-12, bias=False)" in repr(MODULES[6])


WAYS = {f"pickle-{p}": lambda m, p=p: pickle.loads(pickle.dumps(m, p)) for p in (2, 5)}
WAYS |= {"copy": copy.copy, "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@every_module
def test_copies(module, way):
    assert_equal(way(module), module)


@every_module
def test_files(tmp_path, module):
    path = tmp_path / "model.safetensors"
    treadle.save(module, path)
    assert_equal(treadle.load(path), module)


@every_module
def test_state_dicts(module):
    """Read-only attributes; a dict that is wrong anywhere changes nothing."""
    state = module.state_dict()
    assert module.num_parameters == sum(v.size for v in state.values())
    before = call(module)
    if not state:
        return
    for name, value in state.items():
        assert_same_bits(getattr(module, name), value)
        with pytest.raises(ValueError, match="read-only"):
            getattr(module, name)[...] = 0
    other = copy.deepcopy(module)
    other.load_state_dict({k: torch.from_numpy(2 * v) for k, v in reversed(state.items())})
    assert not np.array_equal(call(other)[0], before[0])
    other.load_state_dict(state)
    assert_same_bits(call(other), before)
    *_, last = state
    for wrong in (
        {}, {k: v for k, v in state.items() if k != last}, state | {"more": state[last]},
        state | {last: state[last][1:]}, state | {last: state[last].astype(np.float64)},
        state | {last: None},
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=r"^treadle\.\w+\.load_state_dict: "):
            other.load_state_dict(wrong)
        assert_same_bits(call(other), before)


def test_names_are_torchs():
    for ours, theirs in (
        (MODULES[1], torch.nn.MultiheadAttention(8, 4, 0.25, False, True, True)),
        (treadle.MultiheadAttention(8, 2, kdim=3), torch.nn.MultiheadAttention(8, 2, kdim=3)),
        (LAYER, torch.nn.TransformerEncoderLayer(8, 2, 12)),
    ):
        shapes = {k: tuple(v.shape) for k, v in theirs.state_dict().items()}
        assert {k: v.shape for k, v in ours.state_dict().items()} == shapes
        assert list(ours.state_dict()) == list(shapes)


def test_initialisation():
    """PyTorch's spread of each weight, zero biases, neutral norms; repeatable by a seed."""
    theirs = torch.nn.TransformerEncoderLayer(64, 4, 100).state_dict()
    ours = treadle.TransformerEncoderLayer(64, 4, 100, seed=1).state_dict()
    for name, value in ours.items():
        expected = theirs[name].numpy()
        if name.startswith(("norm", "self_attn")) and value.ndim == 1:
            assert_same_bits(value, expected)
            continue
        size = np.abs(expected).max()
        assert 0.9 * size <= np.abs(value).max() <= 1.1 * size
        np.testing.assert_allclose(value.std(), expected.std(), rtol=0.25)
    again = treadle.TransformerEncoderLayer(64, 4, 100, seed=1).state_dict()
    assert_same_bits(list(again.values()), list(ours.values()))
    bias = treadle.MultiheadAttention(64, 4, add_bias_kv=True, seed=1).state_dict()["bias_k"]
    assert bias.std() > 0


@pytest.mark.parametrize("module", [MODULES[2], MODULES[6]], ids=repr)
def test_hostile_files(tmp_path, module):
    """ValueError, whatever is in the file."""
    path = tmp_path / "m"
    treadle.save(module, path)
    for name, data in hostile.variants(path.read_bytes()).items():
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"^treadle\.load: "):
            print(name, treadle.load(path))


CONFIGURATIONS = {
    "no layer": lambda c: c.pop("encoder_layer"),
    "layer is null": lambda c: c.update(encoder_layer=None),
    "layer is text": lambda c: c.update(encoder_layer="TransformerEncoderLayer"),
    "layer is a list": lambda c: c.update(encoder_layer=[8, 2]),
    "layer is itself": lambda c: c.update(encoder_layer=dict(c)),
    "layer lacks a size": lambda c: c["encoder_layer"].pop("nhead"),
    "layer has more": lambda c: c["encoder_layer"].update(hidden=3),
    "heads that do not divide": lambda c: c["encoder_layer"].update(nhead=3),
    "huge": lambda c: c["encoder_layer"].update(d_model=2**31 - 1, nhead=2**31 - 1),
    "beyond 64 bits": lambda c: c["encoder_layer"].update(d_model=2**40),
    "activation": lambda c: c["encoder_layer"].update(activation="__import__"),
    "norm is text": lambda c: c.update(norm="LayerNorm"),
    "norm of another size": lambda c: c["norm"].update(normalized_shape=[9]),
    "norm of many sizes": lambda c: c["norm"].update(normalized_shape=[8] * 100),
    "norm of nothing": lambda c: c["norm"].update(normalized_shape=[]),
    "norm eps": lambda c: c["norm"].update(eps=-1),
    "many layers": lambda c: c.update(num_layers=4096),
    "more layers": lambda c: c.update(num_layers=2**31),
    "no layers": lambda c: c.update(num_layers=0),
    "layers in text": lambda c: c.update(num_layers="3"),
}


@pytest.mark.parametrize("case", CONFIGURATIONS)
def test_hostile_configurations(tmp_path, case):
    path = tmp_path / "m"
    treadle.save(MODULES[6], path)

    def edit(header):
        about = json.loads(header["__metadata__"]["treadle"])
        CONFIGURATIONS[case](about["configuration"])
        header["__metadata__"]["treadle"] = json.dumps(about)

    path.write_bytes(hostile.edited(path.read_bytes(), edit))
    with pytest.raises(ValueError, match=r"^treadle\.load: "):
        treadle.load(path)


@pytest.mark.parametrize("edit", ["configuration", "missing", "shape", "dtype"])
@every_module
def test_a_wrong_pickle_is_an_error_and_not_a_crash(module, edit):
    state = module.__getstate__()
    if not state["parameters"]:
        return
    first = next(iter(state["parameters"]))
    if edit == "configuration":
        for name in ("embed_dim", "d_model", "normalized_shape", "num_layers"):
            if name in state["configuration"]:
                state["configuration"][name] = 16
    elif edit == "missing":
        del state["parameters"][first]
    elif edit == "shape":
        state["parameters"][first] = np.zeros(3, np.float32)
    else:
        state["parameters"][first] = np.zeros(state["parameters"][first].shape)
    other = type(module).__new__(type(module))
    with pytest.raises((ValueError, TypeError), match=r"treadle\."):
        other.__setstate__(state)


# from_torch: what it refuses.


class OwnForward(torch.nn.MultiheadAttention):
    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs)


def layer(**changes):
    result = torch.nn.TransformerEncoderLayer(8, 2, 12)
    for name, value in changes.items():
        setattr(result, name, value)
    return result


def encoder(*layers, norm=None):
    result = torch.nn.TransformerEncoder(layer(), 1, norm, enable_nested_tensor=False)
    result.layers = torch.nn.ModuleList(layers)
    return result


WRONG = {
    "own forward": OwnForward(8, 2),
    "own attention": layer(self_attn=OwnForward(8, 2)),
    "other attention": layer(self_attn=torch.nn.Linear(8, 8)),
    "appended keys": layer(self_attn=torch.nn.MultiheadAttention(8, 2, add_bias_kv=True)),
    "other norm": layer(norm1=torch.nn.RMSNorm(8)),
    "eps of one norm": layer(norm2=torch.nn.LayerNorm(8, eps=0.1)),
    "norm without weights": layer(norm2=torch.nn.LayerNorm(8, elementwise_affine=False)),
    "activation": layer(activation=torch.nn.Softplus()),
    "activation as a function": layer(activation=lambda x: x),
    "layers that differ": encoder(layer(), layer(norm_first=True)),
    "activations that differ": encoder(layer(), layer(activation=torch.nn.functional.gelu)),
    "no layers": encoder(),
    "other norm at the end": encoder(layer(), norm=torch.nn.BatchNorm1d(8)),
    "decoder": torch.nn.TransformerDecoderLayer(8, 2, 12),
    "float64": torch.nn.TransformerEncoderLayer(8, 2, 12).double(),
    "meta": torch.nn.MultiheadAttention(8, 2, device="meta"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_from_torch_refuses(case):
    with pytest.raises(TypeError, match=r"^treadle\.(from_torch|TransformerEncoder): "):
        treadle.from_torch(WRONG[case])


ACTIVATIONS = {
    "relu": torch.nn.functional.relu,
    "gelu": torch.nn.GELU(),
    "gelu_tanh": torch.nn.GELU("tanh"),
    "silu": torch.nn.functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.nn.Sigmoid(),
    ("leaky_relu", 0.3): torch.nn.LeakyReLU(0.3),
    ("elu", 0.5): torch.nn.ELU(0.5),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_torch(name):
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 12, activation=ACTIVATIONS[name]).eval()
    ours, x = treadle.from_torch(theirs), samples.normal(0, 4, 5, 8)
    assert ours.activation == name
    np.testing.assert_allclose(ours(x), theirs(torch.from_numpy(x)).detach(), atol=1e-5)


def test_configurations_of_torch():
    assert repr(treadle.from_torch(torch.nn.MultiheadAttention(8, 2, 0.5, kdim=3))) == (
        "MultiheadAttention(8, 2, dropout=0.5, kdim=3)"
    )
    theirs = encoder(layer(), layer(), norm=torch.nn.LayerNorm(8))
    assert repr(treadle.from_torch(theirs)) == (
        "TransformerEncoder(TransformerEncoderLayer(8, 2, dim_feedforward=12), 2, "
        "norm=LayerNorm((8,)), enable_nested_tensor=False)"
    )
    assert math.isclose(treadle.from_torch(theirs).encoder_layer["dropout"], 0.1)


@every_module
def test_info(module, tmp_path, capsys):
    """`treadle info` describes what has no packed weights, one or several."""
    path = tmp_path / "m.safetensors"
    treadle.save(module, path)
    assert main(["info", str(path)]) == 0
    assert f"{module!r}\n" in capsys.readouterr().out
