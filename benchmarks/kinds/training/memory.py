"""This module measures the memory that a forward pass keeps for the backward pass, y included.

    python -m treadle.benchmarks.kinds.training.memory gru treadle.torch      # or torch.nn

PyTorch's hooks for saved tensors do not see the arrays that treadle keeps. What nobody can hide is
the process's resident memory, before a forward pass and after it. For that to be exact the process
is a new one, whose large blocks are mappings of their own that are returned at once, in small
pages, and which has made some passes before: what a module makes once and keeps (packed weights,
compiled kernels) does not count.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import subprocess
import sys

from ...core.comparisons import resident
from ...core.models.recurrent.case import NetCase
from ...core.models.recurrent.data import make_input, make_weights

PASSES = 3  # before the one that is measured
MAPPED = 1 << 15  # bytes from which a block is a mapping
NO_LARGE_PAGES = 41  # PR_SET_THP_DISABLE of linux/prctl.h


def measured(case: NetCase, library: str) -> int:
    """Return the bytes that one forward pass of that library's module keeps, y included."""
    shape = [case.cell, *map(str, (case.T, case.B, case.I, case.H))]
    command = [sys.executable, "-m", __name__, library, *shape]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(MAPPED)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return int(done.stdout)


def main(library: str, cell: str, *shape: str) -> None:
    """Print the bytes."""
    import torch

    from ...core.models.recurrent.torch import module_of

    torch.set_num_threads(1)
    libc = ctypes.CDLL(None)
    libc.prctl(NO_LARGE_PAGES, 1, 0, 0, 0)
    t, b, i, h = map(int, shape)
    case = NetCase(cell, "memory", t, b, i, h, "")
    module = module_of(case, make_weights(case), importlib.import_module(library)).train()
    x = torch.from_numpy(make_input(case)).requires_grad_()
    for _ in range(PASSES):
        module(x)[0].sum().backward()
        module.zero_grad()
        x.grad = None
    libc.malloc_trim(0)
    before = resident()
    y = module(x)[0]
    after = resident()
    y.sum().backward()
    print(after - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
