"""Nothing grows and nothing is kept: steps, calls, modules, errors."""

import gc
import os
import tracemalloc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

import treadle
import treadle.torch
from support import samples
from support.checks import CELLS, MODULES, make_module
from support.systems import linux
from support.tolerance import flatten

PAGE = os.sysconf("SC_PAGE_SIZE")
every_mode = pytest.mark.parametrize("mode", samples.MODES)


def resident():
    """Bytes of memory of the process, native ones included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


# A leak of 16 bytes a step, the smallest there is, would be seen.
STEPS = 100_000
SLACK = 2**20
KEPT = 4096  # the same for some hundred calls
ROUNDS = 3  # what leaks does so in each of them; what an allocator or a cache keeps, it keeps once


def growth(work, times):
    """Bytes by which `times` calls of `work` make the process grow, when it is warm."""
    for _ in range(times // 10 + 10):
        work()
    for _ in range(ROUNDS):
        gc.collect()
        before = resident()
        for _ in range(times):
            work()
        gc.collect()
        grown = resident() - before
        if grown < SLACK:
            break
    return grown


def traced(work, times):
    """(bytes kept, bytes at the peak) by Python and NumPy over `times` calls of `work`.

    Each is the least of all rounds, since another thread of the process, such as one of the test
    runner, may allocate in one of them.
    """
    rounds = []
    tracemalloc.start()
    for _ in range(10):  # what stays is replaced by its like from the first of these calls on
        work()
    for _ in range(ROUNDS):
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(times):
            work()
        gc.collect()
        now, peak = tracemalloc.get_traced_memory()
        rounds.append((now - before, peak - before))
    tracemalloc.stop()
    kept, peaks = zip(*rounds, strict=True)
    return min(kept), min(peaks)


@linux
@every_mode
def test_steps(mode):
    module, _ = make_module(mode, 4, 8)
    stream, x = module.stream(1), samples.normal(0, 1, 4)
    assert growth(lambda: stream.step(x), STEPS) < SLACK
    out = stream.step(x)
    assert growth(lambda: stream.step(x, out=out), STEPS) < SLACK


@every_mode
def test_a_step_with_out_allocates_nothing(threads, mode):
    """Neither Python nor NumPy: the peak stays far below the smallest array of the step."""
    module, _ = make_module(mode, 64, 128, num_layers=2)
    stream, x = module.stream(32), samples.normal(0, 32, 64)
    out = stream.step(x)
    kept, peak = traced(lambda: stream.step(x, out=out), 200)
    assert kept < 1024
    assert peak < 2048 < x.nbytes


CALLS = {
    "call": lambda module, x: module(x),
    "lengths": lambda module, x: module(x, lengths=[3, 1]),
    "mask": lambda module, x: module(x, mask=np.ones((2, 3), bool)),
    "resets": lambda module, x: module(x, resets=np.ones((3, 2), bool)),
    "chunk": lambda module, x: module.stream(2).run(x),
    "reset": lambda module, x: module.stream(2).reset([1]),
    "state": lambda module, x: module.stream(2).state,
    "pickle": lambda module, x: module.__setstate__(module.__getstate__()),
    "load": lambda module, x: module.load_state_dict(module.state_dict()),
    "new": lambda module, x: type(module)(4, 8),
}


@pytest.mark.parametrize("call", CALLS)
@every_mode
def test_calls(mode, call):
    module, _ = make_module(mode, 4, 8)
    x = samples.normal(0, 3, 2, 4)
    assert growth(lambda: CALLS[call](module, x), 10_000) < SLACK
    kept, _ = traced(lambda: CALLS[call](module, x), 500)
    assert kept < KEPT


# Training.


def functional_step(mode):
    """Forward, backward, and weights that move: they are packed anew in every step."""
    (weight_ih, weight_hh, *biases), _ = samples.layer(mode, 4, 8)
    x = samples.normal(0, 5, 2, 4)
    forward, backward = (
        getattr(treadle.functional, f"{mode}_{way}") for way in ("forward", "backward")
    )

    def step():
        y, _, saved = forward(x, weight_ih, weight_hh, *biases, lengths=[5, 3])
        gradients = backward(saved, y)
        weight_hh[:] -= 1e-3 * gradients["weight_hh"]

    return step


def torch_step(kind, **options):
    """Return a step of training by a module of treadle.torch and an optimizer of PyTorch's."""
    module = getattr(treadle.torch, kind)(4, 8)
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    x = torch.zeros(*(5, 2, 4)["Cell" in kind :])

    def step():
        optimizer.zero_grad()
        first = module(x, **options)
        while isinstance(first, tuple):
            first = first[0]
        first.square().sum().backward()
        optimizer.step()

    return step


