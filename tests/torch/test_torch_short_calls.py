"""Calls straight on the memory of tensors: the bits of the way over arrays, and no call that goes
there although something is at work that has to see it."""

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

import treadle.torch
from support import samples
from support.tolerance import assert_same_bits
from treadle import _core
from treadle._inputs.sequence import SequenceInputs
from treadle.layers.recurrent_spec import RecurrentSpec
from treadle.torch import autograd

SIZE = 20
SEQUENCES = ["GRU", "LSTM", "RNN"]
CELLS = ["GRUCell", "LSTMCell", "RNNCell"]


def normal(seed, *shape):
    return torch.from_numpy(samples.normal(seed, *shape))


def flat(results):
    found = []
    for part in results if isinstance(results, tuple) else (results,):
        found.extend(flat(part) if isinstance(part, tuple) else [part])
    return found


def native_of(spec):
    """A net that reads its weights, and these as tensors."""
    count = len(spec.shapes())
    weights = [
        normal(10 + i, *shape) * 0.3
        for i, shape in enumerate([*spec.shapes().values()] * spec.directions)
    ]
    named = [
        dict(zip(spec.shapes(), (w.numpy() for w in weights[d : d + count]), strict=True))
        for d in range(0, len(weights), count)
    ]
    return spec.pack("f", named, packed=False), tuple(weights), named


