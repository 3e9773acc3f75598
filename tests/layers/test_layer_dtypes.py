"""A dtype for each layer of a recurrent net and each module of a sequence, and which to choose."""

import copy
import pickle

import numpy as np
import pytest

import treadle
from support import samples
from support.checks import MODULES
from support.tolerance import assert_same_bits

NAMES = ["bfloat16", "int8", "float32"]
X = samples.normal(0, 9, 3, 6)


def net(mode, **options):
    return MODULES[mode](6, 20, num_layers=3, seed=0, **options)


def raw_power(layers=3, hidden=256):
    """A net like a speaker encoder, whose first layer sees raw mel power: channels of 1 to 1/1000,
    which its weights make up for, and an input of that range.
    """
    module = treadle.LSTM(40, hidden, num_layers=layers, seed=0)
    scale = 10.0 ** np.linspace(0, -3, 40)
    state = module.state_dict()
    state = {k: v if k.endswith("ih_l0") else 2 * v for k, v in state.items()}
    state["weight_ih_l0"] = (2 * state["weight_ih_l0"] / scale).astype(np.float32)
    module.load_state_dict(state)
    numbers = samples.normal(0, 40, 2, 40)
    return module, (numbers**2 * scale).astype(np.float32)


# -- results --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("mode", samples.MODES)
def test_each_layer_computes_in_its_dtype(isa, threads, mode, bidirectional):
    """The net is its layers one after the other, each a net of its own in one dtype."""
    module = net(mode, bidirectional=bidirectional).to(NAMES)
    y = X
    for i, dtype in enumerate(NAMES):
        one = MODULES[mode](y.shape[2], 20, bidirectional=bidirectional, dtype=dtype)
        state = net(mode, bidirectional=bidirectional).state_dict()
        one.load_state_dict(
            {k.replace(f"_l{i}", "_l0"): v for k, v in state.items() if f"_l{i}" in k}
        )
        y, _ = one(y)
    assert_same_bits(module(X)[0], y)
    assert_same_bits(module(X[:, 1:2])[0], np.ascontiguousarray(y[:, 1:2]))


@pytest.mark.parametrize("mode", samples.MODES)
def test_streams(isa, mode):
    module = net(mode, dtype=NAMES)
    y, final = module(X)
    stream = module.stream(3)
    parts = [stream.run(X[:4]), stream.step(X[4])[None], stream.run(X[5:])]
    assert_same_bits(np.concatenate(parts), y)
    assert_same_bits(stream.state, final)
    other = module.stream(3)
    other.import_state(stream.export_state())
    with pytest.raises(ValueError, match="another configuration"):
        net(mode, dtype="int8").stream(3).import_state(stream.export_state())


@pytest.mark.parametrize("dtype", ["float32", *NAMES[:2]])
def test_one_dtype_by_any_form_is_one_dtype(dtype):
    plain = net("gru", dtype=dtype)
    each = {f"layer{i}": dtype for i in range(3)}
    for form in ([dtype] * 3, (dtype,) * 3, {"default": dtype}, each):
        other = net("gru", dtype=form)
        assert repr(other) == repr(plain)
        assert other.dtype == dtype
        assert_same_bits(other(X), plain(X))
        assert other.stream(3).export_state() == plain.stream(3).export_state()


# -- choices --------------------------------------------------------------------------------------

CHOICES = [
    ({"default": "int8", "layer0": "bfloat16"}, ("bfloat16", "int8", "int8")),
    ({"layer2": "int8"}, ("float32", "float32", "int8")),
    (["float32", "bfloat16", np.float32], ("float32", "bfloat16", "float32")),
    ({}, "float32"),
]


@pytest.mark.parametrize(("choice", "expected"), CHOICES, ids=str)
def test_choices(tmp_path, choice, expected):
    """The constructor and `to` round the same weights to the same; copies and files keep them."""
    made, module = net("lstm", dtype=choice), net("lstm").to(choice)
    assert made.dtype == module.dtype == expected
    path = tmp_path / "net.safetensors"
    treadle.save(module, path)
    for other in (
        made, treadle.load(path), copy.deepcopy(module), copy.copy(module),
        pickle.loads(pickle.dumps(module)), eval(repr(module)[:-1] + ", seed=0)", vars(treadle)),
    ):  # fmt: skip
        assert repr(other) == repr(module)
        assert_same_bits(other(X), module(X))
        assert_same_bits(list(other.state_dict().values()), list(module.state_dict().values()))


def test_keep():
    module = net("lstm", dtype=["bfloat16", "float32", "float32"])
    assert module.to("int8", keep=["layer0", "layer2"]).dtype == ("bfloat16", "int8", "float32")
    assert module.to("int8", keep="layer1").dtype == ("int8", "float32", "int8")
    assert module.to({"layer1": "int8"}).dtype == ("bfloat16", "int8", "float32")
    assert module.to("int8", keep=[]).dtype == "int8"
    with pytest.raises(TypeError, match="dtypes by name are the first argument"):
        module.to("int8", keep={"layer0": "bfloat16"})
    # Rounded bits do not come back.
    again = module.to("float32")
    assert_same_bits(again.weight_hh_l0, module.weight_hh_l0)
    assert_same_bits(again.weight_hh_l1, net("lstm").weight_hh_l1)


def test_loading_rounds_for_each_layer():
    state = net("gru").state_dict()
    module = net("gru", dtype=NAMES)
    module.load_state_dict(state)
    for i, dtype in enumerate(NAMES):
        name = f"weight_ih_l{i}"
        assert_same_bits(getattr(module, name), getattr(net("gru").to(dtype), name))
        assert_same_bits(getattr(module, f"bias_ih_l{i}"), state[f"bias_ih_l{i}"])


