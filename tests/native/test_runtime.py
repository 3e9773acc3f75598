"""The machine: ISA levels, number of threads, forks, signals, control word, idle workers."""

import os
import platform
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import treadle
from support import child, samples
from support.checks import make_module
from support.systems import linux
from support.tolerance import TINY, assert_same_bits, flatten

# /proc/cpuinfo has the features of the CPU under this name.
FEATURES = {"x86_64": "flags", "aarch64": "Features"}
# The kernels of a level are compiled for these features, which x86-64-v3 and x86-64-v4 (System V
# psABI) list; the names are those of Linux.
LEVELS = {
    "x86_64": {
        "portable": set(),
        "avx2": {"avx", "avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm"},
        "avx512": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
        "avx512_bf16": {"avx512_bf16", "avx512_vnni"},
        "amx": {"amx_tile", "amx_bf16", "amx_int8"},
    },
    "aarch64": {
        "portable": set(),
        "neon": {"asimd"},
        "neon_dotprod": {"asimddp"},
        "neon_i8mm": {"i8mm"},
        "neon_bf16": {"bf16"},
    },
}


@pytest.mark.skipif(
    platform.machine() not in LEVELS or not Path("/proc/cpuinfo").exists(),
    reason="nothing but Linux on x86-64 and 64-bit Arm says what the CPU has in /proc/cpuinfo",
)
def test_detection():
    """The levels follow from the flags in /proc/cpuinfo; each level asks for all below it.

    Tiles are looked for where TREADLE_ISA names no other level.
    """
    text = Path("/proc/cpuinfo").read_text()
    name, line = re.search(r"^(flags|Features)\s*:(.*)$", text, re.MULTILINE).groups()
    if name != FEATURES[platform.machine()]:
        pytest.skip("an emulator shows the CPU of its host in /proc/cpuinfo")
    flags = set(line.split())
    expected, needed = [], set()
    for level, own in LEVELS[platform.machine()].items():
        needed |= own
        wanted = level != "amx" or os.environ.get("TREADLE_ISA", "") in ("", "amx")
        if needed <= flags and wanted:
            expected.append(level)
    assert treadle.available_isas() == expected


def test_the_best_level_is_the_default():
    code = "import treadle; print(treadle.isa(), treadle.available_isas()[-1])"
    environment = {k: v for k, v in os.environ.items() if k != "TREADLE_ISA"}
    used, best = child.succeed(code, TREADLE_ISA="", **environment).split()
    assert used == best


FORCED = """
import numpy as np, treadle
x = np.linspace(-1, 1, 60, dtype=np.float32).reshape(4, 3, 5)
print(treadle.isa())
print(treadle.GRU(5, 19, seed=0)(x)[0].tobytes().hex())
"""


@pytest.mark.parametrize("level", treadle.available_isas())
def test_forcing_a_level(level):
    """TREADLE_ISA in the environment: the same bits as set_isa gives."""
    used, result = child.succeed(FORCED, TREADLE_ISA=level).split()
    assert used == level
    before = treadle.isa()
    treadle._core.set_isa(level)
    x = np.linspace(-1, 1, 60, dtype=np.float32).reshape(4, 3, 5)
    expected = treadle.GRU(5, 19, seed=0)(x)[0]
    treadle._core.set_isa(before)
    assert result == expected.tobytes().hex()


@pytest.mark.skipif("amx" not in treadle.available_isas(), reason="this CPU has no tiles")
def test_a_lower_level_avoids_tiles():
    """Linux is not even asked for them: ARCH_GET_XCOMP_PERM has no bit 18 (XTILEDATA) then."""
    code = (
        "import ctypes, treadle\nallowed = ctypes.c_uint64()\n"
        "print(*treadle.available_isas())\n"
        "assert ctypes.CDLL(None).syscall(158, 0x1022, ctypes.byref(allowed)) == 0\n"
        "print(allowed.value >> 18 & 1)"
    )
    levels, asked = child.succeed(code, TREADLE_ISA="avx512_bf16").splitlines()
    assert (levels.split()[-1], asked) == ("avx512_bf16", "0")
    levels, asked = child.succeed(code, TREADLE_ISA="amx").splitlines()
    assert (levels.split()[-1], asked) == ("amx", "1")


