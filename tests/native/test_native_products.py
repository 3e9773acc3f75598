"""treadle._core's products, and functions of whole rows: as safe as what is built upon them."""

import numpy as np
import pytest

import treadle
from support import samples
from support.native_checks import (
    F32,
    NO_ACTIVATIONS,
    NO_MATRICES,
    NO_NAMES,
    NO_VECTORS,
    native_encoder,
    refused,
    right_weight,
    wrong_weights,
)


def test_native_linear():
    """x [3, 5], weight [4, 5], bias [4], residual [3, 4]."""
    x, weight, bias = samples.normal(0, 3, 5), samples.normal(1, 4, 5), samples.normal(2, 4)
    other = [weight[:, 1:], weight.T, weight[:, ::-1], weight[::-1]]
    refused(treadle._core.Linear, ["f", weight, bias], {
        0: NO_NAMES,
        1: [*NO_MATRICES, *other[:-1], np.broadcast_to(weight[:1], (4, 5)), np.zeros((5, 5), F32)],
        2: [*NO_VECTORS, bias[1:], np.zeros(8, F32)[::2], np.broadcast_to(bias[:1], 4)],
    })  # fmt: skip
    wrong_x = [*NO_MATRICES, x[:, 1:], x.T, x[:, ::-1]]
    refused(
        treadle._core.linear, [x, weight, bias], {0: wrong_x, 1: other, 2: [*NO_VECTORS, bias[1:]]}
    )
    linear = treadle._core.Linear("f", weight, None)
    residual = samples.normal(3, 3, 4)
    refused(linear.run, ["f", x, ("elu", 1.0, 0.0), residual], {
        0: NO_NAMES,
        1: wrong_x,
        2: NO_ACTIVATIONS,
        3: [*NO_MATRICES[1:], residual[1:], residual[:, 1:], np.asfortranarray(residual)],
    })  # fmt: skip
    huge = np.broadcast_to(x[:1], (2**58, 5))  # its product fits in no address space
    with pytest.raises((ValueError, MemoryError)):
        linear.run("f", huge, None, None)


