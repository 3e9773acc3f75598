"""Programs that fork, that end while threads compute, and that ask for more threads than run.

A child that hangs is killed by its alarm, so that a fault is a failure and no hanging test.
"""

import sys

import numpy as np
import pytest

import treadle
from support import child, samples
from support.checks import make_module
from support.systems import linux
from support.tolerance import assert_same_bits

QUIET = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}  # Python 3.12 dislikes forks with threads

# The kinds of objects that a thread holds while it computes, and one call of each.
HELD = {
    "lstm": "treadle.LSTM(8, 64, seed=0).stream(1).step",
    "gru": "treadle.GRU(8, 64, seed=0).stream(1).step",
    "cache": "cache_step()",
}
FORK_BESIDE_STEPS = """
import os, signal, sys, threading
import numpy as np, treadle

def cache_step():
    cache = treadle.KVCache(1, 1, 8, 64)
    def step(x):
        cache.step(x[:, None, None], x[:, None, None], x[:, None, None])
        cache.reset()
    return step

step, x, stop = eval(sys.argv[1]), np.zeros((1, 8), np.float32), threading.Event()

def work():
    while not stop.is_set():
        step(x)

other = threading.Thread(target=work)
other.start()
endings = set()
for _ in range(80):
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        try:
            step(x)
        except RuntimeError as error:
            os._exit(0 if "when the process forked" in str(error) else 5)
        os._exit(0)
    endings.add(os.waitpid(pid, 0)[1])
stop.set()
other.join()
print(endings)
"""


@pytest.mark.parametrize("held", HELD)
def test_fork_beside_steps(held):
    """OpenMathLib/OpenBLAS#294: no child waits for a thread that only its parent has.

    The other thread steps one object all the time, so that a fork meets every moment of a call. The
    child may use the object or is told that it was in use, and ends.
    """
    assert child.succeed(FORK_BESIDE_STEPS, HELD[held], **QUIET) == "{0}"


FORK_WITHIN = """
import os, signal, sys
import numpy as np, treadle

treadle.set_num_threads(int(sys.argv[1]))
module = treadle.LSTM(16, 512, seed=0)
x = np.random.default_rng(0).standard_normal((3000, 4, 16), np.float32)
x[50:] = x[:1]
stream, parent, pids = module.stream(4), os.getpid(), []
call = {"module": module, "stream": stream.run}[sys.argv[2]]
short = module(x[:50])[0].tobytes()

def handler(*_):
    pid = os.fork()
    if pid:
        pids.append(pid)
        return
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(60)

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.1)
while not pids:  # the signal may come between two calls
    try:
        call(x)
    except RuntimeError as error:
        assert "forked in the middle of this call" in str(error)
        assert os.getpid() != parent
    if os.getpid() != parent:
        os._exit(0 if module(x[:50])[0].tobytes() == short and stream.run(x[:1]).any() else 2)
print([os.waitpid(pid, 0)[1] for pid in pids])
"""


@pytest.mark.parametrize("call", ["module", "stream"])
@pytest.mark.parametrize("count", [1, 2], ids=["threads1", "threads2"])
def test_fork_in_a_signal_handler(count, call):
    """pytorch/pytorch#17199: a child has no workers, so a call that is interrupted ends in it.

    The parent's call goes on. In the child everything can be used again, the stream included.
    """
    assert child.succeed(FORK_WITHIN, count, call, **QUIET) == "[0]"


FORK_AND_EXEC = """
import subprocess, sys, threading
import numpy as np, treadle
treadle.set_num_threads(2)
module = treadle.LSTM(32, 256, seed=0)
x = np.zeros((20, 4, 32), np.float32)
expected = module(x)[0].tobytes()
stop = threading.Event()
def work():
    while not stop.is_set():
        assert module(x)[0].tobytes() == expected
other = threading.Thread(target=work)
other.start()
ends = [subprocess.run([sys.executable, "-c", ""]).returncode for _ in range(5)]
# With a function to be called first, the child is made by fork() and runs Python before exec().
ends += [subprocess.run([sys.executable, "-c", ""], preexec_fn=int).returncode for _ in range(5)]
stop.set()
other.join()
print(set(ends), module(x)[0].tobytes() == expected)
"""


def test_fork_and_exec():
    """A server starts other programs while its threads compute."""
    assert child.succeed(FORK_AND_EXEC, **QUIET) == "{0} True"


FORK_IN_THREAD = """
import concurrent.futures, multiprocessing, os, signal, threading
import numpy as np, treadle
treadle.set_num_threads(2)
x = np.random.default_rng(0).standard_normal((20, 4, 32), np.float32)
module = treadle.GRU(32, 256, seed=0)
expected = module(x)[0].tobytes()

def bits(_=None):
    return module(x)[0].tobytes()

def fork_here():
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        os._exit(0 if bits() == expected else 1)
    return os.waitpid(pid, 0)[1]

with concurrent.futures.ThreadPoolExecutor(2) as threads:
    print(set(threads.map(lambda _: fork_here(), range(6))), end=" ")
context = multiprocessing.get_context("fork")
with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as processes:
    print(set(processes.map(bits, range(6))) == {expected}, bits() == expected)
"""


