"""What `import weft` brings along: NumPy, and nothing that costs time or is a guest."""

import json

import pytest

import child

LIST = """
import sys, numpy
before = set(sys.modules)
import weft
import json
print(json.dumps(sorted(set(sys.modules) - before)))
"""

# Guests, and parts of the standard library that take milliseconds.
HEAVY = {
    "torch", "safetensors", "argparse", "jax", "onnxruntime", "onnx", "openvino", "tensorflow",
    "keras", "transformers", "matplotlib", "asyncio", "multiprocessing", "unittest", "doctest",
    "subprocess", "http", "urllib.request", "email", "xml", "sqlite3", "ctypes.util", "tempfile",
    "importlib.metadata", "hypothesis", "pytest", "concurrent.futures",
}  # fmt: skip


def imported():
    return set(json.loads(child.succeed(LIST)))


def test_nothing_heavy():
    assert {
        name for name in imported() if name in HEAVY or name.partition(".")[0] in HEAVY
    } == set()


def test_modules_of_the_package():
    """Those that every user needs; files' inner parts, the command line and guests come later."""
    expected = {
        "weft", "weft._arrays", "weft._checks", "weft._core", "weft._encoder", "weft._formats",
        "weft._gated", "weft._masks", "weft._sequence", "weft._version", "weft.activation",
        "weft.attention", "weft.cells", "weft.files", "weft.functional",
        "weft.functional.attention", "weft.functional.attention_backward",
        "weft.functional.backward", "weft.functional.pointwise", "weft.functional.product",
        "weft.functional.recurrent", "weft.kv_cache", "weft.module", "weft.normalization",
        "weft.recurrent", "weft.runtime", "weft.stream", "weft.transformer",
    }  # fmt: skip
    assert {name for name in imported() if name.partition(".")[0] == "weft"} == expected


def test_no_threads_are_started():
    """Neither import nor a small call on one thread makes any."""
    code = """
import os, numpy as np
before = len(os.listdir("/proc/self/task"))
import weft
weft.set_num_threads(1)
weft.LSTM(4, 8)(np.zeros((3, 2, 4), np.float32))
print(len(os.listdir("/proc/self/task")) - before)
"""
    assert child.succeed(code) == "0"


def test_torch_is_imported_when_asked_for():
    code = """
import sys, weft
assert "torch" not in sys.modules
weft.from_torch
assert "torch" not in sys.modules
import torch
print(weft.from_torch(torch.nn.GRU(3, 4)))
"""
    assert child.succeed(code) == "GRU(3, 4)"


WITHOUT = """
import sys
sys.modules["torch"] = None
import weft.torch
try:
    {call}
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("call", ["weft.from_torch(object())", "weft.torch.LSTM"])
def test_without_torch(call):
    """The message names the extra."""
    assert "weft[torch]" in child.succeed(WITHOUT.format(call=call))


WITHOUT_CORE = """
import sys
sys.modules["weft._core"] = None
try:
    import weft
except ImportError as error:
    print(error)
"""


def test_without_the_compiled_module():
    """Kind: what is missing and what to do."""
    message = child.succeed(WITHOUT_CORE)
    assert "weft._core" in message
    assert "pip install" in message


def test_public_names():
    code = "import weft; print(sorted(set(weft.__all__) - set(dir(weft)) - {'from_torch'}))"
    assert child.succeed(code) == "[]"
    assert child.succeed("import weft; weft.from_torch; print(weft.__version__)").count(".") >= 1


def test_unknown_names():
    code = "import weft\ntry:\n    weft.nosuch\nexcept AttributeError as error:\n    print(error)"
    assert "nosuch" in child.succeed(code)
