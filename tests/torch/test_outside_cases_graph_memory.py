"""Memory of compiled and exported models in training programs of other people, in bytes."""

import gc

import pytest
import torch

import treadle.torch
from support.memory import allocated
from treadle.torch import weight_cache

pytestmark = pytest.mark.usefixtures("no_warnings_before")

SIZE = 256


def compiled(module, x):
    return torch.compile(module, backend="aot_eager", fullgraph=True)


def exported(module, x):
    return torch.export.export(module, (x,)).module()


def called(run, x, trains):
    with torch.set_grad_enabled(trains):
        y = run(x)[0]
    if trains:
        y.sum().backward()
    return y.detach()


@pytest.mark.parametrize("trains", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("make", [compiled, exported])
def test_dropped_models_are_let_go(make, trains):
    """A program compiles one model after the other and drops each: what was packed for it goes with
    its weights (pytorch/pytorch#105181, pytorch/pytorch#104095)."""
    x, before, size = torch.ones(3, 2, SIZE), 0, 0
    torch.compiler.reset()
    for _ in range(3):
        module = treadle.torch.LSTM(SIZE, SIZE)
        size = sum(p.nbytes for p in module.parameters())
        called(make(module, x), x, trains)
        del module
        gc.collect()
        gc.freeze()  # the next collection then takes no time for all that PyTorch has loaded
        before = before or allocated()
    gc.unfreeze()
    assert allocated() - before < size  # two models, each with a copy and a packed copy, have 4


@pytest.mark.parametrize("trains", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("make", [compiled, exported])
def test_living_models_are_packed_once(make, trains, monkeypatch):
    """While a model lives, its layers are packed for the first call, and again where weights have
    changed; the results are those of the module."""
    packs = []
    own = weight_cache.PackedLayer.__init__
    monkeypatch.setattr(weight_cache.PackedLayer, "__init__", lambda *a: packs.append(1) or own(*a))
    torch.compiler.reset()
    module, x = treadle.torch.GRU(8, 8, num_layers=2), torch.ones(13, 2, 8)
    run = make(module, x)
    for _ in range(3):
        y = called(run, x, trains)
    assert len(packs) == 2
    assert torch.equal(y, module(x)[0])
    module.weight_hh_l0.data.mul_(0.5)
    assert torch.equal(called(run, x, trains), module(x)[0])


def test_layers_in_one_storage_have_packings_of_their_own():
    """Flat buffers of parameters hold the weights of many layers (apex, DeepSpeed, FSDP)."""
    x, found = torch.ones(3, 2, 8), []
    modules = torch.nn.ModuleList([treadle.torch.GRU(8, 8) for _ in range(3)])
    flat = torch.cat([p.detach().flatten() for p in modules.parameters()])
    start = 0
    for parameter in modules.parameters():
        parameter.data = flat[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
    for module in modules:
        torch.compiler.reset()
        found.append(called(compiled(module, x), x, False))
        assert torch.equal(found[-1], module(x)[0])
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("kind", ["GRU", "RNN"])
def test_outputs_are_changed_in_place_inside_and_behind_a_graph(kind):
    """As PyTorch's GRU and RNN let a program do it, which break the graph."""
    torch.compiler.reset()
    module, x = getattr(treadle.torch, kind)(5, 8), torch.ones(4, 2, 5)
    inside = torch.compile(
        lambda x: module(x)[0].mul_(2).relu_(), backend="aot_eager", fullgraph=True
    )
    behind = compiled(module, x)
    found = []
    for run in (
        lambda: (module(x)[0] * 2).relu(),
        lambda: inside(x),
        lambda: behind(x)[0].mul_(2).relu_(),
    ):
        module.zero_grad()
        run().square().sum().backward()
        found.append([p.grad for p in module.parameters()])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.equal(a, b)
