"""Tensors whose numbers do not lie in their own memory, in every place that takes a tensor.

The programs of these tests come from outside: views with the negative bit (as in
pytorch/pytorch#184379), zero tensors, storages that were freed or shrunk (pytorch/pytorch#171676;
FSDP and offloading free them), fake tensors, subclasses and tensors inside a function transform.
"""

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import treadle
import treadle.torch
from support import samples
from support.torch_checks import CELLS, SEQUENCES, flat

# These are PyTorch's own, where a test makes its first quantized, nested or dual tensor.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*(quantiz|nested|torch.jit.script)"),
    pytest.mark.usefixtures("no_warnings_before"),
]


class Wrapper(torch.Tensor):
    """A tensor that keeps its numbers in another one, as quantized and distributed tensors do."""

    @staticmethod
    def __new__(cls, inner):
        self = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        self.inner = inner
        return self

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        inner = torch.utils._pytree.tree_map_only(cls, lambda t: t.inner, (args, kwargs or {}))
        return function(*inner[0], **inner[1])


def negative(x):
    """Return the numbers of a tensor as a view with the negative bit."""
    return torch.complex(x, -x).conj().imag


def shrunk(view, to):
    """The tensor, after its storage has been cut to so many bytes."""
    view.untyped_storage().resize_(to)
    return view


def faked(x):
    with FakeTensorMode() as mode:
        return mode.from_tensor(x)


READ = {
    "negative": lambda x: (negative(x), x),
    "negative strided": lambda x: (negative(x.mT.contiguous()).mT, x),
    "zero": lambda x: (torch._efficientzerotensor(x.shape), torch.zeros_like(x)),
    "subclass": lambda x: (x.as_subclass(type("Named", (torch.Tensor,), {})), x),
    "parameter": lambda x: (torch.nn.Parameter(x), x),
    "lazily cloned": lambda x: (torch._lazy_clone(x.clone()), x),
    "view of a larger one": lambda x: (torch.cat([x, x])[x.shape[0] :], x),
    "expanded": lambda x: (x[:1].expand(x.shape), x[:1].expand(x.shape).contiguous()),
}
REFUSED = {
    "freed": (lambda x: shrunk(x.clone(), 0), "storage of 0 bytes"),
    "shrunk": (lambda x: shrunk(x.clone(), x.nbytes - 4), "freed or shrunk"),
    "shrunk view": (lambda x: shrunk(torch.cat([x, x])[x.shape[0] :], x.nbytes), "freed or shrunk"),
    "shrunk strided": (lambda x: shrunk(x.mT.clone().mT, x.nbytes - 4), "freed or shrunk"),
    "functional": (torch._to_functional_tensor, "keeps its numbers elsewhere"),
}
ELSEWHERE = {
    "fake": (faked, "FakeTensor"),
    "wrapper": (Wrapper, "Wrapper"),
    "meta": (lambda x: x.to("meta"), "device meta"),
    "sparse": (lambda x: x.to_sparse(), "to_dense"),
    "mkldnn": (lambda x: x.to_mkldnn(), "to_dense"),
    "quantized": (lambda x: torch.quantize_per_tensor(x, 1.0, 0, torch.qint8), "dequantize"),
    "nested": (lambda x: torch.nested.nested_tensor(list(x)), "nested"),
    "jagged": (lambda x: torch.nested.nested_tensor(list(x), layout=torch.jagged), "nested"),
    "float8": (lambda x: x.to(torch.float8_e4m3fn), "float8"),
}


def entries(tensor):
    """Calls of treadle's own functions and modules that take a tensor [4, 4] for an array."""
    w, square = samples.normal(1, 4, 4), samples.normal(2, 4, 4)
    cell = treadle.RNNCell(4, 4)
    return {
        "linear": lambda: treadle.functional.linear(tensor, w),
        "weight": lambda: treadle.functional.linear(w, tensor),
        "attention": lambda: treadle.functional.scaled_dot_product_attention(
            square, tensor, square
        ),
        "mask": lambda: treadle.functional.scaled_dot_product_attention(
            square, square, square, attn_mask=tensor
        ),
        "GRU": lambda: treadle.GRU(4, 4)(tensor)[1],
        "stream": lambda: treadle.LSTM(4, 4).stream(4).step(tensor),
        "state": lambda: cell(square, tensor),
        "state dict": lambda: (
            cell.load_state_dict(cell.state_dict() | {"weight_hh": tensor}) or cell(square)
        ),
        "softmax": lambda: treadle.functional.softmax(tensor),
    }


ENTRIES = list(entries(None))


@pytest.fixture(autouse=True)
def same_weights(monkeypatch):
    """Let every module of a test start from the same weights."""
    monkeypatch.setattr(
        np.random, "default_rng", lambda seed=None: np.random.Generator(np.random.PCG64(1))
    )


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("case", READ)
def test_numbers_are_those_that_the_tensor_shows(case, entry):
    tensor, shown = READ[case](torch.from_numpy(samples.normal(0, 4, 4)))
    torch.testing.assert_close(tensor.detach().clone().as_subclass(torch.Tensor), shown)
    np.testing.assert_array_equal(entries(tensor)[entry](), entries(shown.numpy())[entry]())


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("case", REFUSED | ELSEWHERE)
def test_tensors_without_plain_memory_are_refused(case, entry):
    make, words = (REFUSED | ELSEWHERE)[case]
    with pytest.raises(TypeError, match=words):
        entries(make(torch.from_numpy(samples.normal(0, 4, 4))))[entry]()


