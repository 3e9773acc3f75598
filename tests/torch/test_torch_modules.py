"""treadle.torch: PyTorch's recurrent modules on treadle's kernels, beside PyTorch's own."""

import copy
import gc
import pickle
import warnings
import weakref

import numpy as np
import pytest
import torch

import treadle.torch
from support import samples
from support.torch_checks import (
    CELLS,
    SEQUENCES,
    assert_same_training,
    flat,
    inputs,
    pair,
)

pytestmark = pytest.mark.usefixtures("no_warnings_before")

OPTIONS = {
    "plain": {},
    "L2": {"num_layers": 2},
    "D2": {"bidirectional": True},
    "L3-D2": {"num_layers": 3, "bidirectional": True},
    "no-bias": {"bias": False, "num_layers": 2},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", SEQUENCES)
def test_training(isa, kind, options):
    theirs, ours = pair(kind, 5, 9, **OPTIONS[options])
    x, state = inputs(kind, theirs)
    assert_same_training(theirs, ours, x)
    assert_same_training(theirs, ours, x, state)


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # PyTorch's own
@pytest.mark.parametrize("options", [{"proj_size": 3}, {"proj_size": 3, "bidirectional": True}])
def test_projection(isa, options):
    theirs, ours = pair("LSTM", 5, 9, num_layers=2, **options)
    assert_same_training(theirs, ours, *inputs("LSTM", theirs))


def test_relu(isa):
    theirs, ours = pair("RNN", 5, 9, nonlinearity="relu", num_layers=2)
    assert_same_training(theirs, ours, *inputs("RNN", theirs))


@pytest.mark.parametrize("kind", SEQUENCES)
def test_batch_first_and_unbatched(kind):
    theirs, ours = pair(kind, 5, 9, batch_first=True, bidirectional=True)
    x, state = inputs(kind, theirs)
    assert_same_training(theirs, ours, x.transpose(0, 1), state)
    assert_same_training(theirs, ours, x[:, 0], tuple(s[:, 0] for s in state))


def pack(module, x, hx, lengths):
    data = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    y, state = module(data, hx)
    return torch.nn.utils.rnn.pad_packed_sequence(y, total_length=x.shape[0])[0], state


@pytest.mark.parametrize("kind", SEQUENCES)
def test_packed_sequences_and_lengths(isa, kind):
    theirs, ours = pair(kind, 5, 9, num_layers=2, bidirectional=True)
    x, state = inputs(kind, theirs)
    lengths = [3, 7, 1, 7, 4]
    packed = lambda m, x, hx: pack(m, x, hx, lengths)
    assert_same_training(theirs, ours, x, state, packed)
    direct = lambda m, x, hx: m(x, hx, lengths=torch.tensor(lengths))
    assert_same_training(theirs, ours, x, state, direct, packed)


@pytest.mark.parametrize("kind", SEQUENCES)
def test_packed_sequences_keep_their_form(kind):
    theirs, ours = pair(kind, 5, 9)
    rows = [torch.from_numpy(samples.normal(n, n, 5)) for n in (4, 2, 2)]
    for data in (
        torch.nn.utils.rnn.pack_sequence(rows),
        torch.nn.utils.rnn.pack_sequence(rows[::-1], enforce_sorted=False),
    ):
        y, _ = ours(data)
        expected, _ = theirs(data)
        assert torch.equal(y.batch_sizes, expected.batch_sizes)
        for ends in ("sorted_indices", "unsorted_indices"):
            a, b = getattr(y, ends), getattr(expected, ends)
            assert (a is None and b is None) or torch.equal(a, b)
        torch.testing.assert_close(y.data, expected.data)


@pytest.mark.parametrize("kind", CELLS)
def test_cells(isa, kind):
    theirs, ours = pair(kind, 5, 9)
    x = torch.from_numpy(samples.normal(0, 4, 5))
    state = tuple(
        torch.from_numpy(samples.normal(i, 4, 9)) for i in range(1 + (kind == "LSTMCell"))
    )
    assert_same_training(theirs, ours, x)
    assert_same_training(theirs, ours, x, state)
    assert_same_training(theirs, ours, x[0], tuple(s[0] for s in state))


def test_dropout_between_layers():
    """Dropout between layers is PyTorch's own: there is none in evaluation, and the same seed gives
    the same numbers."""
    _, ours = pair("GRU", 5, 9, num_layers=2, dropout=0.5)
    x = torch.from_numpy(samples.normal(0, 7, 5, 5))
    torch.manual_seed(3)
    first = ours(x)[0]
    torch.manual_seed(3)
    assert torch.equal(ours(x)[0], first)
    assert not torch.equal(ours(x)[0], first)
    ours.eval()
    assert torch.equal(ours(x)[0], ours(x)[0])


@pytest.mark.parametrize("kind", SEQUENCES)
def test_an_input_without_a_gradient(kind):
    """The input's gradient is not computed, and those of the weights have the same bits."""
    _, ours = pair(kind, 5, 9, num_layers=2, bidirectional=True)
    found = []
    for wanted in (True, False):
        x = torch.from_numpy(samples.normal(0, 7, 5, 5)).requires_grad_(wanted)
        ours.zero_grad()
        ours(x)[0].square().sum().backward()
        assert (x.grad is not None) == wanted
        found.append([p.grad.clone() for p in ours.parameters()])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


CHANGES = {
    "optimizer": lambda m: torch.optim.SGD(m.parameters(), lr=0.5).step(),
    "data": lambda m: m.weight_hh_l0.data.mul_(0.5),
    "data of an element": lambda m: m.weight_hh_l0.data.view(-1)[-1:].add_(10),
    "no_grad": lambda m: torch.no_grad()(lambda: m.bias_ih_l0.add_(1))(),
    "load_state_dict": lambda m: m.load_state_dict({k: v * 2 for k, v in m.state_dict().items()}),
    "another parameter": lambda m: setattr(
        m, "weight_ih_l0", torch.nn.Parameter(torch.zeros_like(m.weight_ih_l0))
    ),
    "numpy": lambda m: m.weight_ih_l0.detach().numpy().fill(0.25),
    "copy_": lambda m: torch.no_grad()(lambda: m.weight_ih_l0.copy_(torch.ones(27, 5)))(),
    "data of another tensor": lambda m: setattr(m.weight_hh_l0, "data", torch.ones(27, 9)),
    "data in another order": lambda m: setattr(
        m.weight_hh_l0, "data", m.weight_hh_l0.data.flatten().flip(0).view(9, 27).t()
    ),
    "set_": lambda m: torch.no_grad()(lambda: m.weight_hh_l0.set_(torch.ones(27, 9)))(),
    "shared memory": lambda m: (m.share_memory(), m.bias_hh_l0.data.add_(1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_packed_weights_follow_the_parameters(change):
    """A call sees every kind of write to the parameters; stale weights are the classic fault."""
    _, ours = pair("GRU", 5, 9)
    x = torch.from_numpy(samples.normal(0, 7, 5, 5))
    before = ours(x)[0]
    before.sum().backward()
    CHANGES[change](ours)
    after = ours(x)[0].detach()
    assert not torch.equal(after, before)
    fresh = treadle.torch.GRU(5, 9)
    fresh.load_state_dict(ours.state_dict())
    assert torch.equal(after, fresh(x)[0].detach())


CELL_CHANGES = {
    "data": lambda w: w.data.mul_(0.5),
    "data of another tensor": lambda w: setattr(w, "data", torch.ones(27, 9)),
    "no_grad": lambda w: torch.no_grad()(lambda: w.add_(1))(),
}


@pytest.mark.parametrize("change", CELL_CHANGES)
def test_packed_weights_of_a_cell_follow_the_parameters(change):
    _, ours = pair("GRUCell", 5, 9)
    x, h = torch.from_numpy(samples.normal(0, 3, 5)), torch.ones(3, 9)
    before = ours(x, h).detach()
    CELL_CHANGES[change](ours.weight_hh)
    after = ours(x, h).detach()
    assert not torch.equal(after, before)
    fresh = treadle.torch.GRUCell(5, 9)
    fresh.load_state_dict(ours.state_dict())
    assert torch.equal(after, fresh(x, h))


MISFITS = {
    "another shape": lambda w: w.view(9, 27),
    "less": lambda w: w[:-1],
    "more": lambda w: torch.cat([w, w]),
    "nothing": lambda w: w[:0],
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_parameter_that_no_longer_fits(misfit):
    """The parameter is the same object, in part with the same memory, and a call had packed it."""
    _, ours = pair("GRU", 5, 9)
    x = torch.from_numpy(samples.normal(0, 7, 5, 5))
    ours(x)
    ours.weight_hh_l0.data = MISFITS[misfit](ours.weight_hh_l0.data)
    with pytest.raises(ValueError, match=r"^treadle\.torch\.GRU: weight_hh "):
        ours(x)


def test_a_parameter_of_another_dtype_falls_back():
    _, ours = pair("GRU", 5, 9)
    ours.requires_grad_(False)
    x = torch.from_numpy(samples.normal(0, 7, 5, 5))
    ours(x)
    ours.weight_hh_l0.data = ours.weight_hh_l0.data.view(torch.int32)  # of the same memory
    with pytest.warns(UserWarning, match="int32"), pytest.raises((RuntimeError, ValueError)):
        ours(x)


def test_memory_that_moves_between_forward_and_backward():
    """The backward pass does not read memory where the weights lay in the forward pass."""
    _, ours = pair("GRU", 5, 9)
    x = torch.from_numpy(samples.normal(0, 7, 5, 5))
    found = []
    for move in (False, True):
        ours.zero_grad()
        y = ours(x)[0]
        if move:
            for parameter in ours.parameters():
                parameter.data = parameter.data.clone()
        y.square().sum().backward()
        found.append([p.grad.clone() for p in ours.parameters()])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_a_module_that_its_parameters_hold_is_freed():
    """A hook of a parameter may hold the module, which is freed nevertheless, since what was packed
    refers to the parameters weakly."""
    ours = treadle.torch.GRU(5, 9)
    ours.weight_hh_l0.register_hook(lambda gradient, module=ours: gradient)
    ours(torch.zeros(3, 2, 5))[0].sum().backward()
    seen = weakref.ref(ours)
    del ours
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("rows", ["all", "lengths"])
@pytest.mark.parametrize("kind", SEQUENCES)
def test_fifty_steps_stay_beside_torch(kind, rows):
    theirs, ours = pair(kind, 5, 16)
    x, target = (torch.from_numpy(samples.normal(i, 12, 8, n)) for i, n in enumerate((5, 16)))
    lengths = samples.lengths(12, 8, 0).clip(1) if rows == "lengths" else [12] * 8
    losses = []
    for module in (theirs, ours):
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
        losses.append([])
        for _ in range(50):
            optimizer.zero_grad()
            y = pack(module, x, None, lengths)[0] if rows == "lengths" else module(x)[0]
            loss = (y - target).square().mean()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0][-1] < losses[0][0] * 0.95
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


NANS = {
    "x": lambda m, x, state, seed: x[3, 1].fill_(np.nan),
    "an element of x": lambda m, x, state, seed: x[3, 1, 2].fill_(np.nan),
    "infinity in x": lambda m, x, state, seed: x[3, 1, 2].fill_(np.inf),
    "the last x": lambda m, x, state, seed: x[-1, 1].fill_(np.nan),
    "state": lambda m, x, state, seed: state[0][0, 1, 2].fill_(np.nan),
    "gradient": lambda m, x, state, seed: seed[3, 1, 2].fill_(np.nan),
    "infinite gradient": lambda m, x, state, seed: seed[3, 1, 2].fill_(np.inf),
    "input weight": lambda m, x, state, seed: m.weight_ih_l0.data[2, 1].fill_(np.nan),
    "state weight": lambda m, x, state, seed: m.weight_hh_l0.data[2, 1].fill_(np.nan),
    "bias": lambda m, x, state, seed: m.bias_hh_l0.data[4].fill_(np.nan),
}


@pytest.mark.parametrize("place", NANS)
@pytest.mark.parametrize("kind", [*SEQUENCES, "relu"])
def test_nan_goes_where_it_goes_in_torch(isa, kind, place):
    """Results and gradients have NaN in the same elements as PyTorch's, forward and backward."""
    # PyTorch's n + z * (h - n) makes NaN of an infinite gradient, which (1 - z) * n + z * h, the
    # formula that treadle computes, does not.
    fewer = (kind, place) == ("GRU", "infinite gradient")
    options = {"nonlinearity": "relu"} if kind == "relu" else {}
    kind = "RNN" if options else kind
    modules = pair(kind, 5, 9, **options)
    found = []
    for module in modules:
        x, state = inputs(kind, module)
        seed = torch.from_numpy(samples.normal(3, *x.shape[:2], 9))
        NANS[place](module, x, state, seed)
        leaves = [t.requires_grad_() for t in (x, *state)]
        y, end = module(x, tuple(state) if kind == "LSTM" else state[0])
        y.backward(seed)
        parts = [y, *flat(end), *(t.grad for t in (*leaves, *module.parameters()))]
        found.append([t.detach().isnan().numpy() for t in parts])
    names = ["y", "h_n", "c_n"][: 1 + len(state)] + ["x", "h_0", "c_0"][: 1 + len(state)]
    names += [name for name, _ in modules[0].named_parameters()]
    for name, theirs, ours in zip(names, *found, strict=True):
        if fewer:
            assert not (ours & ~theirs).any(), name
        else:
            np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_hooks_copies_and_pickles():
    _, ours = pair("LSTM", 5, 9)
    seen = []
    ours.register_forward_hook(lambda module, args, output: seen.append(type(module)))
    x = torch.from_numpy(samples.normal(0, 7, 5, 5))
    expected = ours(x)[0]
    assert seen == [treadle.torch.LSTM]
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(treadle.torch.LSTM(5, 9)))):
        other.load_state_dict(ours.state_dict())
        assert type(other) is treadle.torch.LSTM
        assert torch.equal(other(x)[0], expected)


FALL_BACKS = {
    "float64": (lambda m, x: m.double()(x.double()), "float64"),
    "bfloat16": (lambda m, x: m.bfloat16()(x.bfloat16()), "bfloat16"),
    "meta": (lambda m, x: m.to("meta")(x.to("meta")), "meta"),
}


@pytest.mark.parametrize("case", FALL_BACKS)
@pytest.mark.parametrize("kind", SEQUENCES)
def test_what_treadle_cannot_do_runs_on_torch_and_says_so_once(kind, case):
    theirs, ours = pair(kind, 5, 9)
    call, reason = FALL_BACKS[case]
    x = torch.from_numpy(samples.normal(0, 7, 5, 5))
    with pytest.warns(UserWarning, match=rf"^treadle\.torch\.{kind}: a tensor is .*{reason}"):
        y, _ = call(ours, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(ours, x)
    expected, _ = call(theirs, x)
    assert y.dtype == expected.dtype
    assert y.device.type == "meta" or torch.equal(y, expected)


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "state"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", SEQUENCES)
def test_lengths_where_torch_runs(kind, batch_first, given):
    """Lengths mean the same where PyTorch's forward runs as where treadle's does; rows may have no
    step, and then their input does not matter."""
    _, ours = pair(kind, 5, 9, num_layers=2, bidirectional=True, batch_first=batch_first)
    x, state = inputs(kind, ours)
    x = x.transpose(0, 1) if batch_first else x
    lengths, found = torch.tensor([0, 7, 1, 0, 4]), []
    for dtype in (torch.float32, torch.float64):
        own = copy.deepcopy(ours).to(dtype)
        leaves = [t.detach().to(dtype).clone().requires_grad_() for t in (x, *state)]
        hx = tuple(leaves[1:]) if kind == "LSTM" else leaves[1]
        with torch.no_grad():
            leaves[0].select(0 if batch_first else 1, 3).fill_(np.nan)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            outputs = flat(own(leaves[0], hx if given else None, lengths=lengths))
        assert [w.category for w in seen] == [UserWarning] * (dtype is torch.float64)
        sum((o.double() ** 2).sum() + o.double().sum() for o in outputs).backward()
        parts = [*leaves[: None if given else 1], *own.parameters()]
        found.append([t.detach().double() for t in (*outputs, *(p.grad for p in parts))])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", SEQUENCES)
@pytest.mark.filterwarnings("ignore:treadle.torch")
def test_wrong_lengths_where_torch_runs(kind):
    _, ours = pair(kind, 5, 9)
    x = torch.zeros(7, 3, 5)
    for module, data in ((ours, x), (copy.deepcopy(ours).double(), x.double())):
        for wrong in ([1, 2], [1, 2, 8], [1, -2, 3], [[1, 2, 3]], 4):
            with pytest.raises(ValueError, match=rf"^treadle\.torch\.{kind}: lengths"):
                module(data, lengths=wrong)
        with pytest.raises(TypeError, match=rf"^treadle\.torch\.{kind}: lengths "):
            module(data, lengths=[1.0, 2.0, 3.0])
        y, state = module(data[:, 0], lengths=[5])
        assert y.shape == (7, 9)
        assert not y[5:].any()
        assert flat(state)[0].shape == (1, 9)


def test_a_fallback_warns_of_the_callers_line():
    """The warning names the caller's line, not one of PyTorch's, whatever lies between: containers,
    hooks, accelerated models."""
    _, ours = pair("GRU", 5, 9)
    ours.register_forward_hook(lambda module, args, output: None)
    cell = treadle.torch.GRUCell(5, 9)
    x = torch.zeros(7, 3, 5).double()
    for model, data in ((torch.nn.Sequential(ours.double()), x), (cell.double(), x[0])):
        with pytest.warns(UserWarning, match="torch's own forward runs") as seen:
            model(data)
        assert [w.filename for w in seen] == [__file__]


def test_autocast_runs_torch():
    theirs, ours = pair("LSTM", 5, 9)
    x = torch.from_numpy(samples.normal(0, 7, 5, 5))
    with torch.autocast("cpu", torch.bfloat16):
        expected = theirs(x)[0]
        with pytest.warns(UserWarning, match="autocast"):
            y = ours(x)[0]
    assert y.dtype == expected.dtype
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("kind", SEQUENCES)
def test_wrong_arguments(kind):
    _, ours = pair(kind, 5, 9)
    x = torch.zeros(7, 3, 5)
    wrong = [
        lambda: ours(torch.zeros(7, 3, 4)),
        lambda: ours(torch.zeros(7)),
        lambda: ours(x, lengths=[1, 2]),
        lambda: ours(x, lengths=[1, 2, 8]),
        lambda: ours(x, lengths=[1, -2, 3]),
        lambda: ours(x, lengths=[1.0, 2.0, 3.0]),
        lambda: ours(torch.nn.utils.rnn.pack_sequence([x[:, 0]]), lengths=[7]),
    ]
    states = (torch.zeros(1, 4, 9),) * 2 if kind == "LSTM" else torch.zeros(1, 4, 9)
    wrong.append(lambda: ours(x, states))
    for call in wrong:
        with pytest.raises((ValueError, TypeError, RuntimeError)):
            call()


def test_changed_in_place_before_backward():
    """PyTorch's rule holds: what backward needs must not have changed."""
    _, ours = pair("GRU", 5, 9)
    y, _ = ours(torch.zeros(7, 3, 5))
    with torch.no_grad():
        ours.weight_hh_l0.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_backward_twice_and_of_parts():
    theirs, ours = pair("LSTM", 5, 9)
    x = torch.from_numpy(samples.normal(0, 7, 5, 5))
    for module in (theirs, ours):
        y, (_, c) = module(x)
        y.sum().backward(retain_graph=True)
        y.sum().backward(retain_graph=True)
        c.sum().backward()
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", SEQUENCES)
def test_traced_and_transformed(kind):
    """PyTorch's operators run under a transform."""
    theirs, ours = pair(kind, 5, 9)
    x = torch.from_numpy(samples.normal(0, 7, 3, 5))
    with pytest.warns(UserWarning, match="transform"):
        gradient = torch.func.grad(lambda x: ours(x)[0].sum())(x)
    torch.testing.assert_close(gradient, torch.func.grad(lambda x: theirs(x)[0].sum())(x))


def test_parametrized_weights():
    """A weight may be computed anew in every call, as weight_norm does it."""
    theirs, ours = pair("GRU", 5, 9)
    for module in (theirs, ours):
        torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
    ours.load_state_dict(theirs.state_dict())
    x = torch.from_numpy(samples.normal(0, 7, 3, 5))
    for module in (theirs, ours):
        module(x)[0].square().sum().backward()
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-6)
