"""Tests of the functions by which files, guests and the command line see a layer, and of the
declarations that its class has to make.
"""

from typing import Any, ClassVar

import numpy as np
import pytest

import treadle
from support.bits import layers as bits
from support.tolerance import assert_same_bits
from treadle.layers import build
from treadle.layers.configuration import Flag, Integer, Schema
from treadle.layers.elementwise import Elementwise
from treadle.layers.module import LAYERS, Module

LAYER = treadle.TransformerEncoderLayer(8, 2, 16, dtype="bfloat16", seed=0)
EVERY = [
    treadle.RNN(3, 4, seed=0),
    treadle.LSTM(3, 4, 2, bidirectional=True, proj_size=2, dtype="int8", seed=0),
    treadle.GRU(3, 4, dtype="bfloat16", seed=0),
    treadle.RNNCell(3, 4, seed=0),
    treadle.LSTMCell(3, 4, seed=0),
    treadle.GRUCell(3, 4, dtype="int8", seed=0),
    treadle.MultiheadAttention(8, 2, seed=0),
    treadle.LayerNorm((2, 3), seed=0),
    LAYER,
    treadle.TransformerEncoder(LAYER, 2, treadle.LayerNorm(8)),
    treadle.Linear(3, 4, dtype="int8", seed=0),
    treadle.Conv1d(3, 4, 2, padding="same", dtype="bfloat16", seed=0),
    treadle.Conv2d(3, 4, (2, 3), padding=1, dtype="int8", seed=0),
    treadle.Embedding(3, 4, 1, seed=0),
    treadle.BatchNorm1d(3, seed=0),
    treadle.BatchNorm2d(3, affine=False, seed=0),
    treadle.GroupNorm(3, 6, seed=0),
    treadle.InstanceNorm1d(3, affine=True, bias=False, seed=0),
    treadle.InstanceNorm2d(3, track_running_stats=True, seed=0),
    treadle.ConvTranspose1d(4, 6, 3, 2, groups=2, dtype="int8", seed=0),
    treadle.ConvTranspose2d(3, 4, (2, 3), padding=1, bias=False, dtype="bfloat16", seed=0),
    treadle.Sequential(treadle.Embedding(3, 4, seed=0), treadle.LSTM(4, 5, dtype="int8", seed=0)),
    treadle.Sequential(treadle.GroupNorm(1, 3), treadle.Conv2d(3, 4, 3, dtype="int8", seed=0)),
    treadle.Sequential(treadle.ConvTranspose2d(4, 6, 3, groups=2, dtype="int8", seed=0)),
    treadle.Seq2Seq(
        treadle.Sequential(treadle.Embedding(9, 4, seed=0), treadle.GRU(4, 5, batch_first=True)),
        treadle.Sequential(
            treadle.Embedding(7, 3, seed=0),
            treadle.LSTMCell(3 + 5, 6, dtype="int8", seed=0),
            treadle.Linear(6 + 5, 7, seed=0),
        ),
        "additive",
        attention_size=8,
        bridge=True,
        dtype={"attention_score": "bfloat16"},
        seed=0,
    ),
    *(
        getattr(treadle, name)(*arguments[0])
        for name, arguments in bits.LAYERS.items()
        if issubclass(getattr(treadle, name), Elementwise)
    ),
]
every = pytest.mark.parametrize("module", EVERY, ids=repr)
# Layers without products are float32 in every dtype.
NORMS = (
    *(treadle.LayerNorm, treadle.BatchNorm1d, treadle.BatchNorm2d, treadle.GroupNorm),
    *(treadle.InstanceNorm1d, treadle.InstanceNorm2d),
)
WITHOUT_PRODUCTS = (*NORMS, treadle.Embedding, Elementwise)


def test_every_class_is_here():
    """A public layer without a row in this file, or, if it has no parameters, in the cases of
    `support.bits`, fails here.
    """
    public = {
        value
        for value in vars(treadle).values()
        if isinstance(value, type) and issubclass(value, Module)
    }
    assert {type(module) for module in EVERY} == set(LAYERS.values()) == public


@every
def test_from_parts_to_a_layer_and_back(module):
    other = build.blueprint(type(module), build.configuration(module))
    assert repr(other) == repr(module)
    build.fill(other, build.parameters(module))
    assert_same_bits(list(other.state_dict().values()), list(module.state_dict().values()))
    assert other.dtype == module.dtype


@every
def test_a_layer_out_of_arrays(module):
    state = module.state_dict()
    other = build.build(type(module), build.configuration(module), state.__getitem__, "here")
    assert_same_bits(list(other.state_dict().values()), list(state.values()))
    if not state:
        return
    name = next(iter(state))
    wrong = {**state, name: state[name][:-1]}
    with pytest.raises(ValueError, match=rf"^here: {name} has shape "):
        build.build(type(module), build.configuration(module), wrong.__getitem__, "here")


@every
def test_a_blueprint_knows_what_there_will_be(module):
    plan = build.blueprint(type(module), build.configuration(module))
    parameters = build.parameters(module)
    assert build.shapes(plan) == {name: value.shape for name, value in parameters.items()}
    assert build.count(plan) == (len(parameters), module.num_parameters)
    assert list(build.layout(plan)) == list(parameters)
    assert set(build.arguments(type(plan))) >= set(build.configuration(plan))


@every
def test_another_dtype(module):
    plan = build.retyped(module, "int8")
    assert repr(plan) == repr(module.to("int8"))
    assert plan.dtype == ("float32" if isinstance(module, WITHOUT_PRODUCTS) else "int8")


@every
def test_native_objects(module):
    natives = build.natives(module)
    assert bool(natives) == (not isinstance(module, WITHOUT_PRODUCTS))
    assert all(native.weight_bytes > 0 for native in natives)


def test_a_class_declares_the_arguments_of_its_constructor():
    class Wrong(Module):
        _entries: ClassVar = {"size": Integer(), "flag": Flag()}

        def __init__(self, size: int, other: bool = True, seed: Any = None) -> None:
            self._initialize(locals())

    with pytest.raises(TypeError, match=r"Wrong: the entries are \['flag', 'size'\], expected"):
        Schema(Wrong)


def test_a_layer_in_one_place():
    """A class, its entries and what they make: nothing else needs to know of it."""

    class Scale(Module):
        _name, _function = "Scale", "treadle.Scale"
        _entries: ClassVar = {"size": Integer(), "negative": Flag(sparse=True)}

        def __init__(self, size: int, negative: bool = False, seed: Any = None) -> None:
            self._initialize(locals())

        _dtype = "float32"

        def _shapes(self):
            return {"factor": (self.size,)}

        def _initial(self, name, shape):
            return 2.0, 0.0

        def _pack(self, parameters):
            return None

    Scale._schema = Schema(Scale)
    plain, other = Scale(3), Scale(3, negative=True)
    assert (repr(plain), repr(other)) == ("Scale(3)", "Scale(3, negative=True)")
    # An entry that came later is recorded only where it is used: files of before stay as they are.
    assert build.configuration(plain) == {"size": 3}
    assert build.configuration(other) == {"size": 3, "negative": True}
    assert plain.negative is False
    np.testing.assert_array_equal(plain.factor, [2, 2, 2])
    assert build.blueprint(Scale, {"size": 3}).negative is False
