"""Derivatives beyond one backward pass: forward mode, batches of gradients, second derivatives.

The programs of these tests come from outside: gradient penalties and meta-learning
(pytorch/pytorch#5261, pytorch/pytorch#25315, pytorch/pytorch#116350, learnables/learn2learn#429),
Jacobians in one batch (pytorch/pytorch#68538, pytorch/pytorch#105311), vmap over recurrent nets
(pytorch/pytorch#134606, pytorch/pytorch#112459), per-sample gradients (pytorch/tutorials#2566,
pytorch/functorch#1089) and products with a Jacobian in forward mode (facebookresearch/xformers#552,
pytorch/pytorch#174376). PyTorch's own modules in float64 say what is right.
"""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

import treadle.torch
from support import samples
from support.tolerance import EPS
from support.torch_checks import flat

# PyTorch scripts its own decompositions when the first dual tensor is made, and says that this is
# deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script"),
    pytest.mark.filterwarnings("ignore:(LSTM with projections|TF32)"),
    pytest.mark.filterwarnings(
        "ignore:(Input #. requires gradient and is not a double|Attempted to insert)"
    ),
    pytest.mark.usefixtures("no_warnings_before"),
]

FORMULA = r"a formula of torch's operators runs instead"
NETS = {
    "LSTM": ("LSTM", {}),
    "LSTM-L2-D2": ("LSTM", {"num_layers": 2, "bidirectional": True}),
    "LSTM-P": ("LSTM", {"proj_size": 3, "batch_first": True}),
    "GRU": ("GRU", {"batch_first": True}),
    "GRU-D2-no-bias": ("GRU", {"bidirectional": True, "bias": False}),
    "RNN": ("RNN", {}),
    "RNN-relu": ("RNN", {"nonlinearity": "relu"}),
    "LSTMCell": ("LSTMCell", {}),
    "GRUCell": ("GRUCell", {}),
    "RNNCell": ("RNNCell", {}),
    "attention": ("MultiheadAttention", {}),
}


class Attention(torch.nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x, need_weights=False)[0]


class TreadleAttention(treadle.torch.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x, need_weights=False)[0]


def nets(name):
    """PyTorch's module in float64, the same in float32, treadle's, and an input."""
    kind, options = NETS[name]
    torch.manual_seed(0)
    if name == "attention":
        theirs, ours = Attention(4, 2), TreadleAttention(4, 2)
    else:
        theirs = getattr(torch.nn, kind)(4, 3 + (kind == "LSTM"), **options)
        ours = getattr(treadle.torch, kind)(4, 3 + (kind == "LSTM"), **options)
    ours.load_state_dict(theirs.state_dict())
    shape = (2, 4) if "Cell" in kind else (3, 2, 4)
    x = torch.from_numpy(samples.normal(0, *shape))
    return copy.deepcopy(theirs).double(), theirs, ours, x


def assert_right(of, name, *tensors):
    """Compare ``of(module, *tensors)``: at most twice PyTorch's own float32 error plus 16 eps."""
    exact, rounded, ours, x = nets(name)
    # oneDNN's LSTM and the fused attention of PyTorch's CPU have no such derivatives.
    with torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
        truths = flat(of(exact, *[t.double() for t in (x, *tensors)]))
        others = flat(of(rounded, x, *tensors))
    with pytest.warns(UserWarning, match=FORMULA) as caught:
        found = flat(of(ours, x, *tensors))
    notices = [str(w.message) for w in caught if "treadle.torch" in str(w.message)]
    assert len(set(notices)) == len(notices), "a notice came twice"
    assert len(found) == len(truths)
    for mine, truth, other in zip(found, truths, others, strict=True):
        assert mine is not None
        mine, truth, other = (t.detach().double() for t in (mine, truth, other))
        assert mine.shape == truth.shape
        bound = 2 * (other - truth).abs().max() + 16 * EPS * max(1, float(truth.abs().max()))
        assert (mine - truth).abs().max() <= bound


