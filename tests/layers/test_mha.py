"""MultiheadAttention against its float64 definition and torch.nn.MultiheadAttention."""

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

B, S, K, H, N = 3, 5, 7, 12, 3


def make(hidden=H, heads=N, *, seed=0, **options):
    """A module with weights that matter, biases too, and PyTorch's with the same."""
    torch.manual_seed(seed)
    theirs = torch.nn.MultiheadAttention(hidden, heads, **options).eval()
    for parameter in theirs.parameters():
        torch.nn.init.uniform_(parameter, -0.7, 0.7)
    return treadle.from_torch(theirs), theirs


def inputs(layout, kdim=H, vdim=H, *, s=S, k=K, seed=0):
    """query, key and value for "SBH", "BSH" or "SH"."""
    shape = {"SBH": lambda n: (n, B), "BSH": lambda n: (B, n), "SH": lambda n: (n,)}[layout]
    sizes = ((s, H), (k, kdim), (k, vdim))
    return [samples.normal([seed, i], *shape(n), d) for i, (n, d) in enumerate(sizes)]


def theirs_on(module, arrays, **options):
    """PyTorch's result in NumPy; masks of different kinds together are deprecated there."""
    tensors = [torch.from_numpy(x) for x in arrays]
    options = {
        k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()
    }
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        y, weights = module(*tensors, **options)
    return y.numpy(), None if weights is None else weights.numpy()


def assert_like(ours, theirs):
    """PyTorch has NaN where every key is ruled out and weights are asked for."""
    if theirs is None:
        assert ours is None
        return
    assert ours.shape == theirs.shape
    known = ~np.isnan(theirs)
    assert not np.isnan(ours).any()
    np.testing.assert_allclose(ours[known], theirs[known], atol=2e-5)


PADDING = {
    "none": None,
    "right": np.arange(K) >= np.array([K, 2, 4])[:, None],
    "left": np.arange(K) < np.array([0, 2, 4])[:, None],
    "holes": np.random.default_rng(0).random((B, K)) > 0.6,
    "a whole row": np.array([[False], [True], [False]]) & np.ones((B, K), bool),
    "float": samples.normal(0, B, K),
}
PADDING["float of infinity"] = np.where(PADDING["right"], -np.inf, 0).astype(np.float32)
MASKS = {
    "none": None,
    "triangle": np.triu(np.ones((S, K), bool), 1),
    "bool": np.random.default_rng(1).random((S, K)) > 0.7,
    "float": samples.normal(1, S, K),
    "of each head": np.random.default_rng(2).random((B * N, S, K)) > 0.7,
    "float of each head": samples.normal(2, B * N, S, K),
}
OPTIONS = [
    {},
    {"bias": False},
    {"add_bias_kv": True},
    {"add_zero_attn": True},
    {"kdim": 5, "vdim": 9},
    {"kdim": 5},
    {"vdim": 20, "add_bias_kv": True, "add_zero_attn": True, "bias": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("layout", ["SBH", "BSH", "SH"])
def test_like_torch(layout, options):
    """Every argument of the constructor and of the call, in all combinations."""
    ours, theirs = make(batch_first=layout == "BSH", **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    arrays = inputs(layout, options.get("kdim", H), options.get("vdim", H))
    for padding, mask in itertools.product(PADDING.values(), MASKS.values()):
        if layout == "SH":
            padding = None if padding is None else padding[0]
            mask = mask[:N] if mask is not None and mask.ndim == 3 else mask
        for extra in (
            {"need_weights": False},
            {"average_attn_weights": True},
            {"average_attn_weights": False},
        ):
            call = {"key_padding_mask": padding, "attn_mask": mask, **extra}
            for a, b in zip(ours(*arrays, **call), theirs_on(theirs, arrays, **call), strict=True):
                assert_like(a, b)


def test_the_fast_path_of_torch():
    """Self-attention without gradients goes another way there; the results are the same."""
    ours, theirs = make(12, 4, batch_first=True)
    x = samples.normal(0, B, K, H)
    for padding in PADDING.values():
        if padding is not None and padding.dtype != bool:
            continue
        mask = None if padding is None else torch.from_numpy(padding)
        for need in (True, False):
            t = torch.from_numpy(x)
            with torch.no_grad():
                y, weights = theirs(t, t, t, key_padding_mask=mask, need_weights=need)
            result = ours(x, x, x, padding, need)
            for a, b in zip(result, (y, weights), strict=True):
                if b is not None:
                    assert_like(a, b.numpy())


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_against_float64(isa, threads, options):
    ours, _ = make(batch_first=True, **options)
    arrays = inputs("BSH", options.get("kdim", H), options.get("vdim", H))
    y, weights = ours(*arrays, average_attn_weights=False)
    assert_sequence(
        (y, weights), reference.multihead_attention, ours.state_dict(), N, *arrays,
        add_zero_attn=options.get("add_zero_attn", False),
    )  # fmt: skip
    assert_same_bits(ours(*arrays, need_weights=False)[0], y)


@pytest.mark.parametrize(
    ("hidden", "heads"), [(1, 1), (7, 7), (64, 1), (64, 2), (384, 12), (512, 2)]
)
def test_sizes(isa, hidden, heads):
    ours, _ = make(hidden, heads, batch_first=True)
    x = samples.normal(0, 2, 19, hidden) * np.float32(0.3)
    y = ours(x, x, x, average_attn_weights=False)
    assert_sequence(y, reference.multihead_attention, ours.state_dict(), heads, x, x, x)


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 3), (2, 3, 0), (0, 0, 0)])
@pytest.mark.parametrize("extra", [False, True])
def test_nothing(shape, extra):
    """No row, no query, no key: the bias of the projection where there is nothing to attend to."""
    b, s, k = shape
    ours, _ = make(batch_first=True, add_zero_attn=extra)
    query, key = samples.normal(0, b, s, H), samples.normal(1, b, k, H)
    y, weights = ours(query, key, key, np.zeros((b, k), bool), attn_mask=np.zeros((s, k), bool))
    assert y.shape == (b, s, H)
    assert weights.shape == (b, s, k + extra)
    if k == 0:
        np.testing.assert_allclose(y, np.broadcast_to(ours.state_dict()["out_proj.bias"], y.shape))


