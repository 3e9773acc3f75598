"""The benchmark's programs of Keras: the grid, limits by hand, workers that fail, tiny programs."""

import dataclasses
import importlib.util
import os
import signal

import keras as backend
import numpy as np
import pytest
import torch

from treadle.benchmarks.core import measure, peers, registry
from treadle.benchmarks.core.kind import Unsupported
from treadle.benchmarks.core.limits import Limit, Rates
from treadle.benchmarks.core.models.recurrent import work
from treadle.benchmarks.kinds import keras
from treadle.benchmarks.kinds.keras import (
    cases,
    data,
    programs,
    reference,
    starting,
    targets,
    ways,
    worker,
)
from treadle.benchmarks.kinds.keras.cases import FILE, FIT, KerasCase

GRID = keras.grid()


@pytest.fixture(scope="module", autouse=True)
def no_workers_left():
    """End the processes that the tests have started."""
    yield
    worker.close_all()


def tiny(group, cell="lstm", **more):
    steps = 3 if group == FIT else 1
    found = {"T": 4, "B": 2 if group == FIT else 1, "H": 5, "steps": steps} | more
    return KerasCase(group, cell, reason="tiny", **found)


@pytest.mark.parametrize("case", GRID, ids=lambda case: case.name)
def test_case_is_well_formed(case):
    assert case.reason
    assert cases.words(case)
    assert (case.steps > 1) == (case.group == FIT)
    assert bool(case.mask) == bool(case.lengths)
    if case.lengths:
        assert len(case.lengths) == case.B
        assert max(case.lengths) == case.T
    if case.group != FIT:
        assert case.B == 1


def test_the_grid_has_what_the_goal_names():
    fits = [case for case in GRID if case.group == FIT]
    first = fits[0]
    assert (first.cell, first.H, first.activation) == ("lstm", 50, "relu")
    assert (first.B, first.T, first.I, first.steps) == (32, 100, 1, 32)
    assert {case.cell for case in fits} == {"lstm", "gru", "rnn"}
    assert {case.mask for case in fits} == {"", cases.MASKING, cases.EMBEDDING}
    assert any(case.stateful for case in fits)
    assert any(case.D == 2 for case in fits)
    assert any(case.L == 2 for case in fits)
    held = {case.T: case.target_us for case in GRID if case.target_us}
    assert held == {100: 60.0, 1: 5.0}


def test_limits_by_hand():
    case = tiny(FIT)
    forward = 2 * 4 * 5 * (1 + 5) * 4 * 2  # every weight, for four steps of two rows
    assert keras.flops(case) == 3 * 3 * forward
    assert keras.limit(case, Rates(1000, lambda _: 1e12)).seconds == pytest.approx(
        9 * forward / 1000
    )
    reading = 4 * 4 * 5 * (1 + 4 * 5)  # bytes: the kernel once, the recurrent one at every step
    assert keras.bytes_read(case) == 2 * 3 * reading
    once = tiny(cases.CALL)
    assert keras.flops(once) == work.flops(once.net) == forward // 2
    assert keras.bytes_read(once) == reading
    assert keras.limit(once, Rates(1e12, lambda _: 100.0)).bound_by in keras.buffer_sizes(once)
    fit = keras.limit(case, Rates(1e15, lambda _: 1e15, lambda cell, activation: 2.0, 1.0))
    assert (fit.bound_by, fit.seconds) == ("chain", 1 + 3 * 4 * 2)  # three batches of four steps
    assert keras.target(once, Limit({}, 0.0, 0.0), Rates(1e9, float)) is None
    held = dataclasses.replace(once, target_us=60.0)
    assert keras.target(held, Limit({}, 0.0, 0.0), Rates(1e9, float)).allowed == pytest.approx(
        60e-6
    )


