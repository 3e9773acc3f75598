"""Sequential: modules by name, number and attribute; parameters, files, copies; what it refuses."""

import copy
import pickle

import numpy as np
import pytest
import torch

import treadle
from support import samples
from support.tolerance import assert_same_bits
from treadle._storage import safetensors


def model(seed=0):
    return treadle.Sequential(
        treadle.Conv1d(6, 20, 3, padding=1, seed=seed),
        treadle.ReLU(),
        treadle.Transpose(1, 2),
        treadle.Identity(),
        treadle.Sequential({"net": treadle.GRU(20, 9, batch_first=True, seed=seed)}),
        treadle.Linear(9, 4, seed=seed),
        treadle.GELU(),
        treadle.LogSoftmax(),
    )


X = samples.normal(0, 3, 6, 11)


def by_hand(m, x):
    x = treadle.functional.relu(m[0](x)).swapaxes(1, 2)
    y, _ = m[4].net(x)
    return treadle.functional.log_softmax(treadle.functional.gelu(m[5](y)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_calls_its_modules(isa, threads, dtype):
    m = model().to(dtype)
    assert m.dtype == dtype
    assert_same_bits(m(X), by_hand(m, X))
    assert_same_bits(m(X[1:2]), m(X)[1:2])


def test_the_dtype_is_that_of_the_products():
    """Norms, pools and activations have no products, in sequences within the sequence, too."""
    conv, linear = treadle.Conv2d(4, 6, 3, seed=0), treadle.Linear(6, 2, seed=0)
    norms = [treadle.BatchNorm2d(6), treadle.GroupNorm(2, 6), treadle.LayerNorm(4)]
    others = [*norms, treadle.Identity(), treadle.ReLU(), treadle.MaxPool2d(2)]
    others.append(treadle.Sequential(*norms))
    m = treadle.Sequential(conv, *others, treadle.Sequential(treadle.Flatten(), linear))
    assert m.dtype == "float32"
    for dtype in ("bfloat16", "int8"):
        assert m.to(dtype).dtype == dtype
        assert m.to(dtype)[1:8].dtype == "float32"
    assert m.to("int8", keep="8").dtype == {"0": "int8", "8": "float32"}
    assert treadle.Sequential(*others).to("int8").dtype == "float32"
    layer = treadle.TransformerEncoderLayer(4, 2, 8, dtype="int8", seed=0)
    encoder = treadle.TransformerEncoder(layer, 1, treadle.LayerNorm(4))
    assert treadle.Sequential(encoder, treadle.LayerNorm(4)).dtype == "int8"


def test_recurrent_nets_hand_on_their_output():
    x = samples.normal(0, 5, 2, 3)
    lstm, cell = treadle.LSTM(3, 4, seed=0), treadle.LSTMCell(4, 5, seed=0)
    assert_same_bits(treadle.Sequential(lstm)(x), lstm(x)[0])
    h, _ = cell(lstm(x)[0][2])
    assert_same_bits(treadle.Sequential(cell, treadle.GRUCell(5, 2, seed=0))(lstm(x)[0][2]),
                     treadle.GRUCell(5, 2, seed=0)(h))  # fmt: skip
    words = treadle.Embedding(9, 3, seed=0)
    assert_same_bits(
        treadle.Sequential(words, lstm)([[1, 2], [3, 4]]), lstm(words([[1, 2], [3, 4]]))[0]
    )


def test_looking_up():
    m = model()
    assert len(m) == 8
    assert m[0] is next(iter(m)) is m["0"]
    assert m[-1] is m[7]
    assert m[4].net is m[4][0] is m[4]["net"]
    part = m[4:]
    assert type(part) is treadle.Sequential
    assert part[0] is m[4]
    assert list(part.state_dict()) == [n for n in m.state_dict() if n >= "4"]
    for wrong, error in ((8, IndexError), (-9, IndexError), ("8", KeyError), ("net", KeyError)):
        with pytest.raises(error):
            m[wrong]
    with pytest.raises(AttributeError, match="nosuch"):
        m.nosuch  # noqa: B018
    with pytest.raises(AttributeError, match=r"^treadle\.Sequential: net belongs"):
        m[4].net = treadle.ReLU()
    assert "net" in dir(m[4])


def test_names_are_pytorchs():
    """The state dict of a module of PyTorch with the same layers loads, and the other way."""
    theirs = torch.nn.Sequential(
        torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Sequential(torch.nn.Linear(5, 4))
    )
    ours = treadle.Sequential(
        treadle.Linear(6, 5), treadle.ReLU(), treadle.Sequential(treadle.Linear(5, 4))
    )
    ours.load_state_dict(theirs.state_dict())
    x = samples.normal(0, 3, 6)
    np.testing.assert_allclose(ours(x), theirs(torch.from_numpy(x)).detach().numpy(), atol=1e-6)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})


def test_loading_reaches_the_modules():
    m, other = model(0), model(1)
    linear = m[5]
    m.load_state_dict(other.state_dict())
    assert m[5] is linear
    assert_same_bits(linear.weight, other[5].weight)
    assert_same_bits(m(X), other(X))
    linear.load_state_dict(model(2)[5].state_dict())
    assert_same_bits(m.state_dict()["5.weight"], linear.weight)
    before = m.state_dict()
    for wrong in ({"5.weight": linear.weight[:1]}, {"5.weight": None}, {"nosuch": linear.weight}):
        with pytest.raises(
            (TypeError, ValueError), match=r"^treadle\.Sequential\.load_state_dict: "
        ):
            m.load_state_dict(other.state_dict() | wrong)
        assert_same_bits(list(m.state_dict().values()), list(before.values()))
    result = m.load_state_dict({"0.bias": np.zeros(20, np.float32), "x": 1}, strict=False)
    assert result.unexpected_keys == ["x"]
    assert not m[0].bias.any()


