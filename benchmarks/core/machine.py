"""This module describes the machine, and pins the process to some of its CPUs."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TELLS_MEMORY = Path("/proc/self/statm").exists()  # `comparisons.resident` and `loading.loaded`
ENVIRONMENT = ("OMP_", "KMP_", "GOMP_", "MKL_", "ONEDNN_", "OPENBLAS_", "XLA_", "JAX_", "TREADLE_")


@dataclass(frozen=True)
class Cache:
    """One data cache as a CPU sees it."""

    name: str
    size: int
    shared_by: int  # CPUs

    def capacity(self, threads: int) -> int:
        """Return the bytes that `threads` threads, one per CPU, have together."""
        return self.size * max(1, threads // self.shared_by)


def caches() -> list[Cache]:
    """Return the data caches of the first allowed CPU, smallest first, as Linux tells them."""
    cpu = min(allowed())
    found = []
    for index in sorted(Path(f"/sys/devices/system/cpu/cpu{cpu}/cache").glob("index*")):
        if _read(index / "type") == "Instruction":
            continue
        size = _read(index / "size")
        unit = {"K": 1 << 10, "M": 1 << 20}.get(size[-1:], 1)
        shared = _count(_read(index / "shared_cpu_list"))
        found.append(Cache("L" + _read(index / "level"), int(size.rstrip("KM")) * unit, shared))
    return sorted(found, key=lambda cache: cache.size)


def _read(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()


def _count(cpu_list: str) -> int:
    """Count the CPUs in a list such as 0-3,8."""
    total = 0
    for part in cpu_list.split(","):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total


def cpu_name() -> str:
    """Return the model name, with family and model, which a virtual machine does not hide."""
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    fields: dict[str, str] = {}
    if (linux := Path("/proc/cpuinfo")).exists():
        for line in linux.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name", platform.processor() or platform.machine())
    if "cpu family" in fields:
        name += f" (family {fields['cpu family']}, model {fields.get('model', '?')})"
    return name


def allowed() -> set[int]:
    """Return the CPUs that this process may use: all, where only Linux could tell."""
    if not hasattr(os, "sched_getaffinity"):
        return set(range(os.cpu_count() or 1))
    return os.sched_getaffinity(0)


def restore(cpus: set[int]) -> None:
    """Undo `pin`."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus)


def pin(threads: int) -> list[int]:
    """Restrict the process to `threads` of its CPUs and return them; none where only Linux could.

    The last ones: the first CPU of a machine serves most interrupts.
    """
    available = sorted(allowed())
    if not 1 <= threads <= len(available):
        raise ValueError(
            f"treadle bench: --threads {threads}: expected 1 to {len(available)}, "
            "the CPUs this process may use"
        )
    if not hasattr(os, "sched_setaffinity"):
        return []
    chosen = available[-threads:]
    os.sched_setaffinity(0, chosen)
    return chosen


def used_by_others(seconds: float = 0.3) -> float:
    """Return how many CPUs are at work while this process sleeps; 0 where Linux does not tell."""
    before = _busy_ticks()
    time.sleep(seconds)
    after = _busy_ticks()
    if after == before:
        return 0.0
    return (after - before) / os.sysconf("SC_CLK_TCK") / seconds


def _busy_ticks() -> int:
    """Return the ticks that all CPUs have worked so far, time stolen by the host included."""
    statistics = Path("/proc/stat")
    if not statistics.exists():
        return 0
    with statistics.open(encoding="ascii") as lines:
        ticks = [int(part) for part in lines.readline().split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4]  # without idle, and without waiting for a disk


def describe() -> dict[str, Any]:
    """Return the machine as the JSON has it."""
    import numpy

    return {
        "cpu": cpu_name(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "caches": [{"name": c.name, "bytes": c.size, "cpus": c.shared_by} for c in caches()],
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "environment": {k: v for k, v in os.environ.items() if k.startswith(ENVIRONMENT)},
    }