@pytest.mark.parametrize("level", ["avx9000", "AVX2", "avx2 ", "portable,avx2", "-"])
def test_forcing_an_unknown_level(level):
    """Refused, with what there is; nothing falls back silently."""
    status, output, errors = child.run("import treadle; print(treadle.isa())", TREADLE_ISA=level)
    assert status == 1
    assert output == ""
    assert f"TREADLE_ISA is '{level}'" in errors
    assert "portable" in errors.rpartition("TREADLE_ISA is")[2]


@pytest.mark.parametrize("level", ["avx9000", "", "AVX2", None, 5], ids=repr)
def test_setting_an_unknown_level(level):
    before = treadle.isa()
    with pytest.raises((ValueError, TypeError)):
        treadle._core.set_isa(level)
    assert treadle.isa() == before


def test_objects_keep_the_level_they_were_packed_for():
    x, before = samples.normal(0, 5, 3, 6), treadle.isa()
    for level in treadle.available_isas():
        treadle._core.set_isa(level)
        module, _ = make_module("lstm", 6, 20)
        stream, expected = module.stream(3), module(x)
        for other in treadle.available_isas():
            treadle._core.set_isa(other)
            assert_same_bits(module(x), expected)
            assert_same_bits(module.stream(3).run(x), expected[0])
            stream.reset()
            assert_same_bits(stream.run(x), expected[0])
    treadle._core.set_isa(before)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("mode", samples.MODES)
def test_step_chain(isa, mode, activation, dtype):
    seconds = treadle._core.step_chain(mode, activation, 1e-4, dtype)
    assert isinstance(seconds, float)
    assert 0 < seconds < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["LSTM"], "step_chain: mode is 'LSTM', expected rnn, lstm or gru"),
        (["gru", "softer"], "step_chain: activation is 'softer'"),
        (["gru", "tanh", 0.1, "float64"], "step_chain: dtype is 'float64'"),
        (["gru", "tanh", 0.0], "seconds is out of range"),
        (["gru", "tanh", float("nan")], "seconds is out of range"),
    ],
)
def test_step_chain_of_nothing(arguments, message):
    with pytest.raises(ValueError, match=message):
        treadle._core.step_chain(*arguments)


# Threads.


@linux
def test_default_number_of_threads():
    """The default is the number of CPUs in the affinity mask, or a smaller quota of the cgroup."""
    code = (
        "import os\nfor name in 'OMP_NUM_THREADS', 'TREADLE_NUM_THREADS': os.environ.pop(name, 0)\n"
        "import treadle; print(treadle.get_num_threads())"
    )
    assert 1 <= int(child.succeed(code)) <= len(os.sched_getaffinity(0))
    cpu = min(os.sched_getaffinity(0))
    pinned = f"import os; os.sched_setaffinity(0, [{cpu}]); {code}"
    assert int(child.succeed(pinned)) == 1


def test_set_num_threads():
    before = treadle.get_num_threads()
    for n in (1, 2, 7, 1):
        treadle.set_num_threads(n)
        assert treadle.get_num_threads() == n
    treadle.set_num_threads(before)


@pytest.mark.parametrize("n", [0, -1, 2**31, 2**63, 2**70, 1.0, "2", None, True, [2]], ids=repr)
def test_wrong_number_of_threads(n):
    before = treadle.get_num_threads()
    with pytest.raises((ValueError, TypeError), match=r"^treadle\.set_num_threads: n "):
        treadle.set_num_threads(n)
    assert treadle.get_num_threads() == before


def test_idle_threads_do_not_burn_cpu():
    """After a call with all threads the process sleeps; a spinning worker would take all of it."""
    before = treadle.get_num_threads()
    treadle.set_num_threads(4)
    module, _ = make_module("lstm", 64, 256)
    module(samples.normal(0, 50, 16, 64))
    treadle.set_num_threads(before)
    time.sleep(0.05)
    begin = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - begin < 0.1


