"""StreamPool: each stream has the bits that it has alone, whoever else is in a call."""

import copy
import gc
import pickle
import sys
import threading

import numpy as np
import pytest

import treadle
from support import child, hostile, samples
from support.checks import CELLS, MODULES
from support.memory import allocated
from support.tolerance import assert_same_bits, flatten

INPUT, H = 6, 20
CASES = {
    "rnn": ("rnn", {"nonlinearity": "relu"}),
    "rnn-L2-int8": ("rnn", {"num_layers": 2, "dtype": "int8"}),
    "lstm": ("lstm", {}),
    "lstm-L3-P": ("lstm", {"num_layers": 3, "proj_size": 5}),
    "lstm-options": ("lstm", {"use_peepholes": True, "clip": 1.0, "dtype": "bfloat16"}),
    "gru-L2": ("gru", {"num_layers": 2}),
    "gru-before": ("gru", {"reset_after": False, "batch_first": True}),
}
every_case = pytest.mark.parametrize("case", CASES)


def module_of(case, seed=0):
    mode, options = CASES[case]
    return MODULES[mode](INPUT, H, seed=seed, **options)


def alone(module, x, start=None):
    """The outputs and the final state of one stream that nobody else is with."""
    stream = module.stream()
    if start is not None:
        stream.state = start
    return stream.run(x[:, None])[:, 0], stream.state


@every_case
def test_any_company_gives_the_bits_of_a_stream_alone(isa, threads, case):
    """Random streams in random order with random chunks, in each of the forms of a call."""
    module, rng = module_of(case), np.random.default_rng(7)
    pool = treadle.StreamPool(module, 24)
    streams = [pool.open() for _ in range(24)]
    inputs = [samples.normal([5, i], 60, INPUT) for i in range(24)]
    at, found = [0] * 24, [[] for _ in range(24)]
    for turn in range(14):
        chosen = rng.permutation(24)[: rng.integers(1, 25)].tolist()
        if turn % 3 == 0:  # a frame for each
            ids = np.array([streams[i].id for i in chosen])
            y = pool.step(ids, np.stack([inputs[i][at[i]] for i in chosen]))
            results, lengths = [one[None] for one in y], [1] * len(chosen)
        elif turn % 3 == 1:  # a chunk of the same length for each
            lengths = [int(rng.integers(0, 4))] * len(chosen)
            x = np.stack([inputs[i][at[i] : at[i] + lengths[0]] for i in chosen])
            results = list(pool.step([streams[i] for i in chosen], x))
        else:
            lengths = rng.integers(0, 5, len(chosen)).tolist()
            frames = {
                streams[i]: inputs[i][at[i] : at[i] + n]
                for i, n in zip(chosen, lengths, strict=True)
            }
            y = pool.step(frames)
            results = [y[streams[i]] for i in chosen]
        for i, y, n in zip(chosen, results, lengths, strict=True):
            found[i].append(y)
            at[i] += n
    for i, stream in enumerate(streams):
        y, state = alone(module, inputs[i][: at[i]])
        assert at[i] > 5
        assert_same_bits(np.concatenate(found[i]), y)
        assert_same_bits(stream.state, [part[:, 0] for part in flatten(state)])


@every_case
def test_a_stream_is_the_whole_sequence(isa, case):
    module = module_of(case)
    x = samples.normal(3, 30, 4, INPUT)
    whole = module(x.swapaxes(0, 1))[0].swapaxes(0, 1) if module.batch_first else module(x)[0]
    pool = treadle.StreamPool(module, 4)
    with pool.open() as first:
        first.push(x[0, 0])  # another stream had the place before
    ids = [pool.open() for _ in range(4)]
    parts = [pool.step(ids, np.ascontiguousarray(x[t].copy()))[:, None] for t in range(5)]
    parts.append(pool.step(ids, x[5:].swapaxes(0, 1)))
    assert_same_bits(np.concatenate(parts, axis=1).swapaxes(0, 1), whole)


