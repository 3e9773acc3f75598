"""Attention's backward pass: every option, against autograd, finite differences and bits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle
from reference import attention as reference
from support import samples
from support.attention_checks import (
    assert_attention,
    assert_gradients,
    assert_threads_change_nothing,
)
from support.tolerance import assert_same_bits

F = treadle.functional
forward = F.scaled_dot_product_attention_forward
backward = F.scaled_dot_product_attention_backward
NAMES = ("query", "key", "value")


def arrays(B, N, Nk, S, K, E, Fv, seed=0):
    """q, k, v and the gradient of y."""
    shapes = (B, N, S, E), (B, Nk, K, E), (B, Nk, K, Fv), (B, N, S, Fv)
    return [samples.normal([seed, i], *shape) for i, shape in enumerate(shapes)]


def check(q, k, v, dy, mask=None, *, lengths=None, **options):
    ours = dict(options)
    if lengths is not None:
        ours["lengths"] = lengths
        options |= dict(zip(("query_lengths", "key_lengths"), lengths, strict=True))
    if "dropout_p" in ours:
        ours["seed"] = 2**63 + 5
        p = options.pop("dropout_p")
        options["keep"] = reference.dropout(p, ours["seed"], *q.shape[:3], k.shape[2])
    y, saved = forward(q, k, v, mask, enable_gqa=q.shape[1] != k.shape[1], **ours)
    assert_attention(y, q, k, v, mask, **options)
    assert saved.nbytes == 4 * y.size // y.shape[-1]
    gradients = backward(saved, dy)
    assert_gradients(gradients, q, k, v, dy, mask, **options)
    return gradients


def masks(B, N, S, K):
    seen = samples.normal([1], B, N, S, K) > -0.25
    added = samples.normal([2], S, K)
    return {"bool": seen, "keys": seen[:, :1, :1], "float": added,
            "float-inf": np.where(seen[0, 0], added, np.float32(-np.inf))}  # fmt: skip


OPTIONS = {
    "plain": {},
    "causal": {"is_causal": True},
    "scale": {"scale": 0.3},
    "scale-negative": {"scale": -0.2},
    "scale-zero": {"scale": 0.0},
    "window": {"window": (5, 3)},
    "window-causal": {"window": (70, None), "is_causal": True},
    "softcap": {"softcap": 1.5},
    "alibi": {"alibi_slopes": True},
    "alibi-softcap-causal": {"alibi_slopes": True, "softcap": 3.0, "is_causal": True},
    "lengths": {"lengths": True},
    "lengths-window": {"lengths": True, "window": (9, 9)},
    "bool": {"mask": "bool"},
    "keys": {"mask": "keys"},
    "float": {"mask": "float"},
    "float-inf-softcap": {"mask": "float-inf", "softcap": 2.0},
    "dropout": {"dropout_p": 0.3},
    "dropout-causal-softcap": {"dropout_p": 0.9, "is_causal": True, "softcap": 2.0},
}


@pytest.mark.parametrize(
    ("N", "Nk", "S", "K"), [(2, 2, 7, 9), (4, 2, 100, 130), (3, 1, 1, 40), (1, 1, 300, 3)]
)
@pytest.mark.parametrize("case", OPTIONS)
def test_every_option(isa, case, N, Nk, S, K):
    B, options = 2, dict(OPTIONS[case])
    if "mask" in options:
        full = masks(B, N, S, K)[options.pop("mask")]
        options["mask"] = np.broadcast_to(full, (*full.shape[:-2], S, K))
    if options.get("alibi_slopes"):
        options["alibi_slopes"] = np.abs(samples.normal([3], N)) / 8
    if options.get("lengths"):
        options["lengths"] = ([S // 2, S], [K, K // 3])
    check(*arrays(B, N, Nk, S, K, 16, 24), **options)


@pytest.mark.parametrize("E", [1, 15, 16, 32, 64, 65, 80, 128, 130, 256])
@pytest.mark.parametrize("Fv", [1, 16, 64, 100, 256])
def test_head_sizes(isa, E, Fv):
    check(*arrays(1, 2, 2, 33, 70, E, Fv), is_causal=True)


@pytest.mark.parametrize("K", [1, 63, 64, 65, 255, 256, 257, 513, 700])
@pytest.mark.parametrize("S", [1, 2, 5, 95, 96, 97, 193])
def test_lengths_of_sequences(S, K):
    check(*arrays(1, 2, 1, S, K, 32, 16))


def test_layouts():
    """Views of [B, S, N, E], and gradients in the same memory."""
    q, k, v, dy = arrays(2, 3, 3, 20, 30, 16, 8)
    turned = [np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2) for x in (q, k, v, dy)]
    results = [backward(forward(*x[:3])[1], x[3]) for x in ((q, k, v, dy), turned)]
    assert_same_bits(list(results[0].values()), list(results[1].values()))
    assert results[1]["query"].swapaxes(1, 2).flags.c_contiguous


@pytest.mark.parametrize(
    ("shapes", "gqa"),
    [
        (((5, 8), (7, 8), (7, 6)), False),
        (((3, 5, 8), (3, 7, 8), (3, 7, 6)), False),
        (((3, 5, 8), (7, 8), (7, 6)), False),
        (((5, 8), (3, 7, 8), (1, 7, 6)), False),
        (((2, 1, 5, 8), (2, 3, 7, 8), (1, 3, 7, 6)), False),
        (((2, 4, 5, 8), (2, 2, 7, 8), (2, 1, 7, 6)), True),
        (((2, 1, 4, 5, 8), (3, 2, 7, 8), (2, 3, 2, 7, 6)), True),
    ],
    ids=str,
)
def test_broadcasting(shapes, gqa):
    """An array that serves several times gets the sum of its gradients: as PyTorch's."""
    q, k, v = (samples.normal([i], *shape) for i, shape in enumerate(shapes))
    y, saved = forward(q, k, v, enable_gqa=gqa)
    dy = samples.normal([9], *y.shape)
    gradients = backward(saved, dy)
    tensors = [torch.from_numpy(x).double().requires_grad_() for x in (q, k, v)]
    full = list(tensors)
    if gqa:  # PyTorch's own does not broadcast here
        heads = q.shape[-3]
        full[1:] = [x.repeat_interleave(heads // x.shape[-3], dim=-3) for x in tensors[1:]]
    theirs = torch.nn.functional.scaled_dot_product_attention(*full)
    theirs.backward(torch.from_numpy(dy).double())
    for name, tensor in zip(NAMES, tensors, strict=True):
        assert gradients[name].shape == tensor.shape
        np.testing.assert_allclose(gradients[name], tensor.grad.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_formulas_against_finite_differences(causal, softcap):
    q, k, v, dy = (x.astype(np.float64) for x in arrays(1, 2, 1, 4, 5, 3, 2))
    options = {"is_causal": causal, "softcap": softcap}
    gradients = reference.attention_gradients(q, k, v, dy, **options)
    for array, gradient in zip((q, k, v), gradients, strict=True):
        for index in np.ndindex(array.shape):
            before, losses = array[index], []
            for step in (1e-5, -1e-5):
                array[index] = before + step
                losses.append((reference.attention(q, k, v, **options) * dy).sum())
            array[index] = before
            assert gradient[index] == pytest.approx((losses[0] - losses[1]) / 2e-5, abs=1e-8)


@pytest.mark.parametrize("causal", [False, True])
def test_formulas_against_autograd(causal):
    q, k, v, dy = arrays(2, 4, 4, 30, 30, 8, 8)
    tensors = [torch.from_numpy(x).double().requires_grad_() for x in (q, k, v)]
    y = torch.nn.functional.scaled_dot_product_attention(*tensors, is_causal=causal)
    y.backward(torch.from_numpy(dy).double())
    for ours, theirs in zip(
        reference.attention_gradients(q, k, v, dy, is_causal=causal), tensors, strict=True
    ):
        np.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=1e-12, atol=1e-13)


def test_philox():
    """Known answers of the authors' Random123 1.14.0 (tests/kat_vectors), of 7 and of 10 rounds."""
    pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0]
    for rounds, (counter, key), expected in (
        (7, ([0] * 4, [0] * 2), "5f6fb709 0d893f64 4f121f81 4f730a48"),
        (7, ([2**32 - 1] * 4, [2**32 - 1] * 2), "5207ddc2 45165e59 4d8ee751 8c52f662"),
        (7, pi, "4dfccaba 190a87f0 c47362ba b6b5242a"),
        (10, ([0] * 4, [0] * 2), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (10, pi, "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ):
        found = reference.philox(np.array(counter, np.uint32), key, rounds)
        assert " ".join(f"{x:08x}" for x in found) == expected


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_its_share(p):
    """Dropout keeps 1 - p of 10^6 probabilities along every axis, within five standard deviations;
    the mean stays.
    """
    B, N, S, K = 2, 5, 100, 1000
    q, v = np.zeros((B, N, S, 4), np.float32), np.ones((B, N, K, 1), np.float32)
    keep = lambda seed: (
        backward(forward(q, np.zeros((B, N, K, 4), np.float32), v, dropout_p=p, seed=seed)[1],
                 np.ones((B, N, S, 1), np.float32))["value"] * K * (1 - p)
    )  # fmt: skip
    kept = keep(1)  # how many queries keep a key
    assert abs(kept.sum() - B * N * S * K * (1 - p)) < 5 * (B * N * S * K * p * (1 - p)) ** 0.5
    deviation = (S * p * (1 - p)) ** 0.5
    assert np.abs(kept - S * (1 - p)).max() < 6 * deviation
    assert kept.std() == pytest.approx(deviation, rel=0.05)
    assert np.abs(np.corrcoef(kept.ravel(), keep(2).ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("S", [1, 3, 40])
def test_dropout_of_nothing_and_of_all(S):
    q, k, v, dy = arrays(2, 4, 2, S, 300, 16, 24)
    y, _ = forward(q, k, v, enable_gqa=True, dropout_p=1e-12, seed=3)
    assert_same_bits(y, F.scaled_dot_product_attention(q, k, v, enable_gqa=True))
    y, saved = forward(q, k, v, enable_gqa=True, dropout_p=1.0)
    assert not y.any()
    assert not any(g.any() for g in backward(saved, dy).values())


def test_dropout_draws_a_seed():
    q, k, v, _ = arrays(1, 1, 1, 8, 9, 4, 4)
    for function in (F.scaled_dot_product_attention, lambda *a, **o: forward(*a, **o)[0]):
        first, second = (function(q, k, v, dropout_p=0.5) for _ in range(2))
        assert (first != second).any()


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "1"], ids=str)
def test_dropout_refuses_a_seed(seed):
    with pytest.raises((ValueError, TypeError), match="seed"):
        forward(*arrays(1, 1, 1, 8, 9, 4, 4)[:3], dropout_p=0.5, seed=seed)


@pytest.mark.parametrize("p", [-0.1, 1.1, np.nan, "0.5", None, True], ids=str)
def test_dropout_refuses_a_probability(p):
    with pytest.raises((ValueError, TypeError), match="dropout_p"):
        forward(*arrays(1, 1, 1, 8, 9, 4, 4)[:3], dropout_p=p)


def test_large_scores():
    """The weights come out of differences: scores of thousands do not overflow."""
    q, k, v, dy = arrays(1, 1, 1, 12, 20, 16, 8)
    check(q * 100, k * 10, v, dy)


@pytest.mark.parametrize(("B", "N", "S", "K"), [(1, 1, 500, 700), (1, 3, 200, 300), (2, 2, 90, 40)])
@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"dropout_p": 0.2, "seed": 1}])
def test_threads(B, N, S, K, options):
    """Few heads are cut by queries and by keys, many are not: the same bits."""
    q, k, v, dy = arrays(B, N, 1, S, K, 32, 32)
    call = lambda: list(backward(forward(q, k, v, **options, enable_gqa=True)[1], dy).values())
    assert_threads_change_nothing(call)


@pytest.mark.parametrize("S", [1, 3, 40])
@pytest.mark.parametrize("options", [{}, {"dropout_p": 0.4, "seed": 7}], ids=["plain", "dropout"])
def test_forward_is_the_function(S, options):
    q, k, v, _ = arrays(2, 4, 2, S, 300, 16, 24)
    y, _ = forward(q, k, v, enable_gqa=True, **options)
    assert_same_bits(y, F.scaled_dot_product_attention(q, k, v, enable_gqa=True, **options))


def test_positional_arguments_are_pytorchs():
    """(query, key, value, attn_mask, dropout_p, is_causal); the others have names only."""
    q, k, v, _ = arrays(1, 2, 2, 5, 6, 8, 8)
    mask = samples.normal(3, 5, 6)
    right = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    causal = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    for function in (F.scaled_dot_product_attention, lambda *a: forward(*a)[0]):
        assert_same_bits(function(q, k, v, mask, 0.0, False), right)
        assert_same_bits(function(q, k, v, None, 0.0, True), causal)
        assert not function(q, k, v, mask, 1.0).any()
        with pytest.raises(TypeError, match="positional"):
            function(q, k, v, mask, 0.0, False, 0.5)


def test_padding_is_never_read():
    """Beyond the lengths may be anything; the gradients there are zero."""
    q, k, v, dy = arrays(2, 2, 2, 20, 300, 16, 8)
    lengths = ([20, 11], [300, 37])
    clean = check(q, k, v, dy, lengths=lengths)
    for x in (q, dy):
        x[1, :, 11:] = np.nan
    for x in (k, v):
        x[1, :, 37:] = np.nan
    dirty = backward(forward(q, k, v, lengths=lengths)[1], dy)
    for name, size in (("query", 11), ("key", 37), ("value", 37)):
        assert_same_bits(dirty[name], clean[name])
        assert not dirty[name][1, :, size:].any()


def test_no_key_is_seen():
    """Rows that the mask leaves without a key get zeros, and give none."""
    q, k, v, dy = arrays(1, 2, 2, 6, 9, 8, 8)
    seen = np.ones((6, 9), bool)
    seen[2] = False
    gradients = check(q, k, v, dy, seen)
    assert not gradients["query"][:, :, 2].any()


@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (2, 0, 3, 4), (2, 2, 0, 4), (2, 2, 3, 0)], ids=str)
def test_nothing(shape):
    B, N, S, K = shape
    q, k, v, dy = arrays(B, N, N, S, K, 8, 8)
    y, saved = forward(q, k, v)
    gradients = backward(saved, dy)
    assert not y.any()
    shapes = {"query": q.shape, "key": k.shape, "value": v.shape}
    assert {n: g.shape for n, g in gradients.items()} == shapes
    assert not any(g.any() for g in gradients.values())