def test_modules_of_a_sequence(tmp_path):
    m = treadle.Sequential(
        treadle.Linear(6, 6, seed=0), net("lstm"), treadle.Tanh(),
        treadle.Sequential({"out": treadle.Linear(20, 4, seed=0)}),
    )  # fmt: skip
    low = m.to({"default": "int8", "1": {"layer0": "bfloat16"}, "3": {"out": "float32"}})
    assert low.dtype == {"0": "int8", "1": ("bfloat16", "float32", "float32"), "3": "float32"}
    assert m.to("int8", keep="0").dtype == {"0": "float32", "1": "int8", "3": "int8"}
    assert low.to({"0": "float32"})[1].dtype == low[1].dtype
    assert low.to({"0": "float32"})[3].out is not low[3].out
    assert m.to(["bfloat16"] * 4).dtype == "bfloat16"
    path = tmp_path / "m.safetensors"
    treadle.save(low, path)
    assert_same_bits(treadle.load(path)(X), low(X))
    assert m.dtype == "float32"
    with pytest.raises(ValueError, match=r"^treadle\.Sequential\.to: 3: dtype has the name 'x'"):
        m.to({"3": {"x": "int8"}})


# -- what to choose -------------------------------------------------------------------------------


def test_a_layer_that_sees_raw_power():
    """A speaker encoder over mel power: all of int8's loss is the first layer's, and that layer in
    bfloat16 takes it away.
    """
    module, x = raw_power()
    found = module.sensitivity(x)
    assert found.together.cosine < 0.97
    assert list(found.alone) == ["layer0", "layer1", "layer2"]
    assert found.alone["layer0"].cosine < 0.97
    assert min(found.alone["layer1"].cosine, found.alone["layer2"].cosine) > 0.9995
    assert found.dtype == {"default": "int8", "layer0": "bfloat16"}
    assert found.recommended.cosine >= 0.999
    exact, low = module(x)[0], module.to(found.dtype)(x)[0]
    lengths = np.linalg.norm(exact, axis=-1) * np.linalg.norm(low, axis=-1)
    cosines = (exact * low).sum(-1) / lengths
    np.testing.assert_allclose(cosines.min(), found.recommended.cosine, 1e-6)
    assert module.to("int8", keep="layer0").dtype == ("float32", "int8", "int8")
    assert "layer0" in str(found)


def test_a_net_that_needs_nothing():
    module = net("gru")
    found = module.sensitivity(X, lengths=[9, 0, 4])
    assert found.dtype == "int8"
    assert found.recommended == found.together
    assert found.together.cosine > 0.999
    assert 0 < found.together.error < 0.05
    alone = module.sensitivity(X, "bfloat16").together
    assert alone.cosine > found.together.cosine


def test_what_no_dtype_reaches():
    """A bound of 1 keeps all layers in float32, since any rounding is below it."""
    found = net("gru").sensitivity(X, least=1)
    assert found.dtype == {"default": "int8", **{f"layer{i}": "float32" for i in range(3)}}
    assert found.recommended.cosine == pytest.approx(1, abs=1e-12)


def test_sensitivity_of_a_sequence():
    module, x = raw_power(1, 64)
    m = treadle.Sequential(module, treadle.Linear(64, 8, seed=0), treadle.Tanh())
    found = m.sensitivity(x)
    assert found.dtype["0"] in ("bfloat16", "float32")
    assert set(found.dtype) == {"default", "0"}
    assert found.alone["2"] == (1.0, 0.0) or found.alone["2"].error == 0


# -- what is refused ------------------------------------------------------------------------------

WRONG = [
    ("int4", "dtype is 'int4'"),
    (["int8"], "dtype has 1 items, expected 3"),
    (["int8", "int8", "int4"], r"dtype\[2\] is 'int4'"),
    ([["int8"], "int8", "int8"], "dtype is"),
    ({"layer3": "int8"}, "dtype has the name 'layer3'"),
    ({0: "int8"}, "dtype has the name 0"),
    ({"layer0": None}, r"dtype\['layer0'\] is None"),
    ({"default": ["int8"]}, r"dtype\['default'\] is"),
    ((), "dtype has 0 items"),
    (None, "dtype is None"),
]


@pytest.mark.parametrize(("choice", "message"), WRONG, ids=str)
def test_wrong_choices(choice, message):
    with pytest.raises(ValueError, match=rf"^treadle\.LSTM: {message}"):
        net("lstm", dtype=choice)
    with pytest.raises(ValueError, match=rf"^treadle\.LSTM\.to: {message}"):
        net("lstm").to(choice)


@pytest.mark.parametrize("keep", ["layer3", ["layer0", "x"], 5, None, [0], b"layer0"], ids=str)
def test_wrong_names_to_keep(keep):
    with pytest.raises((TypeError, ValueError), match=r"^treadle\.LSTM\.to: keep "):
        net("lstm").to("int8", keep=keep)


def test_other_layers_have_one_dtype():
    with pytest.raises(ValueError, match=r"^treadle\.LSTMCell: dtype is "):
        treadle.LSTMCell(3, 4, dtype=["int8"])
    with pytest.raises(ValueError, match=r"^treadle\.Linear\.to: dtype is "):
        treadle.Linear(3, 4).to({"default": "int8"})


@pytest.mark.parametrize(
    ("argument", "value"),
    [("dtype", "int4"), ("dtype", ["int8"] * 3), ("least", 2), ("least", None)],
)
def test_wrong_arguments_of_sensitivity(argument, value):
    with pytest.raises((TypeError, ValueError), match=rf"^treadle\.LSTM\.sensitivity: {argument} "):
        net("lstm").sensitivity(X, **{argument: value})