# Forks. Each child must give the parent's bits, and end; one that hangs is killed by its alarm.

FORK = """
import os, signal, sys, threading
import numpy as np, treadle

mode, hidden, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
treadle.set_num_threads(2)
module = getattr(treadle, mode)(32, hidden, num_layers=2, bidirectional=True, seed=0)
x = np.random.default_rng(0).standard_normal((20, batch, 32), np.float32)

def bits():
    return module(x)[0].tobytes()

expected = bits()
busy = sys.argv[4] == "busy"
stop = threading.Event()

def work():
    while not stop.is_set():
        bits()

other = threading.Thread(target=work)
if busy:
    other.start()
try:
    for generation in range(5 if busy else 2):
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            same = all(bits() == expected for _ in range(3))
            grandchild = os.fork()
            if grandchild == 0:
                signal.alarm(60)
                os._exit(0 if bits() == expected else 3)
            status = os.waitpid(grandchild, 0)[1]
            os._exit(0 if same and status == 0 and bits() == expected else 4)
        status = os.waitpid(pid, 0)[1]
        assert status == 0, status
        assert bits() == expected
finally:
    stop.set()
if busy:
    other.join()
print("same")
"""


@pytest.mark.parametrize("activity", ["quiet", "busy"])
@pytest.mark.parametrize(("hidden", "batch"), [(8, 1), (256, 16)], ids=["H8-B1", "H256-B16"])
@pytest.mark.parametrize("mode", ["LSTM", "GRU"])
def test_fork(mode, hidden, batch, activity):
    """After use, in a child and in its child; also while another thread is inside a call."""
    options = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}  # Python 3.12 dislikes the busy case
    assert child.succeed(FORK, mode, hidden, batch, activity, timeout=200, **options) == "same"


POOL = """
import multiprocessing, sys
import numpy as np, treadle

x = np.random.default_rng(0).standard_normal((20, 8, 32), np.float32)

def bits(module):
    return module(x)[0].tobytes()

if __name__ == "__main__":
    module = treadle.LSTM(32, 64, seed=0)
    expected = bits(module)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        print(pool.map(bits, [module] * 12) == [expected] * 12)
"""


def test_multiprocessing():
    """Modules travel by pickle into forked workers."""
    assert child.succeed(POOL, PYTHONWARNINGS="ignore::DeprecationWarning") == "True"


# Signals. The calls would take minutes; the process has to end long before.

