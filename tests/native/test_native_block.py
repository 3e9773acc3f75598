"""treadle._core.TransformerBlock: a block with cross attention against float64 and PyTorch.

It has no public class; a decoder will be made of such blocks.
"""

import numpy as np
import pytest
import torch

import treadle
from reference import attention as reference
from support import samples
from support.native_checks import (
    F32,
    NO_ACTIVATIONS,
    NO_MATRICES,
    NO_NAMES,
    NO_VECTORS,
    misaligned,
    refused_by_name,
    right_weight,
    wrong_weights,
)
from support.tolerance import assert_same_bits, assert_sequence
from treadle._storage import formats

H, N, FORWARD = 24, 3, 40
GELU = ("gelu", 0.0, 0.0)
LENGTHS, MEMORY_LENGTHS = [9, 0, 1, 17], [4, 3, 21, 1]


def starts(lengths):
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def parameters(*, bias=True, seed=0, hidden=H, forward=FORWARD):
    """The state dict of a torch.nn.TransformerDecoderLayer with weights that matter."""
    shapes = {}
    for prefix in ("self_attn", "multihead_attn"):
        shapes[f"{prefix}.in_proj_weight"] = (3 * hidden, hidden)
        shapes[f"{prefix}.in_proj_bias"] = (3 * hidden,)
        shapes[f"{prefix}.out_proj.weight"] = (hidden, hidden)
        shapes[f"{prefix}.out_proj.bias"] = (hidden,)
    shapes |= {"linear1.weight": (forward, hidden), "linear1.bias": (forward,)}
    shapes |= {"linear2.weight": (hidden, forward), "linear2.bias": (hidden,)}
    for norm in ("norm1", "norm2", "norm3"):
        shapes |= {f"{norm}.weight": (hidden,), f"{norm}.bias": (hidden,)}
    result = {}
    for i, (name, shape) in enumerate(shapes.items()):
        if bias or not name.endswith("bias"):
            scale = F32(shape[-1] ** -0.5 if len(shape) == 2 else 0.3)
            one = F32(name.startswith("norm") and name.endswith("weight"))
            result[name] = samples.normal(seed + i, *shape) * scale + one
    return result


def block(weights, *, heads=N, activation=GELU, norm_first=False, eps=1e-5, dtype="float32"):
    return treadle._core.TransformerBlock(
        "f",
        weights,
        num_heads=heads,
        activation=activation,
        norm_first=norm_first,
        eps=eps,
        dtype=dtype,
    )


def run(native, x, memory, lengths, memory_lengths, **options):
    return native.run("f", x, starts(lengths), memory=(memory, starts(memory_lengths)), **options)


def rows(hidden=H, lengths=LENGTHS, memory_lengths=MEMORY_LENGTHS):
    return samples.normal(90, sum(lengths), hidden), samples.normal(91, sum(memory_lengths), hidden)


def parts(array, lengths):
    return np.split(array, np.cumsum(lengths)[:-1])


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("is_causal", [False, True])
def test_against_float64(isa, threads, norm_first, bias, is_causal):
    weights, (x, memory) = parameters(bias=bias), rows()
    native = block(weights, norm_first=norm_first)
    assert native.has_cross_attention
    y = run(native, x, memory, LENGTHS, MEMORY_LENGTHS, is_causal=is_causal)
    for own, of_x, of_memory in zip(
        parts(y, LENGTHS), parts(x, LENGTHS), parts(memory, MEMORY_LENGTHS), strict=True
    ):
        assert_sequence(
            own[None], reference.decoder_layer, weights, N, of_x[None], of_memory[None],
            act="gelu", norm_first=norm_first, is_causal=is_causal,
        )  # fmt: skip