TRAINING = {mode: lambda mode=mode: functional_step(mode) for mode in samples.MODES}
TRAINING |= {
    "torch-RNN": lambda: torch_step("RNN"),
    "torch-LSTM": lambda: torch_step("LSTM", lengths=[5, 3]),
    "torch-GRUCell": lambda: torch_step("GRUCell"),
}


@pytest.mark.parametrize("case", TRAINING)
def test_training(case):
    """Ten thousand steps."""
    step = TRAINING[case]()
    assert growth(step, 10_000) < SLACK
    kept, _ = traced(step, 2000)  # PyTorch keeps a few KiB, more or less, for any number of steps
    assert kept < 16 * 2000


def test_large_graphs_are_freed():
    """With their saved steps, 20 MiB each, whether or not a backward pass follows."""
    module, x = treadle.torch.LSTM(4, 256), torch.zeros(1000, 4, 4)
    assert growth(lambda: module(x), 10) < 20 * 2**20
    assert growth(lambda: module(x)[0].sum().backward(), 10) < 20 * 2**20


def test_modules_of_torch_are_freed():
    """The weights that were packed for a module are freed with it."""

    def work():
        treadle.torch.LSTM(256, 512)(torch.zeros(1, 1, 256))[
            0
        ].sum().backward()  # 6 MiB, and 6 packed

    assert growth(work, 20) < 12 * 2**20


ERRORS = {
    "shape": lambda module: module(np.zeros((3, 2, 5), np.float32)),
    "dtype": lambda module: module(np.zeros((3, 2, 4))),
    "lengths": lambda module: module(np.zeros((3, 2, 4), np.float32), lengths=[4, 5]),
    "step": lambda module: module.stream(2).step(np.zeros((3, 4), np.float32)),
    "load": lambda module: module.load_state_dict({}),
    "native": lambda module: treadle._core.RecurrentStack(
        "f", [{}], mode="lstm", input_size=1, hidden_size=1
    ),
}


@pytest.mark.parametrize("error", ERRORS)
def test_errors(error):
    module, _ = make_module("lstm", 4, 8)

    def work():
        try:
            ERRORS[error](module)
        except (ValueError, TypeError, KeyError):
            return
        raise AssertionError("no error")

    assert growth(work, 10_000) < SLACK


@pytest.mark.parametrize("cls", [*MODULES.values(), *CELLS.values()], ids=lambda c: c.__name__)
def test_modules_are_freed(cls):
    """At once, by counting references: no cycles. The packed weights go with them."""
    gc.disable()
    module = cls(4, 8)
    module(samples.normal(0, 3, 4))
    packed = weakref.ref(module._packed.native) if weakrefable(module._packed.native) else None
    seen = weakref.ref(module)
    del module
    freed = seen() is None and (packed is None or packed() is None)
    gc.enable()
    assert freed


def weakrefable(value):
    return type(value).__weakrefoffset__ != 0


def test_large_modules_are_freed():
    """16 MiB of weights and as much packed, forty times."""

    def work():
        module = treadle.LSTM(512, 1024)
        module.stream(2).step(np.zeros((2, 512), np.float32))

    assert growth(work, 10) < 16 * 2**20


def test_a_stream_keeps_what_it_needs_and_no_more():
    module = treadle.LSTM(4, 8)
    seen, stream = weakref.ref(module), module.stream()
    del module
    stream.step(np.zeros((1, 4), np.float32))
    del stream
    gc.collect()
    assert seen() is None


@every_mode
def test_results_do_not_keep_the_module_or_the_input(mode):
    module, _ = make_module(mode, 4, 8)
    x = np.zeros((3, 2, 4), np.float32).view(Watched)
    seen, input_seen = weakref.ref(module), weakref.ref(x)
    results = flatten(module(x))
    del module, x
    gc.collect()
    assert seen() is None
    assert input_seen() is None
    assert all(np.isfinite(part).all() for part in results)


class Watched(np.ndarray):
    """An array that takes weak references, as all do, and says whose it is."""


def test_large_results_are_freed():
    module = treadle.GRU(4, 256)
    x = np.zeros((1000, 16, 4), np.float32)  # 16 MiB of output
    assert growth(lambda: module(x), 20) < 16 * 2**20
