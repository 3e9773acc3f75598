"""`import treadle` imports NumPy, and nothing that costs time or is a guest."""

import json

import pytest

from support import child

LIST = """
import sys, numpy
before = set(sys.modules)
import treadle
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
    """`import treadle` loads the modules that every user needs; the inner parts of files, the
    command line and the guests come later.
    """
    expected = {
        "treadle", "treadle._core", "treadle._inputs", "treadle._inputs.arrays",
        "treadle._inputs.attention", "treadle._inputs.checks", "treadle._inputs.masks",
        "treadle._inputs.foreign", "treadle._inputs.present",
        "treadle._inputs.ragged", "treadle._inputs.sequence",
        "treadle._inputs.torch_memory",
        "treadle._public",
        "treadle._storage", "treadle._storage.files",
        "treadle._storage.formats", "treadle._version", "treadle.functional",
        "treadle.functional.attention", "treadle.functional.attention_backward",
        "treadle.functional.backward", "treadle.functional.options", "treadle.functional.packing",
        "treadle.functional.pointwise",
        "treadle.functional.product", "treadle.functional.recurrent", "treadle.functional.saved",
        "treadle.functional.activations", "treadle.functional.conv", "treadle.functional.crf",
        "treadle.functional.images", "treadle.functional.norms",
        "treadle.functional.pooling",
        "treadle.graph", "treadle.graph.ir", "treadle.graph.saving",
        "treadle.layers",
        "treadle.layers.activation_layers", "treadle.layers.batch_norm", "treadle.layers.conv",
        "treadle.layers.convolution", "treadle.layers.elementwise",
        "treadle.layers.group_norm", "treadle.layers.pooling",
        "treadle.layers.adaptive_pooling", "treadle.layers.conv_transpose",
        "treadle.layers.instance_norm", "treadle.layers.padding", "treadle.layers.resizing",
        "treadle.layers.transposed",
        "treadle.layers.embedding", "treadle.layers.linear", "treadle.layers.sequential",
        "treadle.layers.activation", "treadle.layers.attention", "treadle.layers.build",
        "treadle.layers.cells", "treadle.layers.configuration",
        "treadle.layers.files", "treadle.layers.kv_cache", "treadle.layers.module",
        "treadle.layers.norm", "treadle.layers.projections", "treadle.layers.recurrent",
        "treadle.layers.recurrent_base",
        "treadle.layers.recurrent_spec",
        "treadle.layers.parts", "treadle.layers.recurrent_stack", "treadle.layers.sensitivity",
        "treadle.layers.stream", "treadle.layers.stream_pool", "treadle.layers.stream_state",
        "treadle.layers.pooled_held",
        "treadle.layers.pooled_recurrent", "treadle.layers.pooled_sequence",
        "treadle.layers.sequence_stream", "treadle.layers.transformer",
        "treadle.layers.transformer_base", "treadle.layers.transformer_weights", "treadle.runtime",
            "treadle.layers.composite",
            "treadle.seq2seq", "treadle.seq2seq.connected", "treadle.seq2seq.decoding",
            "treadle.seq2seq.entries", "treadle.seq2seq.memory",
            "treadle.seq2seq.module", "treadle.seq2seq.sizes",
            "treadle.seq2seq.state", "treadle.seq2seq.structure",
    }  # fmt: skip
    assert {name for name in imported() if name.partition(".")[0] == "treadle"} == expected


def test_no_threads_are_started():
    """Neither import nor a small call on one thread makes any."""
    code = """
import os, numpy as np
before = len(os.listdir("/proc/self/task"))
import treadle
treadle.set_num_threads(1)
treadle.LSTM(4, 8)(np.zeros((3, 2, 4), np.float32))
print(len(os.listdir("/proc/self/task")) - before)
"""
    assert child.succeed(code) == "0"


def test_torch_is_imported_when_asked_for():
    code = """
import sys, treadle
assert "torch" not in sys.modules
treadle.from_torch
assert "torch" not in sys.modules
import torch
print(treadle.from_torch(torch.nn.GRU(3, 4)))
"""
    assert child.succeed(code) == "GRU(3, 4)"


WITHOUT = """
import sys
sys.modules["torch"] = None
import treadle.torch
try:
    {call}
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("call", ["treadle.from_torch(object())", "treadle.torch.LSTM"])
def test_without_torch(call):
    """The message names the extra."""
    assert "treadle[torch]" in child.succeed(WITHOUT.format(call=call))


WITHOUT_CORE = """
import sys
sys.modules["treadle._core"] = None
try:
    import treadle
except ImportError as error:
    print(error)
"""


def test_without_the_compiled_module():
    """Kind: what is missing and what to do."""
    message = child.succeed(WITHOUT_CORE)
    assert "treadle._core" in message
    assert "pip install" in message


def test_public_names():
    code = "import treadle; print(sorted(set(treadle.__all__) - set(dir(treadle))))"
    assert child.succeed(code) == "['Model', 'from_torch', 'trace']"
    assert child.succeed("import treadle; print(treadle.Model)") == "<class 'treadle.Model'>"
    assert (
        child.succeed("import treadle; treadle.from_torch; print(treadle.__version__)").count(".")
        >= 1
    )


def test_unknown_names():
    code = (
        "import treadle\ntry:\n    treadle.nosuch\n"
        "except AttributeError as error:\n    print(error)"
    )
    assert "nosuch" in child.succeed(code)


ROOMS = """
import treadle, treadle.functional, treadle.inspection, treadle.torch, treadle.transformers
for owner in (
    treadle, treadle.functional, treadle.inspection, treadle.torch, treadle.transformers
):
    for name in owner.__all__:
        value = getattr(owner, name)
        if hasattr(value, "__qualname__") and value.__module__ != owner.__name__:
            print(owner.__name__, name, value.__module__)
"""


def test_public_objects_say_the_package():
    """Neither pickles nor messages know the module that defines a public class or function."""
    assert child.succeed(ROOMS).splitlines() == [
        "treadle from_torch treadle.torch",
        "treadle trace treadle.inspection",
    ]