@pytest.mark.parametrize("kind", ["Conv", "Depthwise", "ConvTranspose"])
def test_native_convolutions(kind):
    """x [3, C, 4, 5], weight [6, 2 * 3 C/g] of two groups, bias [6]; C is 2 or 4."""
    channels = 2 if kind == "Depthwise" else 4
    columns = 6 * channels // 2
    x, bias = samples.normal(0, 3, channels, 4, 5), samples.normal(2, 6)
    weight = samples.normal(1, 6, columns)
    names = ("taps", "stride", "dilation", "before", "after")
    vertical = dict(zip(names, (2, 1, 1, 1, 0), strict=True))
    horizontal = dict(zip(names, (3, 2, 1, 0, 1), strict=True))
    sizes = {"inputs": channels, "outputs": 6, "groups": 2}
    shape = sizes | {"vertical": vertical, "horizontal": horizontal}
    wrong = [None, 5, {}, [4, 6], shape | {"more": 1}, shape | {5: 1}]
    wrong += [{k: v for k, v in shape.items() if k != name} for name in shape]
    wrong += [shape | {"groups": 4}, shape | {"groups": 3}, shape | {"inputs": 2**31 - 2}]
    for name in sizes:
        wrong += [shape | {name: value} for value in (-1, 2**62, 2**64, "1", None, 1.5)]
    wrong += [shape | {name: 0} for name in ("inputs", "groups")]
    for name in names:
        bad = [-(2**40), 2**62, 2**64, "1", None, 1.5]
        bad += [0] if name in names[:3] else []
        wrong += [shape | {"vertical": vertical | {name: value}} for value in bad]
    wrong += [shape | {"horizontal": value} for value in (None, 5, {}, horizontal | {"more": 1})]
    make, last = getattr(treadle._core, kind), ["float32"] * (kind != "Depthwise")
    refused(make, ["f", shape, weight, bias, *last], {
        0: NO_NAMES,
        1: wrong,
        2: [*NO_MATRICES, weight[:, 1:], weight.T[:5], weight[::-1]],
        3: [*NO_VECTORS, bias[1:], np.broadcast_to(bias[:1], 6)],
        **({4: ["int4", "bfloat16", "int8", None, 5]} if last else {}),
    })  # fmt: skip
    conv = make("f", shape, weight, None)
    y = conv.run("f", x)
    if kind == "ConvTranspose":
        bad = [-(2**40), 2**62, 2**64, "1", None, 1.5]
        refused(conv.with_after, ["f", 0, 1], {0: NO_NAMES, 1: bad, 2: bad})
        np.testing.assert_array_equal(conv.with_after("f", 0, 1).run("f", x), y)
        np.testing.assert_array_equal(conv.with_after("f", 2, 3).run("f", x), y[:, :, :-2, :-2])
        assert conv.with_after("f", -3, 1).run("f", x).shape == (3, 6, y.shape[2] + 3, y.shape[3])
        with pytest.raises(ValueError, match=r"^f: x has shape"):
            conv.with_after("f", 9, 1).run("f", x)
    wrong_x = [*NO_MATRICES, x[0], x[:, 1:], x[..., ::-1], x.astype(np.float64), x[None]]
    refused(conv.run, ["f", x, ("elu", 1.0, 0.0), False], {
        0: NO_NAMES,
        1: [*wrong_x, *([] if kind == "ConvTranspose" else [x[..., :1]])],
        2: NO_ACTIVATIONS,
        3: [True, "yes"],  # x has no channels last
    })  # fmt: skip
    last_x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(
        conv.run("f", last_x, channels_last=True), y.transpose(0, 2, 3, 1)
    )
    assert conv.run("f", x[:0]).shape == (0, *y.shape[1:])
    np.testing.assert_array_equal(
        conv.run("f", x[::2, :, ::-1]), conv.run("f", x[::2, :, ::-1].copy())
    )
    wide = np.broadcast_to(x[:1, :, :, :1], (1, channels, 4, 2**50))  # a stride of zero
    for huge in (np.broadcast_to(x[:1], (2**50, channels, 4, 5)), wide):
        with pytest.raises((ValueError, MemoryError)):
            conv.run("f", huge)
    nothing = make("f", shape | {"outputs": 0}, np.zeros((0, columns), F32), None)
    assert nothing.run("f", x).shape == (3, 0, *y.shape[2:])


def test_native_rows():
    """layer_norm and softmax: x and residual [3, 5], weight and bias [5]."""
    x, vector = samples.normal(0, 3, 5), samples.normal(1, 5)
    wrong_vectors = [*NO_VECTORS, vector[1:], np.broadcast_to(vector[:1], 5)]
    wrong_x = [*NO_MATRICES, x[:, ::-1], np.asfortranarray(x)]
    refused(treadle._core.layer_norm, ["f", x, vector, vector, 1e-5, x], {
        0: NO_NAMES,
        1: [*wrong_x, x[1:]],
        2: wrong_vectors,
        3: wrong_vectors,
        4: [None, "0", x, [1.0]],
        5: [*NO_MATRICES[1:], x[1:], x[:, 1:], x[::-1], np.asfortranarray(x)],
    })  # fmt: skip
    refused(treadle._core.softmax, ["f", x], {0: NO_NAMES, 1: wrong_x})


def test_native_turn():
    """x [3, 5] into out [5, 3]."""
    x, out = samples.normal(0, 3, 5), np.zeros((5, 3), F32)
    frozen = out.copy()
    frozen.flags.writeable = False
    refused(treadle._core.turn, ["f", x, out], {
        0: NO_NAMES,
        1: [*NO_MATRICES, x[:, ::-1], np.asfortranarray(x)],
        2: [*NO_MATRICES, out[1:], out[:, 1:], out[::-1], np.zeros((3, 5), F32), frozen,
            np.asfortranarray(out), np.zeros((5, 4), F32)[:, :3]],
    })  # fmt: skip


