"""Modes and graphs of PyTorch see treadle's operators.

The programs of these tests come from outside: graphs of make_fx and aot (which an autograd.Function
that computes with NumPy enters as a constant, the fault of pytorch/pytorch#84515), FLOP counters
(pytorch/pytorch#131041, facebookresearch/fvcore#98), loggers, fake tensors that ask for shapes, and
subclasses of tensors.
"""

import contextlib

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import treadle.torch
from support import samples
from support.torch_checks import flat

pytestmark = pytest.mark.usefixtures("no_warnings_before")

NETS = {
    "LSTM": ("LSTM", {"num_layers": 2, "bidirectional": True}),
    "LSTM-P": ("LSTM", {"proj_size": 3, "batch_first": True}),
    "GRU": ("GRU", {"batch_first": True}),
    "RNN": ("RNN", {"nonlinearity": "relu", "bias": False}),
    "LSTMCell": ("LSTMCell", {}),
    "GRUCell": ("GRUCell", {}),
    "RNNCell": ("RNNCell", {}),
    "attention": ("MultiheadAttention", {}),
}


class Attention(treadle.torch.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x, need_weights=False)[0]


def net(name):
    kind, options = NETS[name]
    torch.manual_seed(0)
    module = (
        Attention(4, 2) if name == "attention" else getattr(treadle.torch, kind)(4, 5, **options)
    )
    shape = (3, 4) if "Cell" in kind else (4, 3, 4)
    return module, torch.from_numpy(samples.normal(0, *shape))


def operators(name):
    return "treadle.attention" if name == "attention" else "treadle.recurrent"


class Dispatched(TorchDispatchMode):
    """A mode that lists the operators below autograd."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


class Called(TorchFunctionMode):
    """A mode that lists the functions that are called."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("tracing", ["real", "fake", "symbolic", "real before dispatch"])