@pytest.mark.parametrize("mode", samples.MODES)
def test_cells(isa, mode):
    cell = CELLS[mode](INPUT, H, seed=0)
    pool, twin = treadle.StreamPool(cell, 3), cell.stream(3)
    ids, x = [pool.open() for _ in range(3)], samples.normal(1, 4, 3, INPUT)
    for x_t in x:
        assert_same_bits(pool.step(ids, x_t), twin.step(x_t))
    assert_same_bits(ids[1].state, [part[1] for part in flatten(twin.state)])


def test_frames_of_other_kinds():
    module = module_of("gru-L2")
    pool = treadle.StreamPool(module, 2)
    x = samples.normal(1, 2, 3, INPUT)
    expected = [alone(module, one)[0] for one in x]
    for frames in (np.asfortranarray(x), x.tolist(), x[::-1][::-1], x.astype(">f4"), tuple(x)):
        ids = [pool.open() for _ in range(2)]
        assert_same_bits(list(pool.step(ids, frames)), expected)
        assert_same_bits(ids[0].push(list(x[0, 0])), alone(module, x[0, [0, 1, 2, 0]])[0][3])
        for stream in ids:
            stream.close()
    assert pool.step([], np.empty((0, INPUT), np.float32)).shape == (0, H)
    assert pool.step({}) == {}


def test_states_are_set_reset_and_copied():
    module = module_of("lstm-L3-P")
    pool = treadle.StreamPool(module, 3)
    x = samples.normal(1, 5, INPUT)
    start = samples.states("lstm", [3], 1, H, proj_size=5)
    begun = pool.open(state=[part[:, 0] for part in start])
    y, end = alone(module, x, start)
    assert_same_bits(begun.push(x), y)
    assert_same_bits(begun.state, [part[:, 0] for part in end])
    other = pool.open()
    other.state = begun.state
    assert_same_bits(other.push(x), begun.push(x))
    other.reset()
    assert_same_bits(other.push(x), alone(module, x)[0])
    taken = begun.state
    taken[0][:] = 9
    assert not np.any(begun.state[0] == 9)


@every_case
def test_exported_states_go_to_pools_and_streams(case):
    module, x = module_of(case), samples.normal(1, 6, INPUT)
    pool = treadle.StreamPool(module, 2)
    stream = pool.open()
    stream.push(x[:3])
    data = stream.export()
    expected = stream.push(x[3:])
    assert_same_bits(treadle.StreamPool(module, 1).open(state=data).push(x[3:]), expected)
    single = module.stream()
    single.import_state(data)
    assert_same_bits(single.run(x[3:, None])[:, 0], expected)
    single.import_state(data)
    assert pool.open(state=bytearray(single.export_state())).export() == data


ELSEWHERE = """
import pathlib, sys, numpy as np, treadle
lstm = treadle.LSTM(6, 20, seed=3)
stream = treadle.StreamPool(lstm, 1).open(state=pathlib.Path(sys.argv[1]).read_bytes())
np.save(sys.argv[2], stream.push(np.arange(12, dtype=np.float32).reshape(2, 6) / 12))
"""


def test_a_state_moves_between_processes(tmp_path):
    stream = treadle.StreamPool(treadle.LSTM(6, 20, seed=3), 1).open()
    x = np.arange(12, dtype=np.float32).reshape(2, 6) / 12
    stream.push(x)
    (tmp_path / "state").write_bytes(stream.export())
    child.succeed(ELSEWHERE, tmp_path / "state", tmp_path / "y.npy")
    assert_same_bits(np.load(tmp_path / "y.npy"), stream.push(x))