def forms():
    for mode in ("rnn", "lstm", "gru"):
        for direction in ("forward", "bidirectional"):
            yield RecurrentSpec(mode, 5, 9, direction=direction)
    yield RecurrentSpec("lstm", 5, 9, proj_size=4, direction="bidirectional")
    yield RecurrentSpec("gru", 5, 9, bias=False)
    yield RecurrentSpec("rnn", 5, 9, activation="softsign")  # saves its gates
    yield RecurrentSpec("rnn", 1, 1, activation="relu")


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("spec", list(forms()), ids=str)
def test_results_and_gradients_have_the_bits_of_arrays(spec, batch_first):
    native, weights, named = native_of(spec)
    D, B, T, S = spec.directions, 3, 4, spec.state_size
    x = normal(0, *((B, T) if batch_first else (T, B)), spec.input_size)
    h = normal(1, D, B, S)
    c = normal(2, D, B, spec.hidden_size) if spec.mode == "lstm" else None
    inputs = SequenceInputs(
        x.numpy(), h.numpy(), None if c is None else c.numpy(), batch_first=batch_first
    )
    expected = native.run(inputs, save=True)
    found = native.run_tensors(x, h, c, False, batch_first, True)
    for a, b in zip(found, expected, strict=True):
        if a is not None:
            assert_same_bits(a.numpy(), b)
        else:
            assert b is None or b.size == 0
    y, h_n, c_n, saved = found
    given = {"y": y.numpy(), "h_n": h_n.numpy()} | ({} if c_n is None else {"c_n": c_n.numpy()})
    grads = native.backward(inputs, weights=named, y=expected[0], saved=expected[3], grads=given)
    wanted = (True, True, c is not None) + (True,) * len(weights)
    own = native.backward_tensors(
        (x, h, c, y, saved), (y, h_n, c_n), weights, wanted, False, batch_first
    )
    flattened = [grads["x"], grads["h_0"], grads["c_0"] if c is not None else None]
    flattened += [array for d in grads["weights"] for array in d.values()]
    for a, b in zip(own, flattened, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert_same_bits(a.numpy(), b)
    some = native.backward_tensors(
        (x, h, c, y, saved), (y, None, None), weights, (False,) * len(wanted), False, batch_first
    )
    assert some == [None] * len(wanted)


@pytest.mark.parametrize("shape", [(SIZE,), (1, SIZE), (3, SIZE)])
@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_is_a_sequence_of_one_step(kind, shape, monkeypatch):
    module = getattr(treadle.torch, kind)(SIZE, SIZE)
    x = normal(0, *shape).requires_grad_()
    h, c = normal(1, *shape).requires_grad_(), normal(2, *shape).requires_grad_()
    found = []
    for refuses in (False, False, True):
        if refuses:  # the way over arrays
            monkeypatch.setattr(autograd, "_forward", over_arrays)
            monkeypatch.setattr(type(module), "_step", lambda *_: None)
        results = flat(module(x, (h, c) if kind == "LSTMCell" else h))
        sum(r.square().sum() for r in results).backward()
        tensors = [t for t in (x, h, c, *module.parameters()) if t.grad is not None]
        found.append([*results, *(t.grad for t in tensors)])
        for tensor in tensors:
            tensor.grad = None
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert_same_bits(a.detach().numpy(), b.detach().numpy())


own_forward = autograd._forward


def over_arrays(found, states, x, rows, step, save):
    class Refusing:
        native = type("", (), {"run": found.native.run, "run_tensors": lambda *_: None})()

    return own_forward(Refusing, states, x, rows, step, save)


def strange_inputs():
    x = normal(0, 2, SIZE)
    freed = x.clone()
    freed.untyped_storage().resize_(8)
    yield "float64", x.double()
    yield "negative bit", torch._neg_view(x)
    yield "zero tensor", torch._efficientzerotensor((2, SIZE))
    yield "meta", x.to("meta")
    yield "sparse", x.to_sparse()
    yield "shrunk", freed
    yield "columns apart", torch.stack([x, x], 2)[:, :, 0]
    yield "no rows", x[:0]
    yield "another size", x[:, 1:]
    yield "subclass", x.as_subclass(type("Sub", (torch.Tensor,), {}))
    yield "no tensor", x.numpy()


@pytest.mark.parametrize(("name", "x"), list(strange_inputs()))
def test_what_is_not_plain_is_left_to_others(name, x):
    native, _, _ = native_of(RecurrentSpec("gru", SIZE, SIZE))
    plain = normal(0, 2, SIZE)
    assert native.run_tensors(plain, plain, None, True, False, False) is not None
    assert native.run_tensors(x, None, None, True, False, False) is None
    if name != "columns apart":  # a state is copied
        assert native.run_tensors(plain, x, None, True, False, False) is None
    assert native.run_tensors(plain, None, plain, True, False, False) is None  # no c in a GRU


def test_states_and_gradients_of_any_layout_are_copied():
    module = treadle.torch.LSTMCell(SIZE, SIZE)
    wide = normal(0, 2, SIZE, 2)
    x, h, c = normal(1, 2, SIZE), wide[:, :, 0], wide[:, :, 1]
    found = []
    for dense in (False, True):
        for _ in range(2):
            module.zero_grad()
            state = (h.contiguous(), c.contiguous()) if dense else (h, c)
            results = module(x, state)
            sum(r.sum() for r in results).backward()  # expanded gradients
        found.append([*results, *(p.grad for p in module.parameters())])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("change", ["memory", "shape", "dtype", "stride", "storage", "kind"])
def test_places_hold_as_long_as_nothing_moves(change):
    tensors = tuple(torch.nn.Parameter(normal(i, 6, 6).clone()) for i in range(2))
    places = _core.Places(tensors)
    assert places.hold(tensors)
    assert not places.hold(tensors[:1])
    assert not places.hold((None, None))
    weight = tensors[1]
    if change == "memory":
        weight.data = weight.data.clone()
    elif change == "shape":
        weight.data = weight.data.view(4, 9)
    elif change == "dtype":
        weight.data = weight.data.view(torch.int32).view(torch.float32).double()
    elif change == "stride":
        weight.data = weight.data.t()
    elif change == "storage":
        weight.untyped_storage().resize_(8)
    else:
        tensors = (tensors[0], weight.detach())
    assert not places.hold(tensors)
    with pytest.raises(TypeError):
        _core.Places((np.zeros(3),))


def placed(kind):
    """A module whose weights have been placed by calls before, and the arguments of a call."""
    torch.manual_seed(0)
    module = getattr(treadle.torch, kind)(SIZE, SIZE)
    x = normal(0, 2, SIZE) if kind in CELLS else normal(0, 1, 2, SIZE)
    with torch.no_grad():
        for _ in range(3):
            module(x)
    module(x)
    return module, x


@pytest.mark.filterwarnings("ignore:treadle.torch")  # which say that something else runs
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("kind", [*CELLS, *SEQUENCES])
class TestAtWork:
    """After the short way has been taken, what is at work is seen as in the first call."""

    def test_autocast(self, kind, grad):
        module, x = placed(kind)
        with torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16):
            theirs = flat(module.theirs.forward(module, x))
            assert [t.dtype for t in flat(module(x))] == [t.dtype for t in theirs]

    def test_modes(self, kind, grad):
        module, x = placed(kind)
        with torch.set_grad_enabled(grad), FlopCounterMode(display=False) as counter:
            module(x)
        assert counter.get_total_flops() > 0

    def test_a_default_device(self, kind, grad):
        module, x = placed(kind)
        with torch.set_grad_enabled(grad), torch.device("meta"):
            found = flat(module(x))
        with torch.set_grad_enabled(grad):
            for a, b in zip(found, flat(module(x)), strict=True):
                assert torch.equal(a, b)

    def test_a_default_dtype(self, kind, grad):
        module, x = placed(kind)
        torch.set_default_dtype(torch.float64)
        try:
            with torch.set_grad_enabled(grad):
                assert all(t.dtype is torch.float32 for t in flat(module(x)))
        finally:
            torch.set_default_dtype(torch.float32)

    @pytest.mark.filterwarnings("ignore:.*torch.jit")  # of PyTorch itself
    def test_forward_mode(self, kind, grad):
        module, x = placed(kind)
        with torch.set_grad_enabled(grad), forward_ad.dual_level():
            y = flat(module(forward_ad.make_dual(x, torch.ones_like(x))))[0]
            assert forward_ad.unpack_dual(y).tangent is not None

    def test_transforms(self, kind, grad):
        module, x = placed(kind)
        with torch.set_grad_enabled(grad):
            together = torch.func.vmap(lambda x: flat(module(x))[0])(torch.stack([x, x + 1]))
            expected = torch.stack([flat(module(x))[0], flat(module(x + 1))[0]])
        torch.testing.assert_close(together, expected)

    def test_another_form(self, kind, grad):
        """An attribute that is assigned changes the form: the call has the new one, or fails."""
        module, x = placed(kind)
        with torch.set_grad_enabled(grad):
            module.hidden_size = SIZE - 1
            with pytest.raises((RuntimeError, ValueError)):
                module(x)

    def test_double_precision(self, kind, grad):
        module, x = placed(kind)
        with torch.set_grad_enabled(grad):
            module.double()
            assert all(t.dtype is torch.float64 for t in flat(module(x.double())))
