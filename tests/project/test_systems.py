"""One place of the C++ asks for what only POSIX has, and no import in Python does."""

import re

import pytest

from support import child, house

# Headers of an operating system or of one compiler's library.
SYSTEM = re.compile(
    r"\s*#\s*include\s+<((?:sys|linux|mach|arpa|net|netinet)/.*|.*windows\.h|unistd\.h|pthread\.h|"
    r"sched\.h|fcntl\.h|signal\.h|dlfcn\.h|malloc\.h|io\.h|process\.h|cpuid\.h|cxxabi\.h|"
    r"intrin\.h)>"
)

# Names that some C library, compiler or linker of Linux, macOS and Windows does not know.
UNKNOWN = re.compile(
    r"\b(aligned_alloc|posix_memalign|sched_yield|usleep|mmap|M_PI|__int128|"
    r"__builtin_cpu_supports)\b"
)


def test_only_the_runtime_knows_the_system(source):
    found = [
        f"{path.relative_to(source)}:{number} {line}"
        for path in house.files(source, ".h", ".cpp")
        if source / "cpp" in path.parents and source / "cpp/runtime" not in path.parents
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if SYSTEM.match(line) or UNKNOWN.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("name", ["sys/mman.h", "windows.h", "unistd.h", "cxxabi.h", "linux/fs.h"])
def test_headers_of_a_system_are_seen(name):
    assert SYSTEM.match(f"#include <{name}>")


@pytest.mark.parametrize("name", ["cmath", "initializer_list", "immintrin.h", "Python.h"])
def test_other_headers_are_not(name):
    assert not SYSTEM.match(f"#include <{name}>")


# This Python lacks what Windows lacks, as far as treadle, its files and its commands go. NumPy and
# what it takes from the standard library are imported before.
WITHOUT_POSIX = """
import argparse, importlib, json, os, pkgutil, subprocess, sys, tempfile
import numpy, safetensors.numpy
LACKS = (
    "fchmod", "fchown", "chown", "fork", "getloadavg", "geteuid", "getgid", "getuid", "killpg",
    "mkfifo", "posix_fadvise", "pread", "preadv", "pwrite", "readv", "sched_getaffinity",
    "sched_setaffinity", "sched_yield", "setsid", "sync", "sysconf", "uname", "O_CLOEXEC",
    "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_SYNC",
)
for name in LACKS:
    delattr(os, name)
os.supports_dir_fd, os.supports_fd = set(), set()
os.name = "nt"
for name in ("fcntl", "grp", "pwd", "resource", "syslog", "termios", "tty", "pty"):
    sys.modules[name] = None

import treadle
GUESTS = ("treadle.torch", "treadle.keras", "treadle.transformers", "treadle.benchmarks")
for module in pkgutil.walk_packages(treadle.__path__, "treadle."):
    if not module.name.startswith(GUESTS) and not module.name.endswith("__main__"):
        importlib.import_module(module.name)

from treadle.cli.main import main
from treadle.onnx.load import read_graph
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "gru")
    for module in (treadle.LSTM(3, 4), treadle.GRU(3, 4, seed=0)):
        treadle.save(module, path)
    assert main(["info", path]) == 0
    x = numpy.ones((5, 2, 3), numpy.float32)
    assert numpy.array_equal(treadle.load(path)(x)[0], treadle.GRU(3, 4, seed=0)(x)[0])
    treadle.trace(module)(x).save(os.path.join(folder, "trace.html"))
    with open(os.path.join(folder, "weights.bin"), "wb") as file:
        file.write(bytes(12) + numpy.float32([1, 2, 3]).tobytes())
    found = read_graph(bytes.fromhex(sys.argv[1]), "test", folder)[0].constants
    assert found["c"].tolist() == [[1, 2, 3]]
"""


def test_python_without_what_windows_lacks():
    from support import onnx_files

    place = [("location", "weights.bin"), ("offset", "12")]
    entries = [onnx_files.message((1, key), (2, value)) for key, value in place]
    constant = onnx_files.message(
        (1, 1), (1, 3), (2, 1), (8, "c"), *[(13, entry) for entry in entries], (14, 1)
    )
    model = onnx_files.simple(
        onnx_files.node("Concat", ["x", "c"], ["y"], axis=0), constants=[constant]
    )
    assert "GRU(3, 4)" in child.succeed(WITHOUT_POSIX, model.hex())


MACHINE = """
import os, sys
for name in ("sched_getaffinity", "sched_setaffinity", "getloadavg", "sysconf"):
    delattr(os, name)
import pathlib
exists = pathlib.Path.exists
hidden = ("/proc", "/sys")
pathlib.Path.exists = lambda path: not str(path).startswith(hidden) and exists(path)
from treadle.benchmarks.core import limits, machine
assert not machine.TELLS_MEMORY
assert machine.allowed() == set(range(os.cpu_count()))
assert machine.pin(1) == []
machine.restore({0})
assert machine.used_by_others(0.01) == 0
assert machine.cpu_name()
print(limits.level_of(100, [], 1), [name for name, _ in limits.levels([], 1)])
"""


def test_benchmarks_on_a_system_that_tells_less():
    """No CPU is pinned, and no load and no memory is known."""
    assert child.succeed(MACHINE) == "DRAM ['DRAM']"