def test_hostile_states_are_refused():
    """Nothing is opened by a state that is damaged, or another model's."""
    pool = treadle.StreamPool(module_of("lstm"), 2)
    stream = pool.open()
    stream.push(samples.normal(1, 3, INPUT))
    data = stream.export()
    for name, variant in hostile.variants(data).items():
        if name == "many tensors":
            continue  # it takes seconds; tests/layers/test_stream.py has the same reader
        with pytest.raises(ValueError, match="state"):
            pool.open(state=variant)
        assert pool.stats()["open"] == 1, name
    other = treadle.StreamPool(module_of("lstm", seed=9), 1)
    with pytest.raises(ValueError, match="other weights"):
        other.open(state=data)
    wrong = [
        (TypeError, np.zeros((1, H), np.float32)),
        (ValueError, (np.zeros((1, H), np.float32), np.zeros((1, H + 1), np.float32))),
        (TypeError, (np.zeros((1, H)), np.zeros((1, H)))),
        (TypeError, 5),
    ]
    for kind, state in wrong:
        with pytest.raises(kind, match="state"):
            pool.open(state=state)
        with pytest.raises(kind, match="state"):
            stream.state = state
    assert stream.export() == data


def test_stale_handles_are_refused():
    """Whoever has the place now is neither read nor changed."""
    module = module_of("gru-L2")
    pool = treadle.StreamPool(module, 1)
    old = pool.open()
    old.push(samples.normal(1, 2, INPUT))
    old.close()
    old.close()
    new = pool.open()
    new.push(samples.normal(2, 2, INPUT))
    before = new.export()
    x = np.ones(INPUT, np.float32)
    stranger = treadle.StreamPool(module, 1).open()
    uses = [
        lambda s: s.push(x),
        lambda s: s.reset(),
        lambda s: s.export(),
        lambda s: s.state,
        lambda s: s.idle,
        lambda s: setattr(s, "state", new.state),
        lambda s: s.pool.step([s], x[None]),
        lambda s: s.pool.step({s: x}),
        lambda s: s.pool.stream(s.id),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="is not open"):
            use(old)
    for id in (stranger.id, 0, -1, 2**62, new.id + 1):
        with pytest.raises(ValueError, match="is not open"):
            pool.step([id], x[None])
    with pytest.raises(ValueError, match="occurs twice"):
        pool.step([new, new], np.stack([x, x]))
    assert not old.is_open
    assert new.is_open
    assert new.export() == before
    assert pool.stream(new.id).export() == before
    assert "closed" in repr(old)


def test_a_full_pool_says_so():
    pool = treadle.StreamPool(module_of("rnn"), 3)
    streams = [pool.open() for _ in range(3)]
    with pytest.raises(RuntimeError, match="all 3 streams are open"):
        pool.open()
    streams[1].close()
    assert pool.open().is_open
    with pytest.raises(RuntimeError, match="all 3 streams are open"):
        pool.open()


def test_idle_streams_are_evicted():
    pool = treadle.StreamPool(module_of("rnn"), 3, max_idle=0)
    first, second, third = (pool.open() for _ in range(3))
    x = np.ones(INPUT, np.float32)
    first.push(x)
    fourth = pool.open()  # takes the place of the one that was idle longest
    assert [s.is_open for s in (first, second, third, fourth)] == [True, False, True, True]
    assert pool.evict(3600) == 0
    assert third.idle < 3600
    assert pool.evict(0) == 3
    assert pool.stats()["evicted"] == 4
    patient = treadle.StreamPool(module_of("rnn"), 1, max_idle=3600.0)
    patient.open()
    with pytest.raises(RuntimeError, match="none idle for"):
        patient.open()


def test_statistics():
    pool = treadle.StreamPool(module_of("lstm"), 9)
    streams = [pool.open() for _ in range(4)]
    streams[3].close()
    x = samples.normal(1, 3, 5, INPUT)
    pool.step(streams[:3], x)
    pool.step({streams[0]: x[0, 0], streams[1]: x[1, :3]})
    with pytest.raises(ValueError, match="expected"):
        pool.step(streams[:3], x[:2])
    assert pool.stats() == {
        "capacity": 9, "open": 3, "opened": 4, "closed": 1, "evicted": 0,
        "calls": 2, "rows": 5, "frames": 19, "state_bytes": 2 * H * 4,
    }  # fmt: skip