@pytest.mark.parametrize(
    "shape", [(0, 3), (3, 0), (1, 1), (7, 19), (16, 64), (129, 66), (300, 257)]
)
def test_matrices_are_turned(isa, threads, shape):
    """Around the tiles and the squares of the kernel, also of rows that lie apart."""
    wide = samples.normal(0, shape[0], shape[1] + 5)
    for x in (
        wide[:, 2 : 2 + shape[1]],
        wide[::-1, : shape[1]],
        np.ascontiguousarray(wide[:, : shape[1]]),
    ):
        out = np.full(shape[::-1], np.nan, F32)
        treadle._core.turn("f", x, out)
        np.testing.assert_array_equal(out, x.T)


def test_native_embedding_sum():
    tables = [samples.normal(0, 5, 4), samples.normal(1, 3, 4)]
    ids = [np.array([0, 4]), np.array([2, 0])]
    no_ids = [
        0,
        "i",
        [0, 1],
        None,
        np.zeros((2, 1), int),
        np.array([0.0, 1.0]),
        np.zeros(2, np.int32),
    ]
    no_ids += [np.array([0, 3]), np.array([-1, 0]), np.array([0, 2**62]), np.array([-(2**63), 0])]
    no_ids += [np.zeros(3, int), np.zeros(4, int)[::2], np.zeros(2, ">i8"), np.zeros(2, np.uint64)]
    refused(treadle._core.embedding_sum, ["f", tables, ids], {
        0: NO_NAMES,
        1: [None, 5, "ab", [], tables[:1], [*tables, tables[0]], [tables[0], tables[1][:, 1:]],
            *([tables[0], wrong] for wrong in [*NO_MATRICES, tables[1][:, ::-1]])],
        2: [None, 5, "01", [], ids[:1], [*ids, ids[0]], *([ids[0], wrong] for wrong in no_ids)],
    })  # fmt: skip


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_native_weights(dtype):
    """Every matrix of every native object, in the form of its dtype. Errors name it."""
    right = ["f", right_weight(dtype, 4, 300), np.zeros(4, F32), dtype]
    wrong = {1: wrong_weights(dtype, 4, 300), 3: ["int4", "", None, 8, "float32"]}
    refused(treadle._core.Linear, right, wrong)
    # It takes any size, which makes wrong ones of bfloat16 right.
    wrong = {0: NO_NAMES, 1: NO_NAMES, 3: wrong[3]} | ({2: wrong[1]} if dtype == "int8" else {})
    refused(treadle._core.check_weight, ["f", "w", right[1], dtype], wrong)
    with pytest.raises((TypeError, ValueError), match=r"^f: weight"):
        treadle._core.Linear("f", np.zeros((4, 300)), None, dtype)
    tanh, sigmoid = ("tanh", 0.0, 0.0), ("sigmoid", 0.0, 0.0)
    shapes = {"weight_ih": (28, 5), "weight_hh": (28, 2), "weight_hr": (2, 7)}
    build = lambda weights: treadle._core.RecurrentStack(
        "f", [weights], mode="lstm", input_size=5, hidden_size=7, proj_size=2, dtype=dtype,
        activations={"f": sigmoid, "g": tanh, "h": tanh},
    )  # fmt: skip
    right = {name: right_weight(dtype, *shape) for name, shape in shapes.items()}
    build(right)
    for name, shape in shapes.items():
        for value in wrong_weights(dtype, *shape):
            with pytest.raises((TypeError, ValueError), match=r"^f: weight_"):
                build(right | {name: value})
    shapes = {
        "self_attn.in_proj_weight": (18, 6),
        "self_attn.out_proj.weight": (6, 6),
        "linear1.weight": (5, 6),
        "linear2.weight": (6, 5),
    }
    layer = {name: right_weight(dtype, *shape) for name, shape in shapes.items()}
    encoder = native_encoder(dtype=dtype)
    encoder.add_layer(layer)
    for name, shape in shapes.items():
        for value in wrong_weights(dtype, *shape):
            with pytest.raises((TypeError, ValueError)):
                encoder.add_layer(layer | {name: value})