PRODUCT = """lambda x: treadle.functional.linear(
    np.broadcast_to(np.zeros((1, 4096), "f4"), (len(x), 4096)), np.zeros((2048, 4096), "f4")
)"""
ATTENTION = """lambda x: treadle.functional.scaled_dot_product_attention(
    x[None, :, 0], *np.zeros((2, 1, 100_000, 8), "f4")
)"""
ENCODER = "treadle.TransformerEncoder(treadle.TransformerEncoderLayer(8, 1, {}), 24)"
EMBEDDINGS = """lambda x: treadle.functional.embedding_sum(
    4000 * [np.zeros(len(x), int)], 4000 * [np.zeros((9, 4096), "f4")]
)"""
LONG = {
    "B1": ("treadle.LSTM(8, 1024)", 400_000, 1),
    "B64": ("treadle.GRU(8, 1024)", 8000, 64),
    "D2-L2": ("treadle.LSTM(8, 768, 2, bidirectional=True)", 8000, 32),
    "before": ("treadle.GRU(8, 1024, reset_after=False)", 16_000, 32),
    "ragged": ("partial(treadle.LSTM(8, 1024), lengths=np.arange(0, 15_000, 469))", 15_000, 32),
    "mask": ("partial(treadle.LSTM(8, 1024), mask=np.ones((32, 10_000), bool))", 10_000, 32),
    "stream": ("treadle.LSTM(8, 1024).stream(16).run", 20_000, 16),
    "linear": (PRODUCT, 200_000, 1),
    "attention": (ATTENTION, 1_000_000, 1),
    "encoder": (ENCODER.format(8), 200_000, 1),
    "encoder-batch": (ENCODER.format(8192), 32, 20_000),
    "embedding_sum": (EMBEDDINGS, 20_000, 1),
    "backward-B1": ("back(treadle.LSTM(8, 1024), 5)", 20_000, 1),
    "backward-B64": ("back(treadle.GRU(8, 1024), 4)", 1000, 64),
    "backward-before": ("back(treadle.GRU(8, 1024, reset_after=False), 3)", 2000, 32),
    "backward-P": ("back(treadle.LSTM(8, 1024, proj_size=512), 5)", 2000, 32),
    "backward-ragged": ("back(treadle.LSTM(8, 1024), 5, np.arange(0, 2000, 63))", 2000, 32),
    "backward-weights": ("back(treadle.LSTM(2**16, 8), 5)", 20_000, 8),
    "backward-torch": ("back_torch(6000, 1024)", 1, 1),
    "backward-attention": ("back_attention", 60_000, 1),
}
INTERRUPTED = """
import sys
from functools import partial
from time import monotonic
import numpy as np, treadle
from treadle._inputs.sequence import SequenceInputs

def back(module, saved, lengths=None):
    "A backward pass of any length without the forward pass before it, which would be as long."
    own = module.state_dict()
    names = "weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"
    weights = [{name: own[name + "_l0"] for name in names if name + "_l0" in own}]
    S, H = own["weight_hh_l0"].shape[1], module.hidden_size

    def run(x):
        T, B, _ = x.shape
        x = np.broadcast_to(np.zeros((1, 1, module.input_size), "f4"), (T, B, module.input_size))
        y = np.broadcast_to(np.ones((1, 1, S), "f4"), (T, B, S))
        kept = np.zeros((1, T, B, saved * H), "f4")
        inputs = SequenceInputs(x, lengths=lengths)
        module._packed.native.backward(
            inputs, weights=weights, y=y, saved=kept, grads={"y": y}, want_x=False
        )

    return run

def back_torch(T, H):
    import torch, treadle.torch
    y, _ = treadle.torch.LSTM(8, H)(torch.zeros(T, 1, 8))
    return lambda _: y.sum().backward()

def back_attention(x):
    q = np.zeros((1, 1, len(x), 8), "f4")
    grads = {name: np.zeros_like(q) for name in ("query", "key", "value")}
    forward = {"out": q, "lse": q[..., 0].copy()}
    treadle._core.attention_backward(
        "f", q, q, q, options={}, forward=forward, dout=q, grads=grads
    )

make, time, batch, threads = sys.argv[1], *map(int, sys.argv[2:])
treadle.set_num_threads(threads)
call = eval(make)
x = np.broadcast_to(np.zeros((1, batch, 8), "f4"), (time, batch, 8))
print("go", flush=True)
try:
    call(x)
except KeyboardInterrupt:
    print(monotonic())
    raise
"""


@pytest.mark.parametrize("count", [1, 2], ids=["threads1", "threads2"])
@pytest.mark.parametrize("call", LONG)
def test_interrupt(call, count):
    """Ctrl-C ends the call with KeyboardInterrupt, in 0.2 s unless others keep the machine busy."""
    assert any(seconds_to_stop(call, count) < 0.2 for _ in range(3))


def seconds_to_stop(call, count):
    """Return the time from Ctrl-C to KeyboardInterrupt."""
    with child.start(INTERRUPTED, *LONG[call], count) as process:
        try:
            assert process.stdout.readline() == "go\n"
            time.sleep(0.5)  # well into the loop
            assert process.poll() is None
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=5)
        finally:
            process.kill()
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT
    return float(output) - sent


