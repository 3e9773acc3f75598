"""The builder refuses descriptions that the reader of files could not know to be wrong.

Every layer that the reader lets through has a meaning, and no model that it lets through takes time
or memory beyond its size.
"""

from itertools import pairwise

import numpy as np
import pytest

from treadle.keras.activations import FUNCTIONS
from treadle.keras.building.activations import MEANINGS
from treadle.keras.building.model import KINDS
from treadle.keras.files import kinds
from treadle.keras.files.description import Call, Layer, ModelDescription, Reference
from treadle.keras.loading import model_of

LARGE = 2**31 - 1


def described(*layers, shape=(None, 7, 4), calls=None, dtype="float32"):
    """A chain of layers."""
    first = Layer("InputLayer", "x", {"dtype": dtype, "batch_shape": shape})
    names = ["x", *(layer.name for layer in layers)]
    made = [Call(name, 0, [Reference(before)]) for before, name in pairwise(names)]
    last = Reference(names[-1])
    return ModelDescription(
        "Functional", "model", (first, *layers), tuple(calls or made), (Reference("x"),), (last,),
        ("x",), (names[-1],), Reference("x"), last, (shape,), "3.15.1",
    )  # fmt: skip


def test_every_kind_has_a_meaning():
    missing = set(kinds.KINDS) - set(KINDS)
    assert missing == {"InputLayer", "TimeDistributed"}
    assert {f"ops.{name}" for name in kinds.OPERATIONS} <= set(KINDS)
    assert kinds.FUNCTIONS - set(MEANINGS) == {"sparsemax", "threshold"}
    assert set(FUNCTIONS) <= set(MEANINGS)


def test_models_that_call_models_often():
    """Sixteen levels of ten calls each would be written 10^16 times."""
    inner = described(Layer("Dropout", "drop"))
    for _ in range(16):
        layer = Layer("Functional", "inner", model=inner)
        calls = [Call("inner", 0, [Reference("x")])]
        calls += [Call("inner", i, [Reference("inner", i - 1)]) for i in range(1, 10)]
        inner = described(layer, calls=calls)
    with pytest.raises(ValueError, match="more than 131072 calls of layers"):
        model_of(inner, "treadle.keras.load: model.keras")


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        ([Layer("Flatten", "f", {"data_format": "channels_last"})], (None, LARGE, LARGE, LARGE),
         "layer 'f' .Flatten. (makes a tensor|has shape that)"),
        ([Layer("Reshape", "r", {"target_shape": (3, 5)})], (None, 7, 4), "which cannot be"),
        ([Layer("Permute", "p", {"dims": (1, 3)})], (None, 7, 4), "has dims"),
        ([Layer("Dot", "d", {"axes": (1, 1)})], (None, 7, 4), "a list of tensors"),
        ([Layer("Cropping1D", "c", {"cropping": (4, 4)})], (None, 7, 4), "takes nothing"),
        ([Layer("Concatenate", "c", {"axis": 5})], (None, 7, 4), "a list of tensors"),
        ([Layer("Softmax", "s", {"axis": (7,)})], (None, 7, 4), "has the axis 7"),
        ([Layer("Strange", "s")], (None, 7, 4), "is none that treadle has"),
        ([Layer("LSTM", "l", {"go_backwards": False})], (None, 4), r"no tensor \[B, T, I\]"),
        ([Layer("Dense", "d", {"use_bias": False})], (None, 4), "lacks the weight kernel"),
        ([Layer("MultiHeadAttention", "m", {})], (None, 7, 4), "without a query and a value"),
        ([Layer("Masking", "m")], (None, 7, 4), "lacks the option mask_value"),
        ([], None, "does not say the shape of the input"),
    ],
)  # fmt: skip
def test_what_does_not_fit(layers, shape, message):
    with pytest.raises(ValueError, match=message) as error:
        model_of(described(*layers, shape=shape), "treadle.keras.load: model.keras")
    assert str(error.value).startswith("treadle.keras.load: model.keras")


def test_weights_that_do_not_fit():
    kernel = np.zeros((3, 2), np.float32)
    options = {"use_bias": False, "activation": "linear"}
    dense = Layer("Dense", "d", options, weights={"kernel": kernel})
    with pytest.raises(ValueError, match=r"takes 3 features, and is called with .*\[batch, 7, 4\]"):
        model_of(described(dense), "treadle.keras.load: model.keras")


@pytest.mark.parametrize(
    "layer",
    [
        Layer("LayerNormalization", "n", {"axis": (1,), "epsilon": 1e-3, "rms_scaling": False}),
        Layer("RepeatVector", "n", {"n": LARGE}),
        Layer("ZeroPadding1D", "n", {"padding": (LARGE, LARGE)}),
        Layer("UpSampling1D", "n", {"size": LARGE}),
    ],
)
def test_large_sizes_take_no_memory(layer):
    """A model is made without its arrays; only a call needs them."""
    shape = (None, LARGE) if layer.kind in ("LayerNormalization", "RepeatVector") else (None, 7, 4)
    model_of(described(layer, shape=shape), "treadle.keras.load: model.keras")
