"""Short calls of treadle.torch read weights where they lie: never those of an earlier moment, and
with the bits of packed weights."""

import copy
import gc
import weakref

import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils import parametrizations

import treadle.torch
from treadle.torch import weight_cache

SIZE = 20
SEQUENCES = ["GRU", "LSTM", "RNN"]
CELLS = ["GRUCell", "LSTMCell", "RNNCell"]


def made(kind, **options):
    torch.manual_seed(0)
    return getattr(treadle.torch, kind)(SIZE, SIZE, **options)


def called(module, x):
    """The results of one step from a state that is not zero, as a list; x is [B, I]."""
    cell = isinstance(module, torch.nn.RNNCellBase)
    rows = (len(x), SIZE)
    h = torch.full(rows if cell else (len(module.all_weights), *rows), 0.5)
    lstm = isinstance(module, (torch.nn.LSTM, torch.nn.LSTMCell))
    found = module(x if cell else x[None], (h, h) if lstm else h)
    flat = []
    for part in found if isinstance(found, tuple) else (found,):
        flat.extend(part if isinstance(part, tuple) else (part,))
    return [t.detach().clone() for t in flat]


def packed(monkeypatch, module, x):
    """The results of a new module with the same weights, packed for this call."""
    with monkeypatch.context() as patched:
        patched.setattr(weight_cache, "reads_weights", lambda *_: False)
        return called(copy.deepcopy(module), x)


def same(found, expected):
    return all(
        torch.equal(a.view(torch.int32), b.view(torch.int32))
        for a, b in zip(found, expected, strict=True)
    )


def write_data(module):
    module.weight_hh.data[3, 2] += 1


def assign_data(module):
    module.weight_ih.data = module.weight_ih.data * 0.5


def write_view(module):
    module.weight_ih.detach().view(-1)[7:9].fill_(0.25)


def write_numpy(module):
    module.bias_hh.detach().numpy()[-1] += 2


def optimize(module):
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    found = module(torch.ones(1, SIZE))
    (found[0] if isinstance(found, tuple) else found).sum().backward()
    optimizer.step()


def load(module):
    module.load_state_dict({k: v * 2 for k, v in module.state_dict().items()})


def assign(module):
    module.load_state_dict({k: v * 2 for k, v in module.state_dict().items()}, assign=True)


def swap(module):
    other = torch.nn.Parameter(torch.full_like(module.weight_hh, 0.125))
    torch.utils.swap_tensors(module.weight_hh, other)


def parametrize(module):
    parametrizations.weight_norm(module, "weight_hh")


def write_parametrized(module):
    parametrize(module)
    called(module, torch.ones(1, SIZE))
    module.parametrizations.weight_hh.original0.data.mul_(3)


def delete(module):
    del module.weight_ih
    module.weight_ih = torch.nn.Parameter(torch.full((module.bias_ih.shape[0], SIZE), 0.0625))


def resize(module):
    """fully_shard frees a storage and fills it again between two calls."""
    storage = module.weight_ih.untyped_storage()
    values = module.weight_ih.detach().clone()
    size = storage.nbytes()
    storage.resize_(0)
    gc.collect()
    storage.resize_(size)
    with torch.no_grad():
        module.weight_ih.copy_(values + 1)


def stride(module):
    module.weight_hh.data = module.weight_hh.data.t().contiguous().mul_(0.5).t()


WRITES = [write_data, assign_data, write_view, write_numpy, optimize, load, assign, swap,
          parametrize, write_parametrized, delete, resize, stride]  # fmt: skip


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_sees_every_write(kind, write, monkeypatch):
    module, x = made(kind), torch.randn(2, SIZE)
    before = called(module, x)
    assert same(before, packed(monkeypatch, module, x))
    write(module)
    after = called(module, x)
    assert same(after, packed(monkeypatch, module, x))
    assert write is parametrize or not same(after, before)


@pytest.mark.parametrize("kind", SEQUENCES)
def test_a_sequence_sees_every_write(kind, monkeypatch):
    module = made(kind, num_layers=2, bidirectional=True)
    x = torch.randn(1, SIZE)
    before = called(module, x)
    for parameter in module.parameters():
        parameter.data.view(-1)[-1] += 1  # PyTorch's version counter does not see this
        after = called(module, x)
        assert same(after, packed(monkeypatch, module, x))
        assert not same(after, before)
        before = after


@pytest.mark.parametrize("kind", SEQUENCES)
def test_bits_do_not_depend_on_the_length_of_a_call(kind):
    """A long call packs, a short one does not: a sequence is the same in pieces."""
    module, x = made(kind), torch.randn(40, 1, SIZE)
    with torch.no_grad():
        whole, _ = module(x)
        pieces, state = [], None
        for step in x.split(1):
            y, state = module(step, state)
            pieces.append(y)
    assert torch.equal(torch.cat(pieces), whole)


@pytest.mark.parametrize("kind", CELLS)
def test_gradients_of_ten_steps_are_pytorchs(kind):
    ours = made(kind)
    theirs = getattr(torch.nn, kind)(SIZE, SIZE)
    theirs.load_state_dict(ours.state_dict())
    xs = torch.randn(10, 2, SIZE)
    for module in (ours, theirs):
        state = None
        for x in xs:
            state = module(x, state)
        (state[0] if isinstance(state, tuple) else state).pow(2).sum().backward()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)


def test_a_write_before_backward_is_noticed():
    module, x = made("GRU"), torch.randn(1, 1, SIZE)
    y, _ = module(x)
    with torch.no_grad():
        module.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_short_calls_pack_nothing_and_long_calls_pack(monkeypatch):
    packs = []
    own = weight_cache.PackedLayer.__init__
    monkeypatch.setattr(weight_cache.PackedLayer, "__init__", lambda *a: packs.append(1) or own(*a))
    module = made("GRU", batch_first=True)
    module(torch.randn(2, 1, SIZE))
    assert not packs
    module(torch.randn(2, 100, SIZE))
    assert len(packs) == 1


def test_another_activation_is_another_layer():
    cell, x = made("RNNCell"), torch.randn(1, SIZE)
    first = cell(x)
    cell.nonlinearity = "relu"
    assert (cell(x) >= 0).all()
    assert not torch.equal(cell(x), first)


def test_a_dropped_module_is_let_go():
    """The native layer that reads a module's weights keeps their memory no longer than the module
    lives."""
    module = made("GRU")
    module(torch.randn(1, 1, SIZE))
    storage = module.weight_ih_l0.untyped_storage()
    gone = weakref.ref(storage)
    del storage, module
    gc.collect()
    assert gone() is None
