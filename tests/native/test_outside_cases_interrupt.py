"""Ctrl-C in calls that take long without computing: waiting, copying, reordering.

A signal arrives while the call is under way, and what it changes must be as before the call or as
after it. Nothing here measures time. tests/cpp/test_interrupt.cpp shows that these calls, and the
packing of weights, listen in their midst.
"""

import signal

import numpy as np
import pytest

import treadle
from support import child
from support.tolerance import assert_same_bits
from treadle._inputs import arrays

# `interrupted(call)` sends a signal after some milliseconds, whose handler is that of Ctrl-C, and
# returns whether the call ended with KeyboardInterrupt. If the call ended first, it is made again
# with an earlier signal.
INTERRUPTED = """
import signal, sys, threading, time
import numpy as np, treadle

def interrupted(call, seconds=0.05):
    for attempt in range(8):
        signal.setitimer(signal.ITIMER_REAL, seconds / 2**attempt)
        try:
            call()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            return True
    return False

signal.signal(signal.SIGALRM, signal.default_int_handler)
"""

WAITING = """
stream = treadle.LSTM(8, 512, seed=0).stream(1)
cache = treadle.KVCache(1, 1, 64, 400_000, dtype="int8")
x = np.zeros((1, 8), np.float32)
stop, begun = threading.Event(), threading.Event()

def hold_stream():
    long = np.zeros((1_000_000, 1, 8), np.float32)
    begun.set()
    stream.run(long)

other = threading.Thread(target=hold_stream, daemon=True)
other.start()
begun.wait()
time.sleep(0.2)  # the other thread is in the midst of its call
calls = {
    "step": lambda: stream.step(x),
    "run": lambda: stream.run(x[None]),
    "reset": lambda: stream.reset(),
    "state": lambda: stream.state,
}
print([name for name, call in calls.items() if not interrupted(call)], other.is_alive(), flush=True)
import os
os._exit(0)
"""


def test_waiting_for_a_stream():
    """A caller that waits while another thread has the stream hears Ctrl-C before its turn comes.

    This comes from a server whose requests queue at one stream, and whose operator stops it.
    """
    assert child.succeed(INTERRUPTED + WAITING) == "[] True"


LARGE = """
B, H = 20_000, 512
stream = treadle.GRU(4, H, seed=0).stream(B)
h = np.broadcast_to(np.float32(1), (1, B, H))
h = np.ascontiguousarray(h)
stream.reset(state=h)
other = np.full_like(h, 2)
print(interrupted(lambda: [stream.reset(state=other) for _ in range(3)]), end=" ")
got = stream.state
print(bool((got == got.ravel()[0]).all()), got.ravel()[0] in (1, 2), end=" ")
# A row that is chosen is changed at once, and only this row.
stream.reset([3], state=np.full_like(h, 5))
state = stream.state
print(state[0, 3].min() == 5, state[0, :3].max() < 5 and state[0, 4:].max() < 5)
"""


def test_states_are_set_whole_or_not_at_all():
    """A state of 40 MB is never a mixture of two."""
    assert child.succeed(INTERRUPTED + LARGE) == "True True True True True"


REORDER = """
dtype, B, N, K, E = sys.argv[1], 4, 4, 5_000, 128
cache = treadle.KVCache(B, N, E, K, dtype=dtype)
one = np.ones((B, N, K, E), np.float32)
x = one * np.arange(1, B + 1, dtype=np.float32)[:, None, None, None]
tokens = np.array([K, K - 1, K - 2, K - 3])
cache.append(x, x, lengths=tokens)
order = np.array([1, 2, 3, 0])

def beams():
    "The beam of each row, as its length, its keys and its values tell."
    lengths = [K + 1 - n for n in cache.lengths.tolist()]
    ends = [sorted({float(round(float(v), 2)) for v in (row[:, 0].min(), row[:, K - 4].max())})
            for array in (cache.keys, cache.values) for row in array]
    return lengths, ends

before = beams()
done = []
def call():
    for _ in range(40):
        cache.reorder(order)
        done.append(1)

print(interrupted(call), end=" ")
turns = len(done) % B
lengths, ends = beams()
expected = np.arange(1, B + 1)
whole = []
for extra in (0, 1):  # the signal may come between the end of a call and the next statement
    now = np.roll(expected, -(turns + extra))
    whole.append(lengths == now.tolist() and ends == [[float(n)] for n in now] * 2)
print(any(whole))
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_reorder_is_whole_or_nothing(dtype):
    """Beam search that is stopped keeps keys, values and lengths of the same beams together."""
    assert child.succeed(INTERRUPTED + REORDER, dtype) == "True True"


APPEND = """
K, E = 10_000, 128
cache = treadle.KVCache(2, 4, E, 16, dtype=sys.argv[1])
x = np.ones((2, 4, K, E), np.float32)
cache.append(x[:, :, :5], x[:, :, :5])
def call():
    for _ in range(4):
        cache.append(x, x)
print(interrupted(call), end=" ")
lengths = cache.lengths.tolist()
print(lengths[0] == lengths[1], (lengths[0] - 5) % K == 0, cache.keys.min() == cache.values.max())
"""


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_append_is_whole_or_nothing(dtype):
    """An append that grows the cache and is stopped leaves all rows with the tokens before it."""
    assert child.succeed(INTERRUPTED + APPEND, dtype) == "True True True True"


def test_copying(monkeypatch):
    """A strided array is copied in blocks, between which Ctrl-C is answered."""
    seen, blocks = [], arrays._blocks

    def watched(array):
        for index in blocks(array):
            seen.append(index)
            if len(seen) == 3:
                signal.raise_signal(signal.SIGINT)
            yield index

    monkeypatch.setattr(arrays, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(arrays, "_blocks", watched)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        treadle.RNN(4, 1, seed=0)(np.ones((100, 10, 8), np.float32)[..., ::2])
    signal.signal(signal.SIGINT, before)
    assert len(seen) == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x[:, ::2],
        lambda x: x.T,
        lambda x: x.astype(x.dtype.newbyteorder()),
        lambda x: x[..., None].swapaxes(0, 1),
        lambda x: np.broadcast_to(x[:1], (5, *x.shape[1:])),
        lambda x: x[:0],
        lambda x: x[0, 0],
    ],
)
@pytest.mark.parametrize("limit", [1, 64, 1000, 1 << 26])
def test_blocks_of_a_copy(monkeypatch, make, limit):
    """However small the blocks are, the copy is the array."""
    monkeypatch.setattr(arrays, "_BLOCK_BYTES", limit)
    x = make(np.random.default_rng(0).standard_normal((7, 12), np.float32))
    copy = arrays.copied(x, np.dtype(np.float32))
    assert copy.flags.c_contiguous or copy.ndim == 0
    assert not np.shares_memory(copy, x)
    np.testing.assert_array_equal(copy, x)
    bits = (np.arange(60, dtype=np.uint16) * 977).reshape(3, 4, 5)
    np.testing.assert_array_equal(arrays.widen(bits).view(np.uint32), bits.astype(np.uint32) << 16)


def test_copies_that_change_nothing():
    """A net reads a strided input as its copy."""
    x = np.random.default_rng(0).standard_normal((20, 3, 12), np.float32)
    module = treadle.GRU(6, 9, seed=0)
    assert_same_bits(module(x[..., ::2]), module(x[..., ::2].copy()))