@pytest.mark.parametrize("name", ["query", "key", "value", "dy"])
def test_nan_reaches_what_depends_on_it(name):
    """NaN spreads to the same gradients as in PyTorch."""
    given = dict(zip((*NAMES, "dy"), arrays(1, 1, 1, 5, 6, 8, 8), strict=True))
    given[name][0, 0, 2, 3] = np.nan
    gradients = backward(forward(*(given[n] for n in NAMES))[1], given["dy"])
    tensors = {n: torch.from_numpy(a).requires_grad_(n != "dy") for n, a in given.items()}
    attend = torch.nn.functional.scaled_dot_product_attention
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        attend(*(tensors[n] for n in NAMES)).backward(tensors["dy"])
    for n in NAMES:
        theirs = np.isnan(tensors[n].grad.numpy())
        np.testing.assert_array_equal(np.isnan(gradients[n]), theirs)


def test_refused():
    q, k, v, dy = arrays(1, 2, 2, 5, 6, 8, 4)
    _, saved = forward(q, k, v)
    with pytest.raises(ValueError, match=r"dy has shape \(1, 2, 5, 3\), expected \(1, 2, 5, 4\)"):
        backward(saved, dy[..., :3])
    with pytest.raises(TypeError, match="dy has dtype float64"):
        backward(saved, dy.astype(np.float64))
    with pytest.raises(TypeError, match="saved is ndarray"):
        backward(q, dy)
    with pytest.raises(ValueError, match="is_causal"):
        forward(q, k, v, np.ones((5, 6), bool), is_causal=True)
    assert repr(saved) == (
        "<saved by treadle.functional.scaled_dot_product_attention_forward: 40 bytes>"
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random(data):
    draw = lambda strategy: data.draw(strategy)
    Nk, group = draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2, 3]))
    B, S, K = draw(st.integers(1, 2)), draw(st.integers(1, 130)), draw(st.integers(1, 300))
    E, Fv = draw(st.integers(1, 100)), draw(st.integers(1, 100))
    options = {"is_causal": draw(st.booleans())}
    if draw(st.booleans()):
        options["window"] = (draw(st.integers(0, 90)), draw(st.integers(0, 90)))
    if draw(st.booleans()):
        options["softcap"] = draw(st.floats(0.5, 5.0))
    if draw(st.booleans()):
        options["alibi_slopes"] = np.abs(samples.normal([3], Nk * group)) / 8
    if draw(st.booleans()):
        options["dropout_p"] = draw(st.floats(0.01, 0.95))
    if draw(st.booleans()):
        rows = lambda most: [draw(st.integers(0, most)) for _ in range(B)]
        options["lengths"] = (rows(S), rows(K))
    check(*arrays(B, Nk * group, Nk, S, K, E, Fv, draw(st.integers(0, 9))), **options)
