"""TransformerEncoderLayer and TransformerEncoder against float64 and both of PyTorch's paths."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle
from reference import attention as reference
from support import samples
from support.attention_checks import assert_threads_change_nothing
from support.tolerance import assert_same_bits, assert_sequence

B, S, H, N, FORWARD = 3, 9, 16, 4, 24


def make(hidden=H, heads=N, forward=FORWARD, *, layers=2, norm=False, seed=0, **options):
    """An encoder with weights that matter, and PyTorch's with the same. One layer when layers=0."""
    torch.manual_seed(seed)
    options = {"batch_first": True, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the paths that PyTorch cannot take
        theirs = torch.nn.TransformerEncoderLayer(hidden, heads, forward, **options)
        if layers:
            after = torch.nn.LayerNorm(hidden) if norm else None
            theirs = torch.nn.TransformerEncoder(theirs, layers, after)
    for name, parameter in theirs.eval().named_parameters():
        low = 0.5 if "norm" in name and "weight" in name else -0.5
        torch.nn.init.uniform_(parameter, low, low + 1)
    return treadle.from_torch(theirs), theirs


def call_torch(module, x, mask=None, padding=None, *, fast=False, **options):
    """fast: inference mode, where PyTorch takes the fast path when it can."""
    tensors = [None if a is None else torch.from_numpy(a) for a in (x, mask, padding)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if fast:
            with torch.inference_mode():
                return module(*tensors, **options).numpy()
        return module(*tensors, **options).detach().numpy()


def lengths_mask(*lengths, time=S):
    return np.arange(time) >= np.array(lengths)[:, None]


PADDING = {
    "none": None,
    "right": lengths_mask(9, 2, 5),
    "shorter than the batch": lengths_mask(6, 2, 5),
    "left": ~lengths_mask(0, 4, 7),
    "holes": np.random.default_rng(0).random((B, S)) > 0.6,
    "a whole row": lengths_mask(9, 0, 5),
    "nothing is padding": np.zeros((B, S), bool),
    "float": samples.normal(0, B, S),
    "float of infinity": np.where(lengths_mask(9, 2, 5), -np.inf, 0).astype(np.float32),
    "float of both": np.where(
        lengths_mask(9, 2, 5), -np.inf, samples.normal(0, B, S)
    ).astype(np.float32),
}  # fmt: skip
MASKS = {
    "none": None,
    "triangle": np.triu(np.ones((S, S), bool), 1),
    "bool": np.random.default_rng(1).random((S, S)) > 0.8,
    "float": samples.normal(1, S, S),
    "of each head": np.random.default_rng(2).random((B * N, S, S)) > 0.8,
    "float of each head": samples.normal(2, B * N, S, S),
}
OPTIONS = [
    {},
    {"activation": "gelu"},
    {"norm_first": True},
    {"norm_first": True, "activation": "gelu", "norm": True},
    {"norm": True, "bias": False},
    {"batch_first": False, "norm_first": True, "bias": False},
    {"layers": 0},
    {"layers": 0, "batch_first": False, "activation": "gelu", "layer_norm_eps": 0.01},
]


def is_padding(padding):
    if padding is None:
        return np.zeros((B, S), bool)
    return padding if padding.dtype == bool else padding == -np.inf


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", PADDING)
def test_like_torchs_slow_path(name, options):
    """Where a token is no padding; padding is 0 with us, and without meaning there."""
    ours, theirs = make(**options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    first, padding = options.get("batch_first", True), PADDING[name]
    x = samples.normal(0, B, S, H)
    given = x if first else np.ascontiguousarray(x.swapaxes(0, 1))
    for mask in MASKS.values():
        y = ours(given, mask, padding)
        assert y.shape == given.shape
        assert y.flags.c_contiguous
        expected = call_torch(theirs, given, mask, padding)
        y, expected = (a if first else a.swapaxes(0, 1) for a in (y, expected))
        absent = is_padding(padding)
        assert not y[absent].any()
        assert not np.isnan(y).any()
        known = ~np.isnan(expected) & ~absent[..., None]  # NaN there: every key is ruled out
        if mask is None or mask.dtype != bool:
            assert known.any(axis=2).sum() == (~absent).sum()
        np.testing.assert_allclose(y[known], expected[known], atol=1e-4)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("name", [n for n in PADDING if not n.startswith("float")])
def test_like_torchs_fast_path(name, activation):
    """It cuts the result to the longest row; ours keeps its shape, with zeros. (It fails where the
    padding mask is of floats.)"""
    ours, theirs = make(activation=activation)
    x, padding = samples.normal(0, B, S, H), PADDING[name]
    y, expected = ours(x, None, padding), call_torch(theirs, x, None, padding, fast=True)
    time = expected.shape[1]
    here = ~is_padding(padding)[:, :time, None] & ~np.isnan(expected)
    np.testing.assert_allclose(
        np.where(here, y[:, :time], 0), np.where(here, expected, 0), atol=1e-4
    )
    assert not y[:, time:].any()
    np.testing.assert_allclose(
        ours(x, MASKS["triangle"]), call_torch(theirs, x, MASKS["triangle"], fast=True), atol=1e-4
    )


@pytest.mark.parametrize("options", OPTIONS[:5], ids=str)
def test_without_batch(options):
    ours, theirs = make(**options)
    x = samples.normal(0, S, H)
    for mask in (None, MASKS["triangle"], MASKS["of each head"][:N]):
        np.testing.assert_allclose(ours(x, mask), call_torch(theirs, x, mask), atol=1e-4)
    padding = lengths_mask(4)[0]
    y = ours(x, None, padding)
    assert_same_bits(y[:4], ours(x[:4]))
    assert not y[4:].any()


@pytest.mark.parametrize("options", OPTIONS[:5], ids=str)
def test_against_float64(isa, threads, options):
    ours, _ = make(**options)
    x, lengths = samples.normal(0, B, S, H), [9, 2, 5]
    own = {k: v for k, v in options.items() if k in ("norm_first",)}
    own["act"] = options.get("activation", "relu")
    parameters = ours.state_dict()
    assert_sequence(ours(x), reference.encoder, parameters, N, 2, x, **own)
    assert_sequence(
        ours(x, is_causal=True), reference.encoder, parameters, N, 2, x, is_causal=True, **own
    )
    padded = lambda *args, **kwargs: np.where(
        lengths_mask(*lengths)[..., None], kwargs["dtype"](0), reference.encoder(*args, **kwargs)
    )
    padded.__name__ = "padded"
    y = ours(x, src_key_padding_mask=lengths_mask(*lengths))
    assert_sequence(y, padded, parameters, N, 2, x, key_lengths=lengths, **own)


@pytest.mark.parametrize(
    ("hidden", "heads", "forward"),
    [(1, 1, 1), (7, 7, 3), (64, 1, 100), (384, 12, 1536), (512, 2, 64)],
)
def test_sizes(isa, hidden, heads, forward):
    ours, _ = make(hidden, heads, forward, layers=1)
    state = {
        k: v * np.float32(min(1, 4 / hidden**0.5)) if v.ndim == 2 else v
        for k, v in ours.state_dict().items()
    }
    ours.load_state_dict(state)
    x = samples.normal(0, 2, 19, hidden)
    assert_sequence(ours(x), reference.encoder, state, heads, 1, x)


@pytest.mark.parametrize("activation", ["tanh", "silu", "gelu_tanh", ("leaky_relu", 0.2), None])
def test_other_activations(isa, activation):
    layer = treadle.TransformerEncoderLayer(
        H, N, FORWARD, activation=activation, batch_first=True, seed=0
    )
    x = samples.normal(0, B, S, H)
    assert_sequence(layer(x), reference.encoder_layer, layer.state_dict(), N, x, act=activation)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_nothing(shape):
    ours, _ = make(norm=True)
    x = samples.normal(0, *shape, H)
    for padding in (None, np.zeros(shape, bool), np.ones(shape, bool)):
        for mask in (None, np.zeros((shape[1], shape[1]), bool)):
            assert ours(x, mask, padding).shape == x.shape
    ones = np.ones((2, 3), bool)
    assert not ours(samples.normal(0, 2, 3, H), np.zeros((3, 3), np.float32), ones).any()


# A sequence's result has the same bits whatever is around it.


@pytest.mark.parametrize(
    "options", [{}, {"norm_first": True, "norm": True, "activation": "gelu"}], ids=str
)
@pytest.mark.parametrize("mask", [None, "causal", "triangle", "float"])
def test_a_sequence_does_not_see_its_batch(isa, threads, mask, options):
    ours, _ = make(64, 4, 100, **options)
    lengths = [40, 1, 0, 17, 39]
    x = samples.normal(0, 5, 40, 64)
    padding = lengths_mask(*lengths, time=40)
    masks = {"triangle": np.triu(np.ones((40, 40), bool), 1), "float": samples.normal(1, 40, 40)}
    own, causal = masks.get(mask), mask == "causal"
    y = ours(x, own, padding, causal)
    for row, length in enumerate(lengths):
        cut = None if own is None else own[:length, :length]
        alone = ours(x[row : row + 1, :length], cut, is_causal=causal)
        assert_same_bits(y[row : row + 1, :length], alone)
    assert_same_bits(ours(x[::-1], own, padding[::-1], causal)[::-1], y)
    x[padding] = np.nan
    assert_same_bits(ours(x, own, padding, causal), y)


def test_padding_may_lie_anywhere(isa):
    """Tokens that exist see each other in their order, with the same bits as side by side."""
    ours, _ = make()
    x = samples.normal(0, B, S, H)
    for name, mask, causal in itertools.product(
        ("left", "holes"), (None, "bool", "float"), (False, True)
    ):
        padding = PADDING[name]
        scores = None if mask is None else MASKS[mask]
        y = ours(x, scores, padding, causal)
        for row in range(B):
            there = ~padding[row]
            own = None if scores is None else scores[there][:, there]
            alone = ours(x[row : row + 1, there], own, is_causal=causal)
            assert_same_bits(y[row : row + 1, there], alone)


def test_masks_of_each_head_follow_padding(isa):
    """With padding on the left, the rows and columns of the tokens are picked out."""
    ours, _ = make()
    x, padding = samples.normal(0, B, S, H), PADDING["holes"]
    masks = MASKS["float of each head"]
    y = ours(x, masks, padding)
    for row in range(B):
        there = ~padding[row]
        own = masks[row * N : (row + 1) * N][:, there][:, :, there]
        assert_same_bits(y[row, there], ours(x[row, there], own))


def test_layouts_of_the_batch():
    first, theirs = make()
    for layer in theirs.layers:
        layer.self_attn.batch_first = False
    second, x = treadle.from_torch(theirs), samples.normal(0, B, S, H)
    for padding in PADDING.values():
        y = first(x, None, padding)
        turned = np.ascontiguousarray(x.swapaxes(0, 1))
        for src in (turned, x.swapaxes(0, 1)):
            assert_same_bits(second(src, None, padding), np.ascontiguousarray(y.swapaxes(0, 1)))
        assert_same_bits(first(np.asfortranarray(x), None, padding), y)
        assert_same_bits(first(torch.from_numpy(x).requires_grad_(), None, padding), y)


def test_threads_change_nothing(isa):
    ours, _ = make(64, 4, 128)
    x, padding = samples.normal(0, 4, 70, 64), lengths_mask(70, 3, 0, 50, time=70)
    assert_threads_change_nothing(lambda: [ours(x), ours(x, None, padding, True)])


def test_special_values(isa):
    """NaN stays within its sequence."""
    ours, _ = make()
    x = samples.normal(0, B, S, H)
    clean = ours(x)
    x[1, 3, 5] = np.nan
    y = ours(x)
    assert np.isnan(y[1]).all()
    assert_same_bits(y[[0, 2]], clean[[0, 2]])


def test_an_encoder_begins_with_copies_of_its_layer():
    layer = treadle.TransformerEncoderLayer(H, N, FORWARD, batch_first=True, seed=0)
    norm = treadle.LayerNorm(H)
    norm.load_state_dict({"weight": samples.normal(0, H), "bias": samples.normal(1, H)})
    ours, x = treadle.TransformerEncoder(layer, 3, norm), samples.normal(0, B, S, H)
    assert_same_bits(ours(x), norm(layer(layer(layer(x)))))
    state = ours.state_dict()
    for i in range(3):
        for name, value in layer.state_dict().items():
            assert_same_bits(state[f"layers.{i}.{name}"], value)
    layer.load_state_dict({k: -v for k, v in layer.state_dict().items()})
    assert_same_bits(list(ours.state_dict().values()), list(state.values()))


@st.composite
def batches(draw):
    heads, size = draw(st.integers(1, 4)), draw(st.integers(1, 20))
    options = {
        "activation": draw(st.sampled_from(["relu", "gelu"])),
        "layers": draw(st.integers(0, 3)),
        "seed": draw(st.integers(0, 99)),
    }
    options |= {name: draw(st.booleans()) for name in ("norm_first", "bias", "batch_first")}
    b, s = draw(st.integers(1, 4)), draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    padding = draw(st.sampled_from([None, rng.random((b, s)) > rng.random((b, 1))]))
    mask = draw(st.sampled_from([None, rng.standard_normal((s, s), np.float32)]))
    return heads, size, draw(st.integers(1, 50)), options, b, s, padding, mask


@settings(max_examples=100)
@given(batches())
def test_any_configuration(case):
    heads, size, forward, options, b, s, padding, mask = case
    ours, theirs = make(heads * size, heads, forward, **options)
    x = samples.normal(0, b, s, heads * size)
    given = x if options["batch_first"] else x.swapaxes(0, 1)
    y, expected = (
        ours(given, mask, padding),
        call_torch(theirs, np.ascontiguousarray(given), mask, padding),
    )
    if not options["batch_first"]:
        y, expected = y.swapaxes(0, 1), expected.swapaxes(0, 1)
    here = np.ones((b, s), bool) if padding is None else ~padding
    size = np.abs(expected[here]).max(initial=1)
    np.testing.assert_allclose(y[here], expected[here], atol=1e-3 * size)
    assert not y[~here].any()