def test_fork_in_a_thread_and_pools():
    """pytorch/pytorch#75147: threads that fork, and a pool of processes beside one of threads."""
    assert child.succeed(FORK_IN_THREAD, **QUIET) == "{0} True True"


EXIT = """
import os, sys, threading, time
import numpy as np, treadle

stream = treadle.LSTM(8, 1024, seed=0).stream(1)
x = np.zeros((100_000, 1, 8), np.float32)

class Finalizer:
    def __del__(self, write=os.write, step=stream.step, x=x[0]):
        try:
            step(x)
            write(1, b"stepped")
        except RuntimeError as error:
            write(1, str(error).encode())

sys.keeps = Finalizer()
begun = threading.Event()
def work():
    begun.set()
    stream.run(x)
threading.Thread(target=work, daemon=True).start()
begun.wait()
time.sleep(0.2)
"""


def test_a_finalizer_does_not_wait_for_a_stopped_thread():
    """python/cpython#105805: when the interpreter ends, a thread that computes never comes back.

    A finalizer that steps the stream of that thread is told so.
    """
    assert "stopped where the interpreter ends" in child.succeed(EXIT)


SUBINTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
BEFORE
one = interpreters.create(MODE)
code = "try:\\n import treadle\\nexcept ImportError as error:\\n print('refused')"
failure = interpreters.run_string(one, code)
if failure is not None:
    print(failure)
"""


@pytest.mark.parametrize("before", ["", "import treadle"], ids=["first", "again"])
@pytest.mark.filterwarnings("ignore")
def test_subinterpreter(before):
    """pybind/pybind11#1975, python/cpython#90453: importing raises ImportError and never hangs."""
    mode = "" if sys.version_info < (3, 13) else "'legacy'"
    code = SUBINTERPRETER.replace("BEFORE", before).replace("MODE", mode)
    status, output, errors = child.run(code, PYTHONWARNINGS="ignore", timeout=60)
    assert (status, output) == (0, "refused"), errors


def test_more_threads_than_cpus():
    """uxlfoundation/oneTBB#190: no more threads work than may run, and the bits are the same."""
    before = treadle.get_num_threads()
    results = []
    for n in (1, 8, 64, 1024):
        treadle.set_num_threads(n)
        assert treadle.get_num_threads() == n
        for mode in samples.MODES:
            module, _ = make_module(mode, 24, 200, bidirectional=True)
            results.append((mode, module(samples.normal(0, 40, 3, 24))[0]))
    treadle.set_num_threads(before)
    first = dict(reversed(results))
    for mode, result in results:
        assert_same_bits(result, first[mode])


WORKERS = """
import os, sys, threading
import numpy as np, treadle
treadle.set_num_threads(64)
x = np.zeros((50, 4, 32), np.float32)
for _ in range(20):
    treadle.LSTM(32, 256, seed=0)(x)
print(len(os.listdir("/proc/self/task")) - threading.active_count() < len(os.sched_getaffinity(0)))
"""


@linux
def test_no_more_workers_than_cpus():
    """A call with the caller and one worker for each other CPU uses all that may run."""
    assert child.succeed(WORKERS, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1") == "True"


THREADS = "import treadle; print(treadle.get_num_threads())"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TREADLE_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "3,2"}, 3),
        ({"OMP_NUM_THREADS": "3", "TREADLE_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "3", "TREADLE_NUM_THREADS": ""}, 3),
    ],
    ids=str,
)
def test_environment(variables, expected):
    """ray-project/ray#6998: schedulers of processes set OMP_NUM_THREADS for their workers."""
    none = {"TREADLE_NUM_THREADS": "", "OMP_NUM_THREADS": ""}
    assert int(child.succeed(THREADS, **none | variables)) == expected
    chosen = "import treadle; treadle.set_num_threads(7); print(treadle.get_num_threads())"
    assert int(child.succeed(chosen, **none | variables)) == 7


@pytest.mark.parametrize("text", ["0", "-1", "1025", "two", "2,3"])
def test_wrong_environment(text):
    status, _, errors = child.run(THREADS, TREADLE_NUM_THREADS=text)
    assert status == 1
    assert f"TREADLE_NUM_THREADS is '{text}', expected 1 to 1024" in errors


@pytest.mark.parametrize("mode", samples.MODES)
@pytest.mark.parametrize(
    "options", [{}, {"mask": True}, {"resets": True}], ids=["", "mask", "resets"]
)
def test_buffers_of_another_call(threads, mode, options):
    """A call with masks or resets leaves nothing behind that the next call of the module reads."""
    module, _ = make_module(mode, 6, 40)
    x, rng = samples.normal(0, 30, 3, 6), np.random.default_rng(0)
    expected = module(x)
    if "mask" in options:
        options = {"mask": rng.random((3, 30)) < 0.5}
    if "resets" in options:
        options = {"resets": rng.random((30, 3)) < 0.3}
    module(x, **options)
    module(samples.normal(1, 9, 2, 6))
    assert_same_bits(module(x), expected)