def first(module):
    return lambda x: flat(module(x))[0]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_dual_numbers(name, grad):
    """Outputs have tangents, also where no gradient is wanted."""

    def tangents(module, x, t):
        with torch.set_grad_enabled(grad), forward_ad.dual_level():
            outputs = flat(module(forward_ad.make_dual(x, t)))
            return [forward_ad.unpack_dual(y).tangent for y in outputs]

    assert_right(tangents, name, torch.ones_like(nets(name)[-1]))


@pytest.mark.parametrize("name", ["LSTM", "GRUCell", "attention"])
def test_dual_weights(name):
    """A tangent of a weight alone reaches the outputs."""

    def tangents(module, x):
        module = copy.deepcopy(module)
        weight = "in_proj_weight" if name == "attention" else next(iter(module._parameters))
        value = getattr(module, weight).detach()
        delattr(module, weight)
        with torch.no_grad(), forward_ad.dual_level():
            setattr(module, weight, forward_ad.make_dual(value, torch.ones_like(value)))
            return [forward_ad.unpack_dual(y).tangent for y in flat(module(x))]

    assert_right(tangents, name)


@pytest.mark.parametrize("name", NETS)
def test_jvp_and_linearize(name):
    def products(module, x, t):
        module.requires_grad_(False)  # linearize would change its constants in place
        run = lambda x: tuple(flat(module(x)))
        _, jvp = torch.func.jvp(run, (x,), (t,))
        if name != "GRUCell":  # PyTorch takes long to linearize others
            return jvp
        return [*jvp, *torch.func.linearize(run, x)[1](t)]

    assert_right(products, name, torch.ones_like(nets(name)[-1]))


def jacobians(module, x):
    function = torch.autograd.functional.jacobian
    return function(first(module), x)


@pytest.mark.parametrize(
    "way",
    {
        "is_grads_batched": lambda f, x: torch.autograd.functional.jacobian(f, x, vectorize=True),
        "forward-mode": lambda f, x: torch.autograd.functional.jacobian(
            f, x, vectorize=True, strategy="forward-mode"
        ),
        "jacrev": lambda f, x: torch.func.jacrev(f)(x),
        "jacfwd": lambda f, x: torch.func.jacfwd(f)(x),
    }.items(),
    ids=lambda item: item[0],
)
@pytest.mark.parametrize(
    "name", ["LSTM-L2-D2", "LSTM-P", "GRU", "RNN-relu", "GRUCell", "attention"]
)
def test_jacobians(name, way):
    def of(module, x):
        ours = isinstance(module, tuple(CLASSES))
        return way[1](first(module), x) if ours else jacobians(module, x)

    assert_right(of, name)


CLASSES = [TreadleAttention, *(getattr(treadle.torch, k) for k, _ in list(NETS.values())[:-1])]


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNNCell", "attention"])
def test_vmap_of_autograd_grad(name):
    """One backward pass for each of several gradients of the output, as in pytorch#49562."""

    def of(module, x):
        x = x.clone().requires_grad_()
        y = first(module)(x)
        vectors = torch.stack([torch.ones_like(y), y.detach(), y.detach() - 1])
        grad = lambda v: torch.autograd.grad(y, (x, *module.parameters()), v, retain_graph=True)
        if isinstance(module, tuple(CLASSES)):
            return list(torch.func.vmap(grad)(vectors))
        return [torch.stack(parts) for parts in zip(*map(grad, vectors), strict=True)]

    assert_right(of, name)


@pytest.mark.parametrize("name", NETS)
def test_gradient_penalty(name):
    def penalty(module, x):
        module.zero_grad()
        x = x.clone().requires_grad_()
        value = sum((y * y).sum() for y in flat(module(x)))
        (slope,) = torch.autograd.grad(value, x, create_graph=True)
        (slope.square().sum() + value).backward()
        return [slope, x.grad, *(p.grad for p in module.parameters())]

    assert_right(penalty, name)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN", "LSTMCell", "attention"])