@pytest.mark.parametrize("kind", [*SEQUENCES, *CELLS])
@pytest.mark.parametrize("case", READ)
def test_modules_read_what_the_tensor_shows(case, kind):
    """Input, gradient of the output and weights; the gradients are PyTorch's for such tensors."""
    module = getattr(treadle.torch, kind)(4, 4)
    tensor, shown = READ[case](torch.from_numpy(samples.normal(0, 4, 4)))

    def outputs(x, dy):
        x = x.detach().requires_grad_()
        y = flat(module(x))[0]
        return [y, *torch.autograd.grad(y, [x, *module.parameters()], dy)]

    for a, b in zip(outputs(tensor, tensor), outputs(shown, shown), strict=True):
        assert torch.equal(a.as_subclass(torch.Tensor), b)


@pytest.mark.parametrize("kind", [*SEQUENCES, *CELLS])
@pytest.mark.parametrize("case", REFUSED)
def test_modules_refuse(case, kind):
    make, words = REFUSED[case]
    module, x = getattr(treadle.torch, kind)(4, 4), torch.from_numpy(samples.normal(0, 4, 4))
    # PyTorch itself refuses to make a view of such a storage, which an unbatched input becomes.
    refused = pytest.raises((TypeError, RuntimeError), match=f"{words}|out of bounds")
    with refused, torch.no_grad():
        module(make(x))
    y = flat(module(x))[0]
    with refused:
        y.backward(make(torch.ones_like(y)))


@pytest.mark.parametrize("case", REFUSED)
def test_attention_refuses(case):
    make, words = REFUSED[case]
    q = torch.from_numpy(samples.normal(0, 1, 1, 4, 4))
    for own in ((make(q), q, q), (q, make(q), q), (q, q, make(q)), (q, q, q, make(q))):
        with pytest.raises(TypeError, match=words):
            treadle.torch.scaled_dot_product_attention(*own)


@pytest.mark.parametrize("case", ["negative", "zero", "freed", "wrapper"])
def test_from_torch_weights(case):
    theirs = torch.nn.GRU(4, 4)
    weight = torch.from_numpy(samples.normal(0, 12, 4))
    del theirs.weight_hh_l0
    if case in READ:
        theirs.weight_hh_l0, shown = READ[case](weight)
        ours = treadle.from_torch(theirs)
        np.testing.assert_array_equal(ours.state_dict()["weight_hh_l0"], shown.numpy())
    else:
        make, words = (REFUSED | ELSEWHERE)[case]
        theirs.weight_hh_l0 = make(weight)
        with pytest.raises(TypeError, match=words):
            treadle.from_torch(theirs)


@pytest.mark.parametrize("transform", [torch.vmap, torch.func.grad, torch.func.jacfwd])
def test_functions_refuse_tensors_of_a_transform(transform):
    """A function that returns an array cannot take part in a transform; the error says what can."""

    def call(x):
        return torch.from_numpy(treadle.functional.softmax(x)).sum()

    with pytest.raises(TypeError, match=r"function transform .* treadle\.torch"):
        transform(call)(torch.ones(2, 3))


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_functions_refuse_to_become_a_constant_of_a_graph(mode):
    weight = np.ones((3, 4), np.float32)

    def call(x):
        return x.sum() + torch.from_numpy(treadle.functional.linear(weight, weight)).sum()

    def baked(x):
        return torch.from_numpy(treadle.functional.linear(x, weight))

    assert make_fx(call, tracing_mode=mode)(torch.ones(2, 4))(torch.zeros(2, 4)) == 36
    with pytest.raises(TypeError, match=r"constant: call the modules and functions of treadle"):
        make_fx(baked, tracing_mode=mode)(torch.ones(2, 4))
    with pytest.raises(TypeError, match=r"treadle\.torch"):
        torch.export.export(Module(baked), (torch.ones(2, 4),))


class Module(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_input_freed_between_forward_and_backward():
    """Activations are freed so by programs that offload them."""
    module = treadle.torch.GRU(4, 4)
    x = torch.ones(3, 2, 4)
    y = module(x)[0]
    x.untyped_storage().resize_(0)
    with pytest.raises(TypeError, match="storage of 0 bytes"):
        y.sum().backward()


def test_weights_freed_and_restored():
    """FSDP frees weights between calls, and fills the same storage again."""
    module = treadle.torch.GRU(4, 4)
    x, values = torch.ones(3, 2, 4), module.weight_hh_l0.detach().clone()
    with torch.no_grad():
        expected = module(x)[0]
        storage = module.weight_hh_l0.untyped_storage()
        size = storage.nbytes()
        storage.resize_(0)
        with pytest.raises(TypeError, match="storage of 0 bytes"):
            module(x)
        storage.resize_(size)
        module.weight_hh_l0.copy_(values * 2)
        changed = module(x)[0]
        module.weight_hh_l0.copy_(values)
        assert torch.equal(module(x)[0], expected)
    assert not torch.equal(changed, expected)