def test_is_causal():
    """Alone, as a promise beside the mask, and with keys that were appended."""
    triangle = np.triu(np.ones((K, K), bool), 1)
    for options in OPTIONS[:4]:
        ours, theirs = make(batch_first=True, **options)
        x = samples.normal(0, B, K, H)
        y, weights = ours(x, x, x, is_causal=True)
        expected = theirs_on(theirs, [x, x, x], attn_mask=triangle)
        assert_like(y, expected[0])
        assert_like(weights, expected[1])
        assert_same_bits(ours(x, x, x, attn_mask=triangle, is_causal=True), (y, weights))
        padding = PADDING["right"]
        both = ours(x, x, x, padding, is_causal=True)
        expected = theirs_on(theirs, [x, x, x], attn_mask=triangle, key_padding_mask=padding)
        assert_like(both[0], expected[0])


def test_layouts_of_the_batch():
    """The bits are the same with the batch first, second, and without a batch."""
    first, theirs = make(batch_first=True)
    theirs.batch_first = False
    second = treadle.from_torch(theirs)
    arrays = inputs("BSH")
    y, weights = first(*arrays)
    turned = [np.ascontiguousarray(x.swapaxes(0, 1)) for x in arrays]
    for views in (turned, [x.swapaxes(0, 1) for x in arrays]):
        other = second(*views)
        assert_same_bits(other, (np.ascontiguousarray(y.swapaxes(0, 1)), weights))
        assert other[0].flags.c_contiguous
    for row in range(B):
        assert_same_bits(first(*(x[row] for x in arrays)), (y[row], weights[row]))
    tensors = [torch.from_numpy(x).requires_grad_() for x in arrays]
    assert_same_bits(first(*tensors), (y, weights))
    spread = [np.asfortranarray(x) for x in arrays]
    assert_same_bits(first(*spread), (y, weights))


@pytest.mark.parametrize("length", [0, 1, 2, 4, 7])
def test_padding_changes_nothing(isa, threads, length):
    """A row has the same bits alone, cut, and padded in a batch; NaN in the padding is not seen."""
    ours, _ = make(batch_first=True)
    query, key, value = inputs("BSH")
    padding = np.arange(K) >= np.array([length, K, 3])[:, None]
    y, weights = ours(query, key, value, padding)
    alone = ours(query[:1], key[:1, :length], value[:1, :length])
    assert_same_bits(y[:1], alone[0])
    assert_same_bits(weights[:1, :, :length], alone[1])
    assert not weights[0, :, length:].any()
    key[padding] = np.nan
    value[padding] = np.nan
    assert_same_bits(ours(query, key, value, padding), (y, weights))


def test_threads_change_nothing(isa):
    ours, _ = make(64, 4, batch_first=True)
    x = samples.normal(0, 3, 90, 64)
    assert_threads_change_nothing(lambda: ours(x, x, x))


@st.composite
def configurations(draw):
    heads, size = draw(st.integers(1, 4)), draw(st.integers(1, 20))
    options = {
        name: draw(st.booleans())
        for name in ("bias", "add_bias_kv", "add_zero_attn", "batch_first")
    }
    options |= {name: draw(st.none() | st.integers(1, 20)) for name in ("kdim", "vdim")}
    options |= {"dropout": draw(st.sampled_from([0.0, 0.5])), "seed": draw(st.integers(0, 99))}
    return heads, size, options, [draw(st.integers(1, 20)) for _ in range(3)]


@settings(max_examples=60)
@given(configurations())
def test_any_configuration(case):
    heads, size, options, (b, s, k) = case
    hidden = heads * size
    ours, theirs = make(hidden, heads, **options)
    sizes = ((s, hidden), (k, options["kdim"] or hidden), (k, options["vdim"] or hidden))
    arrays = [
        samples.normal(i, *((b, n) if options["batch_first"] else (n, b)), d)
        for i, (n, d) in enumerate(sizes)
    ]
    for a, b in zip(ours(*arrays), theirs_on(theirs, arrays), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_keys_and_values_must_fit():
    ours, _ = make(batch_first=True)
    query, key, value = inputs("BSH")
    for wrong in (key[:2], key[..., 1:], key[0], key[None], key[:, :, :0]):
        with pytest.raises(ValueError, match=r"^treadle\.MultiheadAttention: (key|value) "):
            ours(query, wrong, value)
    with pytest.raises(ValueError, match=r"^treadle\.MultiheadAttention: value .*B, K, vdim"):
        ours(query, key, value[:, :3])
    with pytest.raises(
        ValueError, match=r"^treadle\.MultiheadAttention: query .*B, S, H\] with H = 12"
    ):
        ours(query[..., :5], key, value)