@pytest.mark.parametrize("case", GRID, ids=lambda case: case.name)
def test_samples_have_the_lengths_of_the_case(case):
    inputs = keras.arguments(case)
    count = case.B * case.steps if case.group == FIT else data.SAMPLES
    steps = case.T if case.T > 1 else data.LENGTH
    assert inputs.x.shape[:2] == (count, steps)
    assert inputs.y.shape == (count, 1)
    assert [w.shape for w in inputs.weights] == case.shapes
    for row, length in zip(inputs.x, case.lengths * case.steps, strict=False):
        assert not row[length:].any()
        assert (row[:length] != 0).all()
    again = keras.arguments(case)
    assert np.array_equal(inputs.x, again.x)
    assert inputs.y.std() > 0.01


def test_errors_are_found():
    want = [np.array([2.0, 4.0]), np.ones((2, 2))]
    assert reference.worst_error(want, [np.array([2.0, 4.4]), np.ones((2, 2))]) == pytest.approx(
        0.1
    )
    for wrong in (want[:1], [want[0], np.ones(4)], [want[0] * np.nan, want[1]]):
        assert reference.worst_error(want, wrong) == np.inf


def test_a_remote_call_is_timed_by_its_own_clock():
    asked = []

    def seconds(calls):
        asked.append(calls)
        return 0.5

    away = measure.Remote(lambda: pytest.fail("the way there is not timed"), seconds)
    here = []
    timed = measure.take_turns(
        {"away": away, "here": lambda: here.append(1)}, measure.Effort(1e-9, 0.0)
    )
    assert (timed["away"].median, timed["away"].calls) == (0.5, 1)
    assert set(asked) == {1}
    assert here
    assert measure.Remote(lambda: 3, seconds)() == 3


def test_a_worker_that_dies_is_an_error():
    one = worker.Worker(ways.WITHOUT, 1)
    try:
        assert one.ask("forget") is None
        os.kill(one._process.pid, signal.SIGKILL)
        with pytest.raises(worker.Failed, match=r"treadle.keras.load ended with status -9"):
            one.ask("forget")
        with pytest.raises(worker.Failed, match="ended with status -9"):
            one.ask("forget")
    finally:
        one.close()


def test_a_worker_that_cannot_start_says_why():
    one = worker.Worker("abacus", 1)
    try:
        with pytest.raises(worker.Failed, match=r"(?s)abacus ended with status 1.*KeyError"):
            one.ask("forget")
    finally:
        one.close()


def test_an_exception_in_a_worker_is_told_and_the_worker_goes_on():
    one = worker.Worker(ways.WITHOUT, 1)
    try:
        with pytest.raises(worker.Failed, match=r"(?s)treadle.keras.load: Traceback.*KeyError: 7"):
            one.ask("time", 7, 1)
        assert one.ask("forget") is None
    finally:
        one.close()
    assert one._process.returncode == 0


def test_a_closed_worker_is_started_again():
    first = worker.worker(ways.WITHOUT, 1)
    assert worker.worker(ways.WITHOUT, 1) is first
    worker.close_all()
    assert first._process.returncode is not None
    second = worker.worker(ways.WITHOUT, 1)
    assert second is not first
    worker.forget(ways.WITHOUT)


TINY = [
    tiny(FIT, activation="relu"),
    tiny(FIT, "gru"),
    tiny(FIT, "rnn"),
    tiny(FIT, mask=cases.MASKING, lengths=(4, 2)),
    tiny(FIT, mask=cases.EMBEDDING, lengths=(4, 2)),
    tiny(FIT, stateful=True),
    tiny(FIT, D=2, L=2),
    tiny(cases.PREDICT),
    tiny(cases.CALL, D=2),
    tiny(FILE),
    tiny(FILE, T=1),
]


@pytest.fixture
def here():
    """Let this process build programs, as the workers with the backend torch do."""
    before = backend.config.floatx(), backend.config.dtype_policy()
    with torch.inference_mode(False):  # which a peer of another kind may have begun
        yield programs.build
    backend.config.set_floatx(before[0])
    backend.config.set_dtype_policy(before[1])