def test_meta_learning(name):
    """A step of the inner loop is differentiated, weights through weights (MAML)."""

    def outer(module, x):
        module.zero_grad()
        own = dict(module.named_parameters())
        call = lambda weights, x: flat(torch.func.functional_call(module, weights, (x,)))[0]
        inner = call(own, x).square().sum()
        grads = torch.autograd.grad(inner, own.values(), create_graph=True)
        fast = {n: p - 0.1 * g for (n, p), g in zip(own.items(), grads, strict=True)}
        call(fast, x + 1).square().sum().backward()
        return [p.grad for p in module.parameters()]

    assert_right(outer, name)


def test_input_that_depends_on_the_weights():
    """A gradient of a weight takes no other way than through the layer itself."""

    def of(module, x):
        module.zero_grad()
        x = x * module.weight_ih.square().sum()
        (grad,) = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
        (grad.square().sum() + x.sum()).backward()
        return [p.grad for p in module.parameters()]

    assert_right(of, "GRUCell")


@pytest.mark.parametrize("name", ["LSTM-P", "GRU", "RNN", "RNNCell", "attention"])
def test_hessians(name):
    def hessian(module, x):
        run = lambda x: first(module)(x).square().sum()
        if isinstance(module, tuple(CLASSES)):
            return [torch.func.hessian(run)(x)]
        return [torch.autograd.functional.hessian(run, x)]

    assert_right(hessian, name)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN", "GRUCell", "attention"])
def test_per_sample_gradients_and_ensembles(name):
    def of(module, x):
        batch = torch.stack([x, 2 * x, x - 1])
        others = [copy.deepcopy(module) for _ in range(3)]
        for i, other in enumerate(others):
            for p in other.parameters():
                p.data.mul_(1 + i / 4)
        if not isinstance(module, tuple(CLASSES)):
            grads = []
            for one in batch:
                module.zero_grad()
                first(module)(one).square().sum().backward()
                grads.append([p.grad.clone() for p in module.parameters()])
            samplewise = [torch.stack(parts) for parts in zip(*grads, strict=True)]
            return [*samplewise, torch.stack([first(o)(x) for o in others])]
        loss = lambda weights, one: flat(torch.func.functional_call(module, weights, (one,)))[0]
        grad = torch.func.grad(lambda weights, one: loss(weights, one).square().sum())
        own = {n: p.detach() for n, p in module.named_parameters()}
        samplewise = torch.func.vmap(grad, (None, 0))(own, batch).values()
        state = torch.func.stack_module_state(others)
        call = lambda *state: flat(torch.func.functional_call(module, state, (x,)))[0]
        return [*samplewise, torch.func.vmap(call)(*state)]

    assert_right(of, name)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_lengths(kind):
    """The formula ends rows where the kernels do, and what lies beyond reaches nothing."""
    torch.manual_seed(0)
    module = getattr(treadle.torch, kind)(4, 3, bidirectional=True)
    x = torch.from_numpy(samples.normal(0, 5, 4, 4))
    lengths = [5, 0, 2, 3]
    for row, end in enumerate(lengths):
        x[end:, row] = torch.nan

    def outputs(create_graph):
        own = x.clone().requires_grad_()
        results = flat(module(own, lengths=lengths))
        value = sum(r.square().sum() for r in results)
        grads = torch.autograd.grad(value, [own, *module.parameters()], create_graph=create_graph)
        return [*results, *grads]

    kernels = outputs(False)
    with pytest.warns(UserWarning, match=FORMULA):
        formula = outputs(True)
    with pytest.warns(UserWarning, match=FORMULA):
        results = torch.func.vmap(lambda x: tuple(flat(module(x, lengths=lengths))))(x[None])
    for a, b in zip([*results, *formula[len(results) :]], kernels, strict=True):
        torch.testing.assert_close(a.reshape(b.shape), b, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="expected \\[B\\] of 0 to T"):
        torch.func.jvp(lambda x: module(x, lengths=[6, 0, 0, 0])[0], (x,), (x,))