@pytest.mark.parametrize("name", NETS)
def test_make_fx(name, tracing, grad):
    """The graph computes from its input, and not from that of the trace."""
    module, x = net(name)
    mode, *early = tracing.split()
    options = {"tracing_mode": mode, "pre_dispatch": bool(early), "_allow_non_fake_inputs": True}
    with torch.set_grad_enabled(grad):
        graph = make_fx(lambda x: flat(module(x)), **options)(x)
    assert any(operators(name) in str(node.target) for node in graph.graph.nodes)
    for a, b in zip(graph(2 * x - 1), flat(module(2 * x - 1)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("tracing", ["real", "symbolic"])
@pytest.mark.parametrize("name", ["LSTM", "GRUCell", "attention"])
def test_make_fx_of_a_gradient(name, tracing):
    """The backward pass is an operator in the graph, too, as aot traces both together."""
    module, x = net(name)

    def gradient(x):
        y = flat(module(x))[0]
        return torch.autograd.grad(y.square().sum(), [x, *module.parameters()])

    x.requires_grad_()
    graph = make_fx(gradient, tracing_mode=tracing, _allow_non_fake_inputs=True)(x)
    assert any(f"{operators(name)}_backward" in str(n.target) for n in graph.graph.nodes)
    other = (2 * x.detach() - 1).requires_grad_()
    for a, b in zip(graph(other), gradient(other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NETS)
def test_aot(name):
    """aot traces forward and backward, without torch.compile in front of it."""
    from functorch.compile import aot_function, make_boxed_func

    module, x = net(name)
    graphs = []

    def compiler(graph, _):
        graphs.append(graph)
        return make_boxed_func(graph.forward)

    own = dict(module.named_parameters())
    call = lambda weights, x: flat(torch.func.functional_call(module, weights, (x,)))[0]
    for other in (x, 2 * x - 1):
        results = []
        for run in (aot_function(call, fw_compiler=compiler), call):
            leaf = other.clone().requires_grad_()
            y = run(own, leaf)
            results.append([y, *torch.autograd.grad(y.square().sum(), [leaf, *own.values()])])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    assert len(graphs) == 4
    assert all(operators(name) in str(graph.graph) for graph in graphs)


@pytest.mark.parametrize("where", ["both", "forward", "backward"])
@pytest.mark.parametrize("name", NETS)
def test_dispatch_modes(name, where):
    """A logger sees the operators of the passes that it encloses; the numbers stay the same."""
    module, x = net(name)
    nothing = contextlib.nullcontext()

    def run(forward, backward):
        own = x.clone().requires_grad_()
        with forward:
            outputs = flat(module(own))
        with backward:
            loss = sum(y.square().sum() for y in outputs)
            return [*outputs, *torch.autograd.grad(loss, [own, *module.parameters()])]

    forward, backward = Dispatched(), Dispatched()
    found = run(
        forward if where != "backward" else nothing, backward if where != "forward" else nothing
    )
    for a, b in zip(found, run(nothing, nothing), strict=True):
        assert torch.equal(a, b)
    kind = operators(name)
    assert (f"{kind}.default" in forward.seen) == (where != "backward")
    assert (f"{kind}_backward.default" in backward.seen) == (where != "forward")


@pytest.mark.parametrize("name", NETS)
def test_function_modes(name):
    module, x = net(name)
    with Called() as mode, torch.no_grad():
        y = flat(module(x))
    assert all(torch.equal(a, b) for a, b in zip(y, flat(module(x)), strict=True))
    assert any(operators(name) in seen for seen in mode.seen)
    if name == "attention":
        with mode:
            treadle.torch.scaled_dot_product_attention(*[x[:, None]] * 3)
        assert any("scaled_dot_product_attention" in seen for seen in mode.seen)


@pytest.mark.parametrize("name", NETS)
def test_default_device(name):
    """A default device is a mode, too, and leaves the kernels' bits and gradients as they are."""
    module, x = net(name)
    expected = flat(module(x))
    with torch.device("cpu"):
        found = flat(module(x))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", NETS)
def test_fake_tensors_tell_shapes(name):
    """Also large ones: nothing is computed and no memory is taken."""
    module, x = net(name)
    expected = [y.shape for y in flat(module(x))]
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = mode.from_tensor(x)
        found = flat(module(fake))
        large = flat(module(torch.empty((x.shape[0], 2**40, 4)[-x.dim() :])))
    assert [y.shape for y in found] == expected
    assert all(type(y) is type(fake) for y in [*found, *large])
    outside = flat(module(fake)) if name != "attention" else found  # the mode need not be active
    assert [y.shape for y in outside] == expected


@pytest.mark.parametrize("name", [name for name in NETS if name != "attention"])
def test_subclasses_see_the_operators(name):
    """A class that keeps its numbers in another tensor takes part in every operator."""

    seen = []

    class Wrapper(torch.Tensor):
        @staticmethod
        def __new__(cls, inner):
            self = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
            self.inner = inner
            return self

        @classmethod
        def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
            seen.append(str(function))
            tree = torch.utils._pytree
            args, kwargs = tree.tree_map_only(cls, lambda t: t.inner, (args, kwargs or {}))
            return tree.tree_map_only(torch.Tensor, cls, function(*args, **kwargs))

    module, x = net(name)
    with torch.no_grad():
        found = flat(module(Wrapper(x)))
        for a, b in zip(found, flat(module(x)), strict=True):
            assert torch.equal(a.inner, b)
    assert "treadle.recurrent.default" in seen


def test_subclasses_keep_their_class():
    """As PyTorch's own modules and functions do for classes without rules of their own."""

    class Named(torch.Tensor):
        pass

    for name in NETS:
        module, x = net(name)
        assert all(type(y) is Named for y in flat(module(x.as_subclass(Named))))
    q = torch.ones(1, 2, 3, 4).as_subclass(Named)
    assert type(treadle.torch.scaled_dot_product_attention(q, q, q)) is Named


def test_modes_see_attention_of_transformers():
    pytest.importorskip("transformers")
    from treadle.torch.transformers_attention import attention_forward

    q = torch.from_numpy(samples.normal(0, 2, 2, 5, 8))
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
    module = torch.nn.Module()
    run = lambda q, mask: attention_forward(module, q, q, q, mask)[0]
    for mode in ("real", "fake", "symbolic"):
        graph = make_fx(run, tracing_mode=mode)(q, mask)
        assert "treadle.attention" in str(graph.graph)
        other = mask.flip(-1).contiguous()
        torch.testing.assert_close(graph(2 * q, other), run(2 * q, other), rtol=1e-5, atol=1e-6)
