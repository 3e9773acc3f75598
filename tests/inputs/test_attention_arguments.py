"""Wrong arguments of attention and its modules raise an error that names function and argument."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle
from support import samples
from support.entries import WRONG_DTYPES
from support.ids import shown
from support.objects import OBJECTS

F32 = np.float32
B, N, S, K, E, H = 2, 4, 3, 5, 8, 16

HEADS = {"query": (B, N, S, E), "key": (B, N, K, E), "value": (B, N, K, E)}
TOKENS = {"query": (B, S, H), "key": (B, K, H), "value": (B, K, H)}
MHA = treadle.MultiheadAttention(H, N, batch_first=True, seed=0)
LAYER = treadle.TransformerEncoderLayer(H, N, 32, batch_first=True, seed=0)
ENCODER = treadle.TransformerEncoder(LAYER, 2, norm=treadle.LayerNorm(H))


def cache():
    result = treadle.KVCache(B, N, E, 8)
    zeros = np.zeros((B, N, S, E), F32)
    result.append(zeros, zeros)
    return result


# Entry point -> (function, shapes of the float arrays, optional masks, lengths).
ENTRIES = {
    "treadle.functional.scaled_dot_product_attention": (
        treadle.functional.scaled_dot_product_attention,
        HEADS,
        {"attn_mask": (S, K), "alibi_slopes": (N,)},
        {"lengths": B},
    ),
    "treadle.MultiheadAttention": (
        MHA,
        TOKENS,
        {"attn_mask": (S, K), "key_padding_mask": (B, K)},
        {},
    ),
    "treadle.TransformerEncoderLayer": (
        LAYER,
        {"src": (B, S, H)},
        {"src_mask": (S, S), "src_key_padding_mask": (B, S)},
        {},
    ),
    "treadle.TransformerEncoder": (
        ENCODER,
        {"src": (B, S, H)},
        {"mask": (S, S), "src_key_padding_mask": (B, S)},
        {},
    ),
    "treadle.LayerNorm": (treadle.LayerNorm(H), {"x": (B, H)}, {}, {}),
    "treadle.KVCache.append": (
        lambda **a: cache().append(**a),
        {"k": (B, N, S, E), "v": (B, N, S, E)},
        {},
        {"lengths": B},
    ),
    "treadle.KVCache.attend": (
        lambda **a: cache().attend(**a),
        {"q": (B, N, S, E)},
        {"alibi_slopes": (N,)},
        {"lengths": B},
    ),
    "treadle.KVCache.step": (
        lambda **a: cache().step(**a),
        dict.fromkeys("qkv", (B, N, S, E)),
        {"alibi_slopes": (N,)},
        {"lengths": B},
    ),
    "treadle.functional.layer_norm": (
        lambda **a: treadle.functional.layer_norm(normalized_shape=H, **a),
        {"x": (B, H)},
        {"weight": (H,), "bias": (H,), "residual": (B, H)},
        {},
    ),
    "treadle.functional.softmax": (treadle.functional.softmax, {"x": (B, H)}, {}, {}),
    "treadle.functional.gelu": (treadle.functional.gelu, {"x": (B, H)}, {}, {}),
    "treadle.functional.silu": (treadle.functional.silu, {"x": (B, H)}, {}, {}),
    "treadle.functional.relu": (treadle.functional.relu, {"x": (B, H)}, {}, {}),
    "treadle.functional.elu": (treadle.functional.elu, {"x": (B, H)}, {}, {}),
    "treadle.functional.hard_tanh": (treadle.functional.hard_tanh, {"x": (B, H)}, {}, {}),
    "treadle.functional.log_softmax": (treadle.functional.log_softmax, {"x": (B, H)}, {}, {}),
    "treadle.Linear": (treadle.Linear(H, 3), {"x": (B, H)}, {}, {}),
    "treadle.Conv1d": (treadle.Conv1d(3, 4, 2), {"x": (B, 3, 9)}, {}, {}),
    "treadle.Tanh": (treadle.Tanh(), {"x": (B, H)}, {}, {}),
    "treadle.Flatten": (treadle.Flatten(), {"x": (B, H)}, {}, {}),
    "treadle.Sequential": (treadle.Sequential(treadle.Linear(H, 3)), {"x": (B, H)}, {}, {}),
    "treadle.functional.conv1d": (
        treadle.functional.conv1d,
        {"x": (B, 3, 9), "weight": (4, 3, 2)},
        {"bias": (4,)},
        {},
    ),
    "treadle.functional.max_pool1d": (
        lambda **a: treadle.functional.max_pool1d(kernel_size=2, **a), {"x": (B, 3, 9)}, {}, {},
    ),
    "treadle.functional.avg_pool2d": (
        lambda **a: treadle.functional.avg_pool2d(kernel_size=2, **a), {"x": (B, 3, 4, 5)}, {}, {},
    ),
    "treadle.functional.adaptive_avg_pool2d": (
        lambda **a: treadle.functional.adaptive_avg_pool2d(output_size=1, **a),
        {"x": (B, 3, 4, 5)}, {}, {},
    ),
    "treadle.functional.group_norm": (
        lambda **a: treadle.functional.group_norm(num_groups=1, **a),
        {"x": (B, 3, 9)}, {"weight": (3,), "bias": (3,)}, {},
    ),
    "treadle.functional.batch_norm": (
        treadle.functional.batch_norm,
        {"x": (B, 3, 9), "running_mean": (3,), "running_var": (3,)},
        {"weight": (3,), "bias": (3,)}, {},
    ),
    "treadle.functional.interpolate": (
        lambda **a: treadle.functional.interpolate(size=4, **a), {"x": (B, 3, 9)}, {}, {},
    ),
    "treadle.functional.pad": (
        lambda **a: treadle.functional.pad(pad=(1, 2), **a), {"x": (B, 9)}, {}, {},
    ),
    "treadle.MaxPool2d": (treadle.MaxPool2d(2), {"x": (B, 3, 4, 5)}, {}, {}),
    "treadle.GroupNorm": (treadle.GroupNorm(1, 3), {"x": (B, 3, 4, 5)}, {}, {}),
    "treadle.BatchNorm2d": (treadle.BatchNorm2d(3), {"x": (B, 3, 4, 5)}, {}, {}),
    "treadle.InstanceNorm2d": (treadle.InstanceNorm2d(3), {"x": (B, 3, 4, 5)}, {}, {}),
    "treadle.ConvTranspose1d": (treadle.ConvTranspose1d(3, 4, 2), {"x": (B, 3, 9)}, {}, {}),
    "treadle.AdaptiveMaxPool1d": (treadle.AdaptiveMaxPool1d(2), {"x": (B, 3, 9)}, {}, {}),
    "treadle.Upsample": (treadle.Upsample(4), {"x": (B, 3, 9)}, {}, {}),
    "treadle.ZeroPad2d": (treadle.ZeroPad2d(1), {"x": (B, 3, 4, 5)}, {}, {}),
}  # fmt: skip
every_entry = pytest.mark.parametrize("name", ENTRIES)


def arguments(name):
    """Return valid arguments: the arrays, and those that may be left out."""
    _, arrays, optional, lengths = ENTRIES[name]
    result = {k: samples.normal(0, *shape) for k, shape in (arrays | optional).items()}
    return result | {k: np.ones(rows, np.int64) for k, rows in lengths.items()}


def refused(name, changes):
    function = ENTRIES[name][0]
    with pytest.raises((ValueError, TypeError)) as caught:
        function(**(arguments(name) | changes))
    message = str(caught.value)
    assert message.startswith(f"{name}: "), message
    culprits = "|".join(changes)
    assert re.search(rf"\b({culprits})\b", message), f"no {culprits} in: {message}"
    assert len(message) < 600


@every_entry
def test_the_right_ones(name):
    ENTRIES[name][0](**arguments(name))


@every_entry
def test_wrong_dtypes(name):
    """Nothing is cast silently: not in an array, a mask, or lengths."""
    for culprit, value in arguments(name).items():
        for dtype in WRONG_DTYPES:
            kind = np.dtype(dtype).kind
            if (kind == "b" and culprit.endswith("mask")) or (
                kind in "iu" and culprit == "lengths"
            ):
                continue
            refused(name, {culprit: np.zeros(value.shape, dtype)})


@pytest.mark.parametrize("value", OBJECTS.values(), ids=OBJECTS)
@every_entry
def test_wrong_objects(name, value):
    for culprit in arguments(name):
        refused(name, {culprit: value})


@every_entry
def test_none_where_an_array_is_needed(name):
    for culprit in ENTRIES[name][1]:
        refused(name, {culprit: None})


@st.composite
def wrong_shapes(draw):
    """Draw an entry, the name of one of its arrays, and a shape that is likely to be wrong."""
    name = draw(st.sampled_from(list(ENTRIES)))
    _, arrays, optional, _ = ENTRIES[name]
    culprit = draw(st.sampled_from([*arrays, *optional]))
    shape = list((arrays | optional)[culprit])
    if draw(st.booleans()):
        axis = draw(st.integers(0, len(shape) - 1))
        shape[axis] = max(0, shape[axis] + draw(st.sampled_from([-2, -1, 1, 2, 1000])))
    else:
        shape = [draw(st.integers(0, 3)) for _ in range(draw(st.integers(0, 6)))]
    return name, culprit, tuple(shape)


@settings(max_examples=500)
@given(wrong_shapes())
def test_wrong_shapes(case):
    """The function raises its own ValueError or returns a result, and never does anything else."""
    name, culprit, shape = case
    changed = arguments(name) | {culprit: np.ones(shape, F32)}
    try:
        ENTRIES[name][0](**changed)
    except ValueError as error:
        message = str(error)
    else:
        return
    assert message.startswith(f"{name}: ")


@pytest.mark.parametrize("value", [0, 1, None, "yes", 1.0, np.ones(2)], ids=repr)
def test_wrong_flags(value):
    for name, flags in (
        ("treadle.functional.scaled_dot_product_attention", ["is_causal", "enable_gqa"]),
        ("treadle.MultiheadAttention", ["need_weights", "average_attn_weights", "is_causal"]),
        ("treadle.TransformerEncoderLayer", ["is_causal"]),
    ):
        for flag in flags:
            refused(name, {flag: value})
    if value is not None:
        refused("treadle.TransformerEncoder", {"is_causal": value})


ATTEND = "treadle.functional.scaled_dot_product_attention"
NO_NUMBERS = [math.nan, math.inf, -math.inf, "1", True, [1.0], object(), 10**400, 1e39, np.ones(2)]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=shown)
def test_wrong_numbers(value):
    for name in (ATTEND, "treadle.KVCache.attend", "treadle.KVCache.step"):
        refused(name, {"scale": value})
        refused(name, {"softcap": value})
    with pytest.raises((ValueError, TypeError), match=r"^treadle\.functional\.layer_norm: eps "):
        treadle.functional.layer_norm(np.ones((2, 3), F32), 3, eps=value)


@pytest.mark.parametrize("softcap", [0, -1.0, 0.0, 1e-39, 1e-50])
def test_wrong_softcaps(softcap):
    """A softcap that is zero in float32 is refused, too, since it would mean that there is none."""
    refused(ATTEND, {"softcap": softcap})


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan, "0.5", None, True, [0.5]], ids=str)
def test_wrong_dropout(p):
    refused(ATTEND, {"dropout_p": p})


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "1", True], ids=str)
def test_wrong_seeds(seed):
    """Wrong seeds are refused with dropout and without it."""
    refused(ATTEND, {"seed": seed})
    refused(ATTEND, {"seed": seed, "dropout_p": 0.5})


@pytest.mark.parametrize(
    "window",
    [-1, (-1, 0), (0, -1), 1.0, (1.5, 2), "12", (1, 2, 3), (1,), (), {}, 2**41, 2**70, True],
    ids=repr,
)  # fmt: skip
def test_wrong_windows(window):
    refused(ATTEND, {"window": window})
    refused("treadle.KVCache.step", {"window": window})


@pytest.mark.parametrize("dim", [-3, 2, 1.0, None, "0", True, 2**70])
def test_wrong_axes(dim):
    refused("treadle.functional.softmax", {"dim": dim})


WRONG_LENGTHS = [
    [0, 6], [-1, 3], [3], [3, 3, 3], [[3, 3]], [3.0, 3.0], 3, [True, False], ([1, 1], [0, 6]),
    ([4, 1], None), (None, [6, 6]), ([1, 1], [1, 1], [1, 1]), ([1, 1],), ("a", None),
]  # fmt: skip


@pytest.mark.parametrize("lengths", WRONG_LENGTHS, ids=repr)
def test_wrong_lengths(lengths):
    refused(ATTEND, {"lengths": lengths})


def test_causal_with_a_mask():
    """A call has is_causal or a mask, not both, as in PyTorch."""
    refused(ATTEND, {"attn_mask": np.ones((S, K), bool), "is_causal": True})


def test_heads_that_do_not_fit():
    for n, shared in ((4, 3), (4, 2), (3, 4), (0, 2), (2, 0)):
        with pytest.raises(ValueError, match=rf"^{ATTEND}: (query|key) "):
            treadle.functional.scaled_dot_product_attention(
                np.zeros((1, n, 2, 4), F32), *np.zeros((2, 1, shared, 2, 4), F32)
            )
    with pytest.raises(ValueError, match=rf"^{ATTEND}: query has 4 heads"):
        treadle.functional.scaled_dot_product_attention(
            np.zeros((1, 4, 2, 4), F32), *np.zeros((2, 1, 3, 2, 4), F32), enable_gqa=True
        )


@pytest.mark.parametrize("e", [0, 257, 1000])
def test_head_sizes_beyond_the_registers(e):
    q = np.zeros((1, 1, 2, e), F32)
    with pytest.raises(ValueError, match=rf"^{ATTEND}: .*\bE\b"):
        treadle.functional.scaled_dot_product_attention(q, q, np.zeros((1, 1, 2, 4), F32))
    with pytest.raises(ValueError, match=rf"^{ATTEND}: .*\bF\b"):
        treadle.functional.scaled_dot_product_attention(*np.zeros((2, 1, 1, 2, 4), F32), q)


def test_wrong_out():
    right = np.zeros((B, N, S, E), F32)
    frozen = right.copy()
    frozen.flags.writeable = False
    repeated = np.lib.stride_tricks.as_strided(right, right.shape, (0, 0, 0, 4))
    wrong = [right.tolist(), right.astype(np.float64), right[1:], right[..., 1:], frozen, repeated]
    wrong += [right[..., ::-1], np.asfortranarray(right), right.view(">f4"), "out"]
    wrong += [np.zeros((B, N, S + 1, E), F32), np.zeros((B, N, S, 2 * E), F32)[..., ::2]]
    for out in wrong:
        refused(ATTEND, {"out": out, "attn_mask": None})
    given = arguments(ATTEND)
    given.pop("attn_mask")
    for name in HEADS:
        own = {**given, **{n: given[n][:, :, :S].copy() for n in ("key", "value")}}
        with pytest.raises(ValueError, match=rf"^{ATTEND}: out .*\b{name}\b"):
            ENTRIES[ATTEND][0](**own, out=own[name])


@pytest.mark.parametrize("shape", [(2, 3, K, E), (2, K, E), (2, 3, 1, K, E)], ids=str)
def test_keys_with_more_or_fewer_axes(shape):
    """Keys with more or fewer axes are refused even if their first axes are those of q."""
    q, k, v = (np.zeros(s, F32) for s in ((2, K, S, E), shape, (2, K, 7, E)))
    with pytest.raises(ValueError, match=rf"^{ATTEND}: "):
        treadle.functional.scaled_dot_product_attention(q, k, v)
    with pytest.raises(ValueError, match=rf"^{ATTEND}: "):
        treadle.functional.scaled_dot_product_attention(q, v, k)


@pytest.mark.parametrize("shape", [(0, 4, 3, 8), (2, 0, 3, 8), (2, 4, 0, 8)], ids=str)
def test_out_without_elements(shape):
    q, out = np.zeros(shape, F32), np.empty(shape, F32)
    assert treadle.functional.scaled_dot_product_attention(q, q, q, out=out) is out


def test_sizes_that_no_machine_has():
    """An error is raised at once, and nothing is allocated before."""
    one = np.zeros((1, 1, 1, 1), F32)
    for shape in ((2**40, 1, 1, 1), (2**30, 2**30, 1, 1), (1, 1, 2**50, 1), (2**58, 1, 1, 1)):
        q = np.broadcast_to(one, shape)
        with pytest.raises((MemoryError, ValueError)):
            treadle.functional.scaled_dot_product_attention(q, q, q)
    x = np.broadcast_to(one[0], (2**58, 1, 1))
    with pytest.raises((MemoryError, ValueError)):
        treadle.MultiheadAttention(1, 1)(x, x, x)
    with pytest.raises((MemoryError, ValueError)):
        treadle.TransformerEncoderLayer(1, 1, 1)(x)


# Constructors.

CLASSES = {
    "treadle.MultiheadAttention": (treadle.MultiheadAttention, {"embed_dim": 8, "num_heads": 2}),
    "treadle.TransformerEncoderLayer": (
        treadle.TransformerEncoderLayer,
        {"d_model": 8, "nhead": 2},
    ),
    "treadle.LayerNorm": (treadle.LayerNorm, {"normalized_shape": 8}),
    "treadle.KVCache": (treadle.KVCache, {"batch_size": 2, "num_heads": 2, "head_size": 8}),
}
NO_SIZES = [0, -1, 2**31, 2**70, 1.0, "3", True, 3j, math.nan, object()]


@pytest.mark.parametrize("value", NO_SIZES, ids=shown)
@pytest.mark.parametrize("name", CLASSES)
def test_wrong_sizes(name, value):
    cls, right = CLASSES[name]
    sizes = [*right]
    sizes += {"treadle.TransformerEncoderLayer": ["dim_feedforward"],
              "treadle.KVCache": ["capacity", "value_size"],
              "treadle.MultiheadAttention": ["kdim", "vdim"]}.get(name, [])  # fmt: skip
    for size in sizes:
        with pytest.raises((ValueError, TypeError), match=rf"^{name}: {size} "):
            cls(**right | {size: value})


@pytest.mark.parametrize("name", ["treadle.MultiheadAttention", "treadle.TransformerEncoderLayer"])
def test_wrong_options(name):
    cls, right = CLASSES[name]
    flags = {"treadle.MultiheadAttention": ["bias", "add_bias_kv", "add_zero_attn", "batch_first"],
             "treadle.TransformerEncoderLayer": ["bias", "norm_first", "batch_first"],
             }[name]  # fmt: skip
    for flag in flags:
        for value in (0, None, "yes"):
            with pytest.raises(TypeError, match=rf"^{name}: {flag} "):
                cls(**right | {flag: value})
    for dropout in (-0.1, 1.1, math.nan, "0", None, True):
        with pytest.raises((ValueError, TypeError), match=rf"^{name}: dropout "):
            cls(**right | {"dropout": dropout})
    with pytest.raises(ValueError, match=rf"^{name}: \w+ is 9, expected a multiple"):
        cls(9, 2)
    with pytest.raises(ValueError, match=rf"^{name}: \w+ is 257 "):
        cls(257, 1)
    with pytest.raises((ValueError, MemoryError)):
        cls(2**31 - 128, 2**23)
    with pytest.raises(ValueError, match=rf"^{name}: dtype "):
        cls(8, 2, dtype="float64")
    with pytest.raises((ValueError, TypeError), match=rf"^{name}: seed "):
        cls(8, 2, seed=-1)


def test_wrong_layers():
    name = r"^treadle\.TransformerEncoder: "
    for layer in (None, 5, treadle.LSTM(3, 4), treadle.TransformerEncoderLayer, {"d_model": 8}):
        with pytest.raises(TypeError, match=name + "encoder_layer "):
            treadle.TransformerEncoder(layer, 2)
    one = treadle.TransformerEncoderLayer(8, 2, 16)
    for layers in (0, -1, 2**20, 1.0, None):
        with pytest.raises((ValueError, TypeError), match=name + "num_layers "):
            treadle.TransformerEncoder(one, layers)
    for norm in (5, treadle.LSTM(3, 4), True, {}):
        with pytest.raises(TypeError, match=name + "norm "):
            treadle.TransformerEncoder(one, 2, norm)
    for norm in (treadle.LayerNorm(7), treadle.LayerNorm((1, 8))):
        with pytest.raises(ValueError, match=name + "norm "):
            treadle.TransformerEncoder(one, 2, norm)
    for eps in (-1e-5, math.nan, "0", None):
        with pytest.raises((ValueError, TypeError), match=r"layer_norm_eps "):
            treadle.TransformerEncoderLayer(8, 2, layer_norm_eps=eps)
    for activation in ("nosuch", 5, np.tanh):
        with pytest.raises((ValueError, TypeError), match=r"activation "):
            treadle.TransformerEncoderLayer(8, 2, activation=activation)