WAYS = {
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "to": lambda m: m.to("float32"),
    "repr": lambda m: eval(repr(m), vars(treadle)),
}


@pytest.mark.parametrize("way", WAYS)
def test_copies_share_nothing(way):
    m = model()
    m.note = "mine"
    other = WAYS[way](m)
    assert repr(other) == repr(m)
    if way == "repr":
        other.load_state_dict(m.state_dict())
    elif way != "to":
        assert other.note == "mine"
    assert_same_bits(other(X), m(X))
    before = m(X)
    other.load_state_dict(model(1).state_dict())
    assert_same_bits(m(X), before)
    assert not np.array_equal(other(X), before)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_files(tmp_path, dtype):
    m = model().to(dtype)
    path = tmp_path / "model.safetensors"
    treadle.save(m, path)
    other = treadle.load(path)
    assert repr(other) == repr(m)
    assert_same_bits(other(X), m(X))


def test_without_parameters(tmp_path):
    path = tmp_path / "model.safetensors"
    for m in (
        treadle.Sequential(),
        treadle.Sequential(treadle.ReLU()),
        treadle.ReLU(),
        treadle.ELU(0.5),
    ):
        treadle.save(m, path)
        assert repr(treadle.load(path)) == repr(m)
        assert m.num_parameters == 0
    assert_same_bits(treadle.Sequential()([1.0]), np.ones(1, np.float32))
    assert_same_bits(treadle.Sequential(treadle.Identity())([1.0]), np.ones(1, np.float32))


def test_classes_of_users_are_called():
    class Twice(treadle.Linear):
        def __call__(self, x):
            return 2 * super().__call__(x)

    m = treadle.Sequential(Twice(6, 4, seed=0), treadle.ReLU())
    x = samples.normal(0, 3, 6)
    assert_same_bits(m(x), np.maximum(2 * treadle.Linear(6, 4, seed=0)(x), 0))
    assert type(copy.deepcopy(treadle.Sequential(treadle.ReLU()))[0]) is treadle.ReLU


def test_names_of_errors():
    m = model()
    with pytest.raises(ValueError, match=r"^treadle\.Sequential: 0: treadle\.Conv1d: x has shape"):
        m(X[:, :5])
    with pytest.raises(
        TypeError, match=r"^treadle\.Sequential: 0: treadle\.Conv1d: x has dtype float64"
    ):
        m(X.astype(np.float64))


WRONG = {
    "no module": (5,),
    "None": (None,),
    "a list": ([treadle.ReLU()],),
    "a class": (treadle.ReLU,),
    "a function": (np.tanh,),
    "of PyTorch": (torch.nn.ReLU(),),
    "attention": (treadle.MultiheadAttention(4, 2),),
    "dots": ({"a.b": treadle.ReLU()},),
    "no text": ({1: treadle.ReLU()},),
    "no name": ({"": treadle.ReLU()},),
    "dict with others": (treadle.ReLU(), {"a": treadle.ReLU()}),
}


@pytest.mark.parametrize("modules", WRONG.values(), ids=WRONG)
def test_wrong_modules(modules):
    with pytest.raises((TypeError, ValueError), match=r"^treadle\.Sequential: "):
        treadle.Sequential(*modules)


def nested(depth):
    m = treadle.Sequential(treadle.ReLU())
    for _ in range(depth - 1):
        m = treadle.Sequential(m)
    return m


def test_depth(tmp_path):
    path = tmp_path / "deep.safetensors"
    treadle.save(nested(32), path)
    assert repr(treadle.load(path)) == repr(nested(32))
    with pytest.raises(ValueError, match="at most 32 sequences within each other"):
        nested(33)


def hostile(configuration):
    return {"module": "Sequential", "configuration": configuration}


def deep(depth):
    value = [["0", "ReLU", {}]]
    for _ in range(depth):
        value = [["0", "Sequential", {"modules": value}]]
    return value


def linear(size):
    return [str(size), "Linear", {"in_features": size, "out_features": size}]


HOSTILE = {
    "no list": {"modules": 5},
    "text": {"modules": "abc"},
    "missing": {},
    "deep": {"modules": deep(33)},
    "very deep": {"modules": deep(200)},
    "many": {"modules": [[str(i), "ReLU", {}] for i in range(5000)]},
    "twice": {"modules": [["a", "ReLU", {}], ["a", "ReLU", {}]]},
    "unknown class": {"modules": [["a", "Popen", {}]]},
    "no class": {"modules": [["a", 5, {}]]},
    "wrong entry": {"modules": [["a", "Linear", {"in_features": -1, "out_features": 1}]]},
    "attention": {"modules": [["a", "MultiheadAttention", {"embed_dim": 4, "num_heads": 2}]]},
    "pair": {"modules": [["a", "ReLU"]]},
    "too large": {"modules": [linear(2**31 - 1), linear(2**31 - 1)]},
    "tensors that are not there": {"modules": [linear(3)]},
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files(tmp_path, case):
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(safetensors.serialize({}, "treadle/1", hostile(HOSTILE[case])))
    with pytest.raises(ValueError, match=r"^treadle\.load: "):
        treadle.load(path)