AFTER = """
import signal, threading
import numpy as np, treadle
treadle.set_num_threads(2)
module = treadle.LSTM(8, 512, seed=0)
x = np.random.default_rng(0).standard_normal((10, 8, 8), np.float32)
stream = module.stream(8)
expected = module(x)[0].tobytes(), stream.run(x).tobytes()
long = np.broadcast_to(x[:1], (100_000, 8, 8))
interrupted = 0
for call in (module, stream.run, module):
    threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
    try:
        call(long)
    except KeyboardInterrupt:
        interrupted += 1
stream.reset()
print(interrupted, (module(x)[0].tobytes(), stream.run(x).tobytes()) == expected)
"""


def test_everything_works_after_an_interrupt():
    assert child.succeed(AFTER) == "3 True"


HANDLER = """
import os, signal, threading
import numpy as np, treadle
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
module = treadle.GRU(8, 256, seed=0)
x = np.random.default_rng(0).standard_normal((3000, 8, 8), np.float32)
expected = module(x)[0].tobytes()
timers = [threading.Timer(0.01 * i, os.kill, [os.getpid(), signal.SIGUSR1]) for i in range(1, 4)]
for timer in timers:
    timer.start()
print(all(module(x)[0].tobytes() == expected for _ in range(3)), end=" ")
for timer in timers:
    timer.join()
print(bool(seen))
"""


def test_other_signals_do_not_disturb():
    """A handler that returns lets the call go on, to the same bits."""
    assert child.succeed(HANDLER) == "True True"


# The floating-point control word.


@pytest.mark.parametrize("mode", samples.MODES)
def test_control_word_is_unchanged(threads, mode):
    """After success and after errors: the caller's denormals are its own."""
    before = treadle._core.control_word()
    module, _ = make_module(mode, 6, 200)
    x = samples.normal(0, 30, 8, 6)
    stream = module.stream(8)
    module(x)
    stream.step(x[0])
    stream.run(x)
    treadle.functional.linear(x, samples.normal(0, 3, 6))
    treadle._core.apply("tanh", x.ravel())
    assert treadle._core.control_word() == before
    for call in (module, stream.run, stream.step):
        with pytest.raises((ValueError, TypeError)):
            call(x[..., :-1])
    assert treadle._core.control_word() == before
    denormal = np.float32(1e-40)
    assert denormal * np.float32(1) == denormal
    assert np.float32(TINY) * np.float32(0.5) != 0


def test_control_word_of_a_caller_who_flushes():
    """It is the caller's also when it flushes already."""
    code = (
        "import torch, numpy as np, treadle\n"
        "torch.set_flush_denormal(True)\n"
        "before = treadle._core.control_word()\n"
        "treadle.GRU(3, 4)(np.ones((2, 2, 3), np.float32))\n"
        "print(treadle._core.control_word() == before, before & 0x8040 == 0x8040)"
    )
    flushes = platform.machine() == "x86_64"
    assert child.succeed(code) == f"True {flushes}"


@pytest.mark.parametrize("batch", [1, 16], ids=["B1", "B16"])
def test_states_that_decay_are_flushed(isa, threads, batch):
    """h' = h / 2, without input: after 150 steps zero, at no step a denormal, in every thread."""
    hidden = 300
    weights = np.zeros((hidden, 1), np.float32), np.eye(hidden, dtype=np.float32) / 2
    h_0 = np.ones((batch, hidden), np.float32)
    x = np.zeros((150, batch, 1), np.float32)
    y, h_n = treadle.functional.rnn(x, *weights, h_0=h_0, nonlinearity=None)
    np.testing.assert_array_equal(y[125], np.float32(2.0**-126))
    np.testing.assert_array_equal(y[126:], 0)
    np.testing.assert_array_equal(h_n, 0)


@pytest.mark.parametrize("mode", samples.MODES)
def test_denormal_input_is_zero(isa, threads, mode):
    module, _ = make_module(mode, 6, 40)
    x = np.full((9, 4, 6), 1e-40, np.float32)
    state = tuple(np.full((1, 4, 40), -1e-41, np.float32) for _ in range(2))
    zero = tuple(np.zeros_like(part) for part in state)
    if mode != "lstm":
        state, zero = state[0], zero[0]
    for a, b in zip(
        flatten(module(x, state)), flatten(module(np.zeros_like(x), zero)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
