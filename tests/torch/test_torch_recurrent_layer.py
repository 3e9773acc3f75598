"""One recurrent layer for autograd with every option of the kernels: activations, masks, resets
of a GRU before the product. PyTorch's modules do not have these; guests and graphs use them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import recurrent_torch as reference
from support import samples
from support.tolerance import EPS
from treadle.torch import autograd, formula, ops, weight_cache

ACTIVATIONS = [
    *reference.ACTIVATIONS,
    *[("leaky_relu", 0.25), ("hard_sigmoid", 0.2, 0.5), ("clip", -1.0, 1.0), ("elu", 0.5)],
]
GATES = ["sigmoid", ("hard_sigmoid", 0.2, 0.5), "tanh", "linear", "softsign", "relu"]


@st.composite
def cases(draw):
    """Return a layer, its x, states, weights, lengths and mask, as arrays of float32."""
    mode = draw(st.sampled_from(["rnn", "lstm", "gru"]))
    T, B, I, H = (draw(st.integers(1, most)) for most in (6, 5, 4, 18))
    bias, D = draw(st.booleans()), draw(st.sampled_from([1, 2]))
    layer = weight_cache.RecurrentLayer(
        "treadle.torch", mode, I, H, 0, bias, D, draw(st.sampled_from(ACTIVATIONS)),
        "sigmoid" if mode == "rnn" else draw(st.sampled_from(GATES)),
        mode != "gru" or draw(st.booleans()),
    )  # fmt: skip
    numbers = iter(range(100))
    normal = lambda *shape: samples.normal(next(numbers), *shape)
    x = normal(B, T, I)
    states = [normal(D, B, H) for _ in range(1 + (mode == "lstm"))]
    weights = [
        normal(*shape) / np.float32(2 * H**0.5)
        for _ in range(D)
        for shape in layer.spec.shapes().values()
    ]
    drawn = np.random.default_rng(draw(st.integers(0, 99)))
    rows = draw(st.sampled_from(["all", "lengths", "mask"]))
    lengths = drawn.integers(0, T + 1, B) if rows == "lengths" else None
    mask = drawn.random((B, T)) < 0.6 if rows == "mask" else None
    return layer, x, states, weights, lengths, mask


def loss_of(results):
    return sum((r * torch.cos(torch.arange(r.numel()).reshape(r.shape))).sum() for r in results)


def expected(case, dtype):
    """Return the results and the gradients by the reference's own loop."""
    layer, x, states, weights, lengths, mask = case
    leaves = [torch.tensor(a, dtype=dtype, requires_grad=True) for a in (x, *states, *weights)]
    count, own = len(layer.names), leaves[1 + len(states) :]
    options = {"activation": layer.activation, "recurrent_activation": layer.recurrent_activation}
    if layer.mode == "gru":
        options["reset_after"] = layer.reset_after
    if layer.mode == "rnn":
        options = {"nonlinearity": layer.activation}
    parts = [
        reference.sequence(
            layer.mode, leaves[0].transpose(0, 1),
            dict(zip(layer.names, own[d * count : (d + 1) * count], strict=True)),
            [s[d] for s in leaves[1 : 1 + len(states)]],
            reverse=d == 1, lengths=lengths, mask=mask, **options,
        )
        for d in range(layer.directions)
    ]  # fmt: skip
    ends = [torch.stack(parts) for parts in zip(*[end for _, end in parts], strict=True)]
    results = [torch.cat([y for y, _ in parts], 2).transpose(0, 1), *ends]
    return results, torch.autograd.grad(loss_of(results), leaves, allow_unused=True)


def eager(layer, tensors, states, x, rows):
    weights = weight_cache.PlacedWeights(layer, tensors)
    found = weight_cache.WeightCache().get(0, layer, weights)
    if not layer.has_to_pack and x.shape[0] % 2:
        found = weights.unpacked(layer)
    return autograd.run_layer(found, weights, tensors, states, x, rows)


def actual(case, run):
    layer, x, states, weights, lengths, mask = case
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, *states, *weights)]
    h, c = (*leaves[1 : 1 + len(states)], None)[:2]
    own = tuple(leaves[1 + len(states) :])
    results = [
        r for r in run(layer, own, (h, c), leaves[0], (lengths, mask, True)) if r is not None
    ]
    return results, torch.autograd.grad(loss_of(results), leaves)


def check(case, run):
    """Compare: twice the error of the same formula in float32, plus 16 eps of the largest."""
    results, gradients = actual(case, run)
    truth, rounded = (expected(case, dtype) for dtype in (torch.float64, torch.float32))
    for mine, exact, other in zip(
        [*results, *gradients], [*truth[0], *truth[1]], [*rounded[0], *rounded[1]], strict=True
    ):
        if exact is None:  # the weights of a layer all of whose steps are left out
            exact = other = torch.zeros_like(mine)
        error, scale = (exact - other).abs().max(), exact.abs().max()
        assert mine.shape == exact.shape
        assert (mine - exact).abs().max() <= 2 * error + 16 * EPS * max(1, scale)


@settings(max_examples=150)
@given(case=cases())
def test_kernels(case):
    check(case, eager)


@settings(max_examples=60)
@given(case=cases())
def test_operators(case):
    """The operators of graphs compute the same bits as the eager way."""
    found, gradients = actual(case, ops.run_layer)
    same, others = actual(case, eager)
    for a, b in zip([*found, *gradients], [*same, *others], strict=True):
        assert torch.equal(a, b)


@settings(max_examples=60)
@given(case=cases())
def test_formula(case):
    check(case, formula.recurrent)


@pytest.mark.parametrize("mode", ["rnn", "lstm", "gru"])
def test_operators_pass_pytorchs_own_check(mode):
    layer = weight_cache.RecurrentLayer(
        "treadle.torch", mode, 3, 5, 0, True, 1, ("leaky_relu", 0.2), "hard_sigmoid", False
    )
    shapes = layer.spec.shapes().values()
    weights = [torch.tensor(samples.normal(i, *shape)) for i, shape in enumerate(shapes)]
    x = torch.tensor(samples.normal(9, 4, 6, 3), requires_grad=True)
    mask = torch.arange(24).reshape(4, 6) % 3 > 0
    call = (x, None, None, weights, None, mask, *layer.form, True, True)
    torch.library.opcheck(torch.ops.treadle.recurrent.default, call)


@pytest.mark.parametrize("activation", [None, "tanh", ("leaky_relu", 0.1), ("clip", -1.0, 1 / 3)])
def test_the_form_of_a_layer_says_all_of_it(activation):
    layer = weight_cache.RecurrentLayer("f", "gru", 3, 5, 0, True, 2, activation, "relu", False)
    again = weight_cache.RecurrentLayer.of_form("f", 3, layer.form)
    assert again == layer._replace(activation=activation or "linear")


def test_second_derivatives_take_the_formula(no_warnings_before):
    layer = weight_cache.RecurrentLayer("treadle.torch", "gru", 2, 3, 0, False, 1, "tanh")
    weights = tuple(torch.randn(9, size, requires_grad=True) for size in (2, 3))
    x = torch.randn(2, 4, 2, requires_grad=True)
    mask = np.array([[True, False, True, True], [False, True, True, False]])
    y = eager(layer, weights, (None, None), x, (None, mask, True))[0]
    with pytest.warns(UserWarning, match="its gradients are differentiated"):
        (dx,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert not dx[~torch.from_numpy(mask)].any()
    dx.sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.any()