def test_opening_and_closing_takes_no_memory():
    """After 10**5 of them the pool is as large as after the first thousand."""
    pool = treadle.StreamPool(module_of("gru-L2"), 50)
    x = np.ones((1, INPUT), np.float32)

    def turns(count):
        for _ in range(count):
            stream = pool.open()
            stream.close()
        pool.step([pool.open()], x)
        pool.evict(0)

    turns(1000)
    gc.collect()
    before = allocated()
    turns(100_000)
    gc.collect()
    assert allocated() - before < 2**20
    assert pool.stats()["opened"] == 101_002
    assert pool.stats()["open"] == 0


WRONG = {
    "capacity 0": (ValueError, lambda m, p, s: treadle.StreamPool(m, 0)),
    "capacity huge": (ValueError, lambda m, p, s: treadle.StreamPool(m, 2**40)),
    "capacity float": (TypeError, lambda m, p, s: treadle.StreamPool(m, 2.0)),
    "max_idle": (ValueError, lambda m, p, s: treadle.StreamPool(m, 2, max_idle=-1)),
    "max_idle nan": (ValueError, lambda m, p, s: treadle.StreamPool(m, 2, max_idle=float("nan"))),
    "evict text": (TypeError, lambda m, p, s: p.evict("1")),
    "no model": (TypeError, lambda m, p, s: treadle.StreamPool(None, 2)),
    "linear": (TypeError, lambda m, p, s: treadle.StreamPool(treadle.Linear(2, 2), 2)),
    "reverse": (ValueError, lambda m, p, s: treadle.StreamPool(treadle.RNN(2, 2, reverse=True), 2)),
    "no frames": (TypeError, lambda m, p, s: p.step([s])),
    "few frames": (ValueError, lambda m, p, s: p.step([s], [])),
    "wide": (ValueError, lambda m, p, s: p.step([s], np.ones((1, 7), np.float32))),
    "wide chunk": (ValueError, lambda m, p, s: p.step([s], np.ones((1, 2, 7), np.float32))),
    "wide list": (ValueError, lambda m, p, s: p.step([s], [np.ones((2, 7), np.float32)])),
    "deep": (ValueError, lambda m, p, s: p.step([s], np.ones((1, 1, 1, 6), np.float32))),
    "deep list": (ValueError, lambda m, p, s: p.step([s], [np.ones((1, 1, 6), np.float32)])),
    "huge view": (ValueError, lambda m, p, s: p.step([s], np.broadcast_to(np.float32(0), 2**40))),
    "float64": (TypeError, lambda m, p, s: p.step([s], np.ones((1, 6)))),
    "float64 list": (TypeError, lambda m, p, s: p.step([s], [np.ones(6)])),
    "push": (ValueError, lambda m, p, s: s.push(np.ones(7, np.float32))),
    "push deep": (ValueError, lambda m, p, s: s.push(np.ones((1, 1, 6), np.float32))),
    "push text": (TypeError, lambda m, p, s: s.push("x")),
    "float ids": (TypeError, lambda m, p, s: p.step([0.5], np.ones((1, 6), np.float32))),
    "deep ids": (ValueError, lambda m, p, s: p.step([[s.id]], np.ones((1, 6), np.float32))),
    "id": (TypeError, lambda m, p, s: p.stream("a")),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case):
    module = module_of("gru-L2")
    pool = treadle.StreamPool(module, 2)
    stream = pool.open()
    stream.push(np.ones(INPUT, np.float32))
    before = stream.export()
    kind, use = WRONG[case]
    with pytest.raises(kind, match=r"treadle\."):
        use(module, pool, stream)
    assert stream.export() == before


def test_weights_are_those_of_the_beginning():
    module = module_of("rnn")
    pool, x = treadle.StreamPool(module, 1), samples.normal(1, 4, INPUT)
    expected = alone(module, x)[0]
    module.load_state_dict({k: v + 1 for k, v in module.state_dict().items()})
    assert_same_bits(pool.open().push(x), expected)


