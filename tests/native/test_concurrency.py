"""Several Python threads at once: on one module, on streams of their own, on one stream."""

import threading

import numpy as np
import pytest

import treadle
from support import samples
from support.checks import make_module
from support.threads import together
from support.tolerance import assert_same_bits, flatten

pytestmark = pytest.mark.usefixtures("switch_often")

SHAPES = [(40, 1, 8, 24), (12, 9, 20, 130)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=["T40-B1-I8-H24", "T12-B9-I20-H130"])
every_mode = pytest.mark.parametrize("mode", samples.MODES)


@shapes
@every_mode
def test_one_module(threads, mode, shape):
    t, b, i, h = shape
    module, _ = make_module(mode, i, h, num_layers=2, bidirectional=True)
    inputs = [samples.normal([3, k], t, b, i) for k in range(4)]
    expected = [module(x) for x in inputs]

    def work(index):
        return [module(inputs[index]) for _ in range(15)]

    for results, right in zip(together(work, 4), expected, strict=True):
        for result in results:
            assert_same_bits(result, right)


@shapes
@every_mode
def test_streams_of_their_own(threads, mode, shape):
    t, b, i, h = shape
    module, _ = make_module(mode, i, h, num_layers=2)
    inputs = [samples.normal([3, k], t, b, i) for k in range(4)]
    expected = [module(x) for x in inputs]

    def work(index):
        stream = module.stream(b)
        half = t // 2
        steps = [stream.step(x) for x in inputs[index][:half]]
        return np.concatenate([np.stack(steps), stream.run(inputs[index][half:])]), stream.state

    for result, right in zip(together(work, 4), expected, strict=True):
        assert_same_bits(result, right)


@shapes
@every_mode
def test_one_stream(mode, shape):
    """Steps with the same input: whatever their order, each happens once and whole."""
    t, b, i, h = shape
    module, _ = make_module(mode, i, h)
    x = samples.normal(3, b, i)
    stream, alone = module.stream(b), module.stream(b)
    expected = [alone.step(x) for _ in range(4 * t)]

    results = together(lambda _: [stream.step(x) for _ in range(t)], 4)

    assert_same_bits(stream.state, alone.state)
    seen = sorted(y.tobytes() for part in results for y in part)
    assert seen == sorted(y.tobytes() for y in expected)


@every_mode
def test_resets_and_reads_of_one_stream(mode):
    """A state read while others step is one that was: every row is the same number of steps old."""
    module, _ = make_module(mode, 8, 130)
    x = np.repeat(samples.normal(3, 1, 8), 6, axis=0)
    stream = module.stream(6)

    def work(index):
        for _ in range(60):
            if index == 0:
                stream.reset()
            elif index == 1:
                for part in flatten(stream.state):
                    np.testing.assert_array_equal(part, part[:, :1].repeat(6, axis=1))
            else:
                y = stream.step(x)
                np.testing.assert_array_equal(y, y[:1].repeat(6, axis=0))
        return True

    assert all(together(work, 4))


@every_mode
def test_loading_while_others_run(mode):
    """Every result is of the old weights or of the new ones, never of a mixture."""
    module, first = make_module(mode, 8, 40)
    second = {name: -value for name, value in first.items()}
    x = samples.normal(3, 30, 3, 8)
    old = module(x)[0].tobytes()
    module.load_state_dict(second)
    new = module(x)[0].tobytes()

    def work(index):
        if index == 0:
            for _ in range(20):
                module.load_state_dict(first)
                module.load_state_dict(second)
            return set()
        return {module(x)[0].tobytes() for _ in range(60)}

    assert set().union(*together(work, 3)) <= {old, new}


def test_number_of_threads_changes_while_others_run():
    module, _ = make_module("lstm", 20, 256)
    x, before = samples.normal(3, 12, 9, 20), treadle.get_num_threads()
    expected = module(x)

    def work(index):
        if index == 0:
            for n in (1, 2, 3, 1, 4, 2) * 5:
                treadle.set_num_threads(n)
            return []
        return [module(x) for _ in range(20)]

    for results in together(work, 3):
        for result in results:
            assert_same_bits(result, expected)
    treadle.set_num_threads(before)


CALLS = {
    "module": lambda m, x: m(x),
    "stream": lambda m, x: m.stream(x.shape[1]).run(x),
    "linear": lambda m, x: treadle.functional.linear(
        np.broadcast_to(x[0, 0], (40_000, x.shape[2])), samples.normal(0, 2000, x.shape[2])
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_the_gil_is_released(call):
    """While a long native call runs, this thread gets to run again and again."""
    module, _ = make_module("lstm", 64, 512)
    x = np.broadcast_to(samples.normal(3, 1, 4, 64), (2000, 4, 64))
    begun, turns = threading.Event(), 0

    def work():
        begun.set()
        CALLS[call](module, x)

    worker = threading.Thread(target=work)
    worker.start()
    begun.wait()
    while worker.is_alive():
        worker.join(0.001)
        turns += 1
    # With the GIL held through the call there are one or two turns, however long the call takes.
    assert turns > 20


def test_a_call_from_a_thread_that_ends():
    """Threads that come and go leave nothing behind that a later call trips over."""
    module, _ = make_module("gru", 20, 256)
    x = samples.normal(3, 12, 9, 20)
    expected, results = module(x), []
    for _ in range(20):
        worker = threading.Thread(target=lambda: results.append(module(x)))
        worker.start()
        worker.join()
    assert len(results) == 20
    for result in results:
        assert_same_bits(result, expected)
