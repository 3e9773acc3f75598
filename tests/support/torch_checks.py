"""treadle.torch's recurrent modules beside PyTorch's: pairs, inputs, and the same training."""

import copy

import numpy as np
import torch

import treadle.torch
from support import samples
from support.tolerance import EPS

SEQUENCES = ["RNN", "LSTM", "GRU"]
CELLS = ["RNNCell", "LSTMCell", "GRUCell"]


def pair(kind, *args, **options):
    """(PyTorch's module, treadle's with the same parameters)."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(*args, **options)
    ours = getattr(treadle.torch, kind)(*args, **options)
    assert str(ours.load_state_dict(theirs.state_dict(), strict=True)) == (
        "<All keys matched successfully>"
    )
    return theirs, ours


def flat(result):
    if isinstance(result, (tuple, list)):
        return [t for part in result for t in flat(part) if t is not None]
    return [result]


def gradients(module, x, state, run, dtype=torch.float32):
    """Outputs, and gradients of all parameters and inputs, of a random function of the outputs."""
    module = copy.deepcopy(module).to(dtype)
    leaf = lambda t: t.detach().to(dtype).requires_grad_()
    x = leaf(x)
    state = None if state is None else tuple(leaf(s) for s in state)
    hx = state[0] if state is not None and len(state) == 1 else state
    outputs = flat(run(module, x, hx))
    generator = torch.Generator().manual_seed(1)
    seeds = [torch.randn(o.shape, generator=generator, dtype=torch.float32) for o in outputs]
    sum((o * s.to(dtype)).sum() for o, s in zip(outputs, seeds, strict=True)).backward()
    found = [
        *outputs,
        x.grad,
        *(s.grad for s in state or ()),
        *(p.grad for p in module.parameters()),
    ]
    return [t.detach().numpy() for t in found]


def assert_same_training(
    theirs, ours, x, state=None, run=lambda m, x, hx: m(x, hx), reference=None
):
    """At most twice PyTorch's own float32 error plus 16 eps of the largest number of a kind."""
    reference = reference or run
    exact = gradients(theirs, x, state, reference, torch.float64)
    rounded = gradients(theirs, x, state, reference)
    actual = gradients(ours, x, state, run)
    assert len(actual) == len(exact)
    for mine, truth, other in zip(actual, exact, rounded, strict=True):
        assert mine.shape == truth.shape
        bound = 2 * np.abs(other - truth).max() + 16 * EPS * max(1, np.abs(truth).max())
        assert np.abs(mine - truth).max() <= bound


def inputs(kind, module, T=7, B=5):
    x = torch.from_numpy(samples.normal(0, T, B, module.input_size))
    L, D = module.num_layers, 1 + module.bidirectional
    sizes = [module.proj_size or module.hidden_size, module.hidden_size][: 1 + (kind == "LSTM")]
    state = tuple(torch.from_numpy(samples.normal(i, L * D, B, s)) for i, s in enumerate(sizes))
    return x, state