def test_pools_and_their_streams_are_not_copied():
    """The error says what to do instead."""
    pool = treadle.StreamPool(module_of("rnn"), 1)
    for value, instead in ((pool, "export its streams"), (pool.open(), "use export and open")):
        for way in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=instead):
                way(value)


def test_threads_share_a_pool(threads):
    """Threads step their own streams, and one that all of them use, while others open and close."""
    module = module_of("lstm")
    pool = treadle.StreamPool(module, 16)
    shared = pool.open()
    inputs = [samples.normal([2, i], 40, INPUT) for i in range(3)]
    same = samples.normal(9, INPUT)
    errors, results = [], [None] * 3
    interval = sys.getswitchinterval()

    def steps(index):
        own, parts = pool.open(), []
        for x in inputs[index]:
            y = (
                pool.step({shared: same, own: x})
                if index % 2
                else pool.step({own: x, shared: same})
            )
            parts.append(y[own])
        results[index] = np.stack(parts)

    def churn():
        for _ in range(200):
            with pool.open() as stream:
                stream.push(same)

    def guarded(work, *arguments):
        try:
            work(*arguments)
        except BaseException as error:
            errors.append(error)
            raise

    sys.setswitchinterval(1e-6)
    try:
        workers = [threading.Thread(target=guarded, args=(steps, i)) for i in range(3)]
        workers += [threading.Thread(target=guarded, args=(churn,)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(interval)
    assert not errors
    for x, result in zip(inputs, results, strict=True):
        assert_same_bits(result, alone(module, x)[0])
    state = alone(module, np.tile(same, (120, 1)))[1]
    assert_same_bits(shared.state, [part[:, 0] for part in flatten(state)])


INTERRUPTED = """
import signal, threading, time
import numpy as np, treadle

signal.signal(signal.SIGALRM, signal.default_int_handler)
pool = treadle.StreamPool(treadle.LSTM(8, 512, seed=0), 2)
a, b = pool.open(), pool.open()
x, long = np.ones(8, np.float32), np.ones((400_000, 8), np.float32)

def interrupted(call):
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        call()
    except KeyboardInterrupt:
        return True
    return False

a.push(x)
before = a.export()
print(interrupted(lambda: pool.step({a: long, b: x})), a.export() == before, end=" ")
begun = threading.Event()
other = threading.Thread(target=lambda: (begun.set(), a.push(long)), daemon=True)
other.start()
begun.wait()
time.sleep(0.2)  # the other thread is in the midst of its call
print(interrupted(lambda: pool.step({b: x, a: x})), interrupted(a.close), end=" ")
b.push(x)  # who gave up has let go of the others
print(pool.evict(3600), other.is_alive(), flush=True)
import os
os._exit(0)
"""


def test_calls_hear_ctrl_c():
    """A step, and whoever waits for a stream that another thread steps; no state has changed."""
    assert child.succeed(INTERRUPTED) == "True True True True 0 True"


REENTERED = """
import signal
import numpy as np, treadle

pool = treadle.StreamPool(treadle.LSTM(8, 512, seed=0), 2)
a, b = pool.open(), pool.open()

def handler(*_):
    b.push(np.ones(8, np.float32))  # another stream may be used
    try:
        a.push(np.ones(8, np.float32))
    except RuntimeError as error:
        print(str(error).partition(",")[0], pool.evict(0), flush=True)
        raise KeyboardInterrupt
    signal.setitimer(signal.ITIMER_REAL, 0.05)  # the call below has not begun

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    a.push(np.ones((400_000, 8), np.float32))
except KeyboardInterrupt:
    print(a.is_open, b.is_open)
"""


def test_a_signal_handler_cannot_use_the_stream_it_interrupted():
    """It would wait for ever; a stream in a call is not evicted either, only the other one."""
    assert child.succeed(REENTERED) == (
        "treadle: the object is in the middle of a call that this one interrupted 1\nTrue False"
    )