OPTIONS = {
    "plain": {},
    "causal": {"is_causal": True},
    "bool mask": {"attn_mask": torch.arange(35).view(5, 7) % 3 != 0},
    "blind query": {"attn_mask": torch.arange(5)[:, None].expand(5, 7) != 2},
    "float mask": {"attn_mask": torch.from_numpy(samples.normal(3, 2, 1, 5, 7))},
    "lengths": {"lengths": [3, 0], "softcap": 0.7, "scale": 0.5},
    "groups": {"enable_gqa": True},
    "dropout": {"dropout_p": 0.4},
    "dropout of all": {"dropout_p": 1.0},
}


@pytest.mark.parametrize("axes", [4, 3])
@pytest.mark.parametrize("case", OPTIONS)
def test_attention_by_formula(case, axes):
    """Gradients of the formula are those of the kernels, dropout's choice included."""
    heads = 1 if case == "groups" else 2
    shapes = (2, 2, 5, 8), (2, heads, 7, 8), (2, heads, 7, 6)
    given = [torch.from_numpy(samples.normal(i, *s)) for i, s in enumerate(shapes)]
    if axes == 3:
        if case in ("groups", "float mask"):
            pytest.skip("these need an axis of heads")
        given = [t[:, 0] for t in given]

    def grads(create_graph):
        torch.manual_seed(1)
        own = [t.clone().requires_grad_() for t in given]
        y = treadle.torch.scaled_dot_product_attention(*own, **OPTIONS[case])
        return torch.autograd.grad(y.square().sum(), own, create_graph=create_graph)

    kernels = grads(False)
    with pytest.warns(UserWarning, match=FORMULA):
        formula = grads(True)
    for a, b in zip(formula, kernels, strict=True):
        assert a.requires_grad
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_dropout_of_many_keys_by_formula():
    """More keys than a head has floats: the choice is found out in several parts."""
    torch.manual_seed(0)
    given = [torch.randn(1, 2, n, 4, requires_grad=True) for n in (3, 600, 600)]

    def grads(create_graph):
        torch.manual_seed(1)
        y = treadle.torch.scaled_dot_product_attention(*given, dropout_p=0.5)
        return torch.autograd.grad(y.square().sum(), given, create_graph=create_graph)

    kernels = grads(False)
    with pytest.warns(UserWarning, match=FORMULA):
        formula = grads(True)
    for a, b in zip(formula, kernels, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNNCell"])
def test_gradgradcheck(name):
    """Finite differences of the first gradients, in float32: h 1e-2, so that rounding is small."""
    *_, ours, x = nets(name)
    x = (x / 2).requires_grad_()
    with pytest.warns(UserWarning, match=FORMULA):
        assert torch.autograd.gradgradcheck(
            first(ours), (x,), eps=1e-2, atol=5e-3, rtol=5e-3, nondet_tol=1e-5
        )


def test_the_kernels_still_run_where_nothing_is_transformed():
    """Nothing of the above leaves a trace: the next call has the kernels' bits, and no notice."""
    *_, ours, x = nets("LSTM")
    before = flat(ours(x))
    with pytest.warns(UserWarning, match=FORMULA):
        torch.func.jacfwd(first(ours))(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for a, b in zip(flat(ours(x)), before, strict=True):
            assert torch.equal(a, b)
        own = x.clone().requires_grad_()
        np.testing.assert_array_equal(
            torch.autograd.grad(first(ours)(own).sum(), own)[0].shape, x.shape
        )


@pytest.mark.parametrize("name", ["GRU", "attention"])
def test_exported_graphs_refuse_forward_mode(name):
    """A graph that was recorded before has no formula; it raises rather than lose a tangent."""
    *_, ours, x = nets(name)
    program = torch.export.export(ours.eval(), (x,)).module()
    refused = pytest.raises(NotImplementedError, match="call the module or function itself")
    with torch.no_grad(), forward_ad.dual_level(), refused:
        program(forward_ad.make_dual(x, x))
