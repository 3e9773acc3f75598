"""A PyTorch without DLPack's C interface, as before version 2.10, has the same results."""

import subprocess
import sys
from pathlib import Path

import torch

# The core asks for the interface when it first sees a tensor.
PROGRAM = """
import sys, pytest, torch
del torch.Tensor.__dlpack_c_exchange_api__
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""
FILES = ("test_torch_short_calls.py", "test_outside_cases_plain_memory.py", "test_weight_cache.py")


def test_this_pytorch_has_it():
    """Otherwise the test below would prove nothing."""
    assert "__dlpack_c_exchange_api__" in vars(torch.Tensor)


def test_short_calls_and_weights():
    folder = Path(__file__).parent
    command = [sys.executable, "-c", PROGRAM, *(str(folder / name) for name in FILES)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=folder.parent.parent
    )
    assert done.returncode == 0, done.stdout + done.stderr