@pytest.mark.parametrize("case", TINY, ids=lambda case: case.name)
def test_programs_agree_with_float64(case, here):
    inputs = keras.arguments(case)
    exact, plain = (
        here(data.Order(case, inputs, floatx=name), "torch") for name in ("float64", "float32")
    )
    want = reference.Expected(exact.answer(), 0.0)
    allowed = 2 * reference.worst_error(want.values, plain.answer()) + 4 * reference.EPS
    assert allowed < 1e-4
    for variant in ways.variants(case, "treadle"):
        order = data.Order(case, inputs, variant)
        for program in (here(order, "torch"), here(order, "torch", starting.accelerated)):
            for _ in range(2):  # each answer begins from the same weights
                assert reference.worst_error(want.values, program.answer()) <= allowed, variant
            program.restore()
            program.call()


def test_the_empty_layer_has_the_weights_of_an_lstm(here):
    case = dataclasses.replace(tiny(FIT), cell=cases.EMPTY)
    inputs = keras.arguments(case)
    before = here(data.Order(case, inputs), "torch")
    loss, *weights = before.answer()
    assert np.isfinite(loss).all()
    assert [w.shape for w in weights] == case.shapes
    assert not any(np.array_equal(w, v) for w, v in zip(weights, inputs.weights, strict=True))


def through_workers(name, case):
    """Check a case on a peer as a run does, and time it."""
    inputs = keras.arguments(case)
    want = keras.expected(case, inputs)
    peer = keras.peer(name)
    for variant in peer.variants(case, 1):
        prepared = peer.prepare(case, inputs, 1, variant)
        error = keras.error(want, keras.answer(case, prepared), prepared)
        assert error <= want.tolerance, (case, variant)
        assert measure.once(prepared.run) > 0
    peer.release()


@pytest.mark.parametrize("case", [tiny(FILE), tiny(FILE, T=1)], ids=lambda case: case.name)
def test_files_run_where_keras_is_not(case):
    through_workers("treadle", case)


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_other_backends_agree_with_the_reference(backend):
    pytest.importorskip(backend)
    name = f"keras_{backend}"
    for case in TINY:
        if case.stateful and backend == "jax":
            with pytest.raises(Unsupported, match="does not carry states"):
                keras.peer(name).prepare(case, keras.arguments(case), 1, "fit")
        else:
            through_workers(name, case)


def timed(case, **microseconds):
    return registry.about(case) | {
        "kind": "keras",
        "name": case.name,
        "results": {name: {"median_us": value} for name, value in microseconds.items()},
    }


def test_targets_against_keras(monkeypatch):
    program = timed(targets.PROGRAM, treadle=10.0, keras_torch=70.0, keras_jax=9.0)
    other = timed(GRID[1], treadle=10.0, keras_torch=40.0, keras_jax=1.0)
    file = timed(GRID[-1], treadle=10.0, keras_torch=1.0)
    alone = timed(GRID[2], treadle=10.0)
    monkeypatch.setattr(targets, "times", lambda case, threads: (0.1, 0.04))
    result = {"cases": [program, other, file, alone], "threads": 1}
    found = {(t.name, t.passed) for t in targets.run(result, "float32")}
    assert found == {
        (f"against keras_torch, {targets.PROGRAM.name}", True),
        (f"against keras_jax, {targets.PROGRAM.name}", False),
        (f"against keras_torch, {GRID[1].name}", False),
        (f"Keras' own loop, {targets.PROGRAM.name}", True),
    }
    assert list(targets.run(result, "int8")) == []
    assert list(targets.run({"cases": []}, "float32")) == []


def test_versions_are_found_without_an_import():
    assert peers.start("keras_torch", 1).partition(" on torch ")[2]
    if importlib.util.find_spec("tensorflow") is None:
        with pytest.raises(ImportError, match="tensorflow is not installed"):
            peers.start("keras_tensorflow", 1)


def test_what_is_missing_is_named(monkeypatch):
    assert keras.missing() == ""
    monkeypatch.setattr(keras, "NEEDED", ("keras", "no_such_package"))
    assert keras.missing() == "no no_such_package: pip install treadle[keras,torch]"


def test_the_kind_is_listed():
    assert "keras" in registry.KINDS
    assert registry.load("keras") is keras
    assert set(keras.PEERS) < set(registry.peers())