@pytest.mark.parametrize("norm_first", [False, True])
def test_like_torch(norm_first):
    torch.manual_seed(0)
    theirs = torch.nn.TransformerDecoderLayer(
        H, N, FORWARD, activation="gelu", batch_first=True, norm_first=norm_first
    ).eval()
    weights = parameters()
    assert list(weights) == list(theirs.state_dict())
    theirs.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    lengths, memory_lengths = [7, 7, 7], [5, 2, 4]
    x, memory = samples.normal(0, 3, 7, H), samples.normal(1, 3, 5, H)
    there = np.arange(5) < np.array(memory_lengths)[:, None]
    y = run(
        block(weights, norm_first=norm_first),
        x.reshape(-1, H),
        memory[there],
        lengths,
        memory_lengths,
        is_causal=True,
    )
    with torch.no_grad():
        expected = theirs(
            torch.from_numpy(x),
            torch.from_numpy(memory),
            tgt_mask=torch.ones(7, 7, dtype=torch.bool).triu(1),
            memory_key_padding_mask=torch.from_numpy(~there),
        )
    np.testing.assert_allclose(y.reshape(3, 7, H), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_masks(isa, kind):
    weights = parameters()
    lengths, memory_lengths = [6, 6], [8, 8]
    x, memory = rows(lengths=lengths, memory_lengths=memory_lengths)
    mask, memory_mask = samples.normal(1, 2, N, 6, 6), samples.normal(2, 2, N, 6, 8)
    if kind == "bool":
        mask, memory_mask = mask < 1, memory_mask < 0
    y = run(block(weights), x, memory, lengths, memory_lengths, mask=mask, memory_mask=memory_mask)
    assert_sequence(
        y.reshape(2, 6, H), reference.decoder_layer, weights, N, x.reshape(2, 6, H),
        memory.reshape(2, 8, H), mask, memory_mask, act="gelu",
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_a_sequence_does_not_see_its_batch(isa, threads, dtype):
    weights = {
        name: formats.encode(value, dtype) if value.ndim == 2 else value
        for name, value in parameters(hidden=48, forward=96).items()
    }
    native = block(weights, dtype=dtype)
    lengths, memory_lengths = [40, 1, 0, 17, 130, 3], [9, 300, 2, 0, 64, 260]
    x, memory = rows(48, lengths, memory_lengths)
    y = run(native, x, memory, lengths, memory_lengths)
    each = zip(parts(x, lengths), parts(memory, memory_lengths), strict=True)
    alone = [run(native, a, b, [len(a)], [len(b)]) for a, b in each]
    assert_same_bits(parts(y, lengths), alone)
    turned = run(
        native,
        np.concatenate(parts(x, lengths)[::-1]),
        np.concatenate(parts(memory, memory_lengths)[::-1]),
        lengths[::-1],
        memory_lengths[::-1],
    )
    assert_same_bits(parts(turned, lengths[::-1])[::-1], alone)


@pytest.mark.parametrize(("dtype", "error"), [("bfloat16", 0.05), ("int8", 0.15)])
def test_low_precision_is_near(isa, dtype, error):
    weights, (x, memory) = parameters(), rows()
    low = {
        name: formats.encode(value, dtype) if value.ndim == 2 else value
        for name, value in weights.items()
    }
    near = run(block(low, dtype=dtype), x, memory, LENGTHS, MEMORY_LENGTHS)
    full = run(block(weights), x, memory, LENGTHS, MEMORY_LENGTHS)
    assert 0 < np.abs(near - full).max() < error


def test_without_cross_attention_it_is_an_encoder_layer(isa):
    layer = treadle.TransformerEncoderLayer(H, N, FORWARD, batch_first=True, seed=0)
    native = block(layer.state_dict(), activation=("relu", 0.0, 0.0))
    assert not native.has_cross_attention
    assert native.weight_bytes == layer._packed.native.weight_bytes
    x, _ = rows()
    y = native.run("f", x, starts(LENGTHS), is_causal=True)
    for own, of_x in zip(parts(y, LENGTHS), parts(x, LENGTHS), strict=True):
        assert_same_bits(own, layer(of_x, is_causal=True))


def test_nan_stays_in_its_sequence():
    native, (x, memory) = block(parameters()), rows()
    clean = run(native, x, memory, LENGTHS, MEMORY_LENGTHS)
    memory[5] = np.nan  # of the second sequence, which has no query
    assert_same_bits(run(native, x, memory, LENGTHS, MEMORY_LENGTHS), clean)
    memory[0] = np.nan
    y = run(native, x, memory, LENGTHS, MEMORY_LENGTHS)
    assert np.isnan(y[:9]).all()
    assert_same_bits(y[9:], clean[9:])


def test_nothing():
    native = block(parameters())
    none = np.zeros((0, H), F32)
    assert run(native, none, none, [], []).shape == (0, H)
    assert run(native, none, none, [0, 0], [0, 0]).shape == (0, H)


# H = 6 with two heads, F = 5; three rows in sequences of two and one, which see three and one.


def small():
    return parameters(hidden=6, forward=5)


RIGHT = {
    "function": "f", "weights": small(), "num_heads": 2, "activation": GELU, "norm_first": False,
    "eps": 1e-5, "dtype": "float32",
}  # fmt: skip


def test_constructor_refuses():
    sizes = [0, -1, 4, 2**31, 2**63, "2", None, 2.0]
    weights = [None, (), "w", {}, {"a": None}, small() | {"a": None}, small() | {5: None}]
    weights += [{k: v for k, v in small().items() if "multihead_attn.in_proj_weight" not in k}]
    refused_by_name(treadle._core.TransformerBlock, RIGHT, {
        "function": NO_NAMES,
        "weights": weights,
        "num_heads": sizes,
        "activation": [*NO_ACTIVATIONS, None],
        "norm_first": ["yes", np.ones(2)],
        "eps": [None, "0", [1.0]],
        "dtype": ["int4", "", None, 8, "bfloat16"],
    })  # fmt: skip


@pytest.mark.parametrize("name", small())
def test_constructor_refuses_weights(name):
    array = small()[name]
    wrong = [*(NO_MATRICES if array.ndim == 2 else NO_VECTORS)]
    wrong += [array[1:], array[::-1], array[None], np.repeat(array, 2, 0)[::2]]
    for value in wrong:
        with pytest.raises((TypeError, ValueError)):
            treadle._core.TransformerBlock(**RIGHT | {"weights": small() | {name: value}})


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_constructor_refuses_stored_weights(dtype):
    weights = {
        name: right_weight(dtype, *value.shape) if value.ndim == 2 else value
        for name, value in small().items()
    }
    right = RIGHT | {"weights": weights, "dtype": dtype}
    treadle._core.TransformerBlock(**right)
    for name, value in small().items():
        for wrong in wrong_weights(dtype, *value.shape) if value.ndim == 2 else []:
            with pytest.raises((TypeError, ValueError), match=r"^f: "):
                treadle._core.TransformerBlock(**right | {"weights": weights | {name: wrong}})


RUN = {
    "function": "f", "x": samples.normal(0, 3, 6), "offsets": np.array([0, 2, 3]),
    "memory": (samples.normal(1, 4, 6), np.array([0, 3, 4])), "mask": np.ones((2, 2, 2, 2), bool),
    "memory_mask": np.ones((2, 2, 2, 3), bool), "is_causal": False,
}  # fmt: skip
NO_OFFSETS = [None, "o", [0, 2, 3], np.array([0, 2, 2]), np.array([0, 5, 3]), np.array([3]),
              np.array([1, 2, 3]), np.array([0, -1, 3]), np.zeros(0, int), np.array([0.0, 3.0]),
              np.array([0, 2, 3], np.int32), np.array([0, 9, 2, 9, 3])[::2]]  # fmt: skip
NO_MASKS = ["m", np.ones((2, 2), bool), np.ones((2, 2, 4, 4), bool), misaligned(2, 2, 2, 2),
            np.ones((2, 2, 2, 2), np.uint8)]  # fmt: skip
WRONG = {
    "function": NO_NAMES,
    "x": [*NO_MATRICES, np.zeros((3, 5), F32), np.zeros((2, 6), F32), np.zeros((6, 6), F32)[::2]],
    "offsets": [*NO_OFFSETS, np.array([0, 1, 2, 3])],
    "memory": [
        None, "m", RUN["memory"][0], (), RUN["memory"][:1], (*RUN["memory"], None),
        *((wrong, RUN["memory"][1]) for wrong in [*NO_MATRICES, np.zeros((4, 5), F32)]),
        *((RUN["memory"][0], wrong) for wrong in NO_OFFSETS),
        (RUN["memory"][0], np.array([0, 4])), (RUN["memory"][0], np.array([0, 1, 2, 4])),
    ],
    "mask": NO_MASKS,
    "memory_mask": [*NO_MASKS, np.ones((2, 2, 2, 2), bool)],
    "is_causal": ["yes", np.ones(2)],
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_run_refuses(name):
    native = treadle._core.TransformerBlock(**RIGHT)
    refused_by_name(native.run, RUN, {name: WRONG[name]})


def test_memory_without_cross_attention_is_refused():
    layer = treadle.TransformerEncoderLayer(6, 2, 5, seed=0)
    native = block(layer.state_dict(), heads=2)
    right = {name: RUN[name] for name in ("function", "x", "offsets")}
    native.run(**right)
    for name in ("memory", "memory_mask"):
        with pytest.raises(ValueError, match="memory"):
            native.run(**right, **{name: RUN[name]})
