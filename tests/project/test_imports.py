"""`import treadle` imports NumPy, and nothing that costs time or is a guest."""

import ast
import json
import pickle
from pathlib import Path

import pytest

import treadle
from support import child
from support.systems import linux
from treadle import _places

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
    """`import treadle` loads the compiled module and the table of names; every name comes with the
    modules that define it when somebody asks for it.
    """
    expected = {
        "treadle",
        "treadle._core",
        "treadle._places",
        "treadle._public",
        "treadle._version",
    }
    assert {name for name in imported() if name.partition(".")[0] == "treadle"} == expected


@pytest.mark.parametrize(
    ("package", "places"),
    [(treadle, _places.PUBLIC), (treadle.functional, _places.FUNCTIONAL)],
    ids=["treadle", "functional"],
)
def test_type_checkers_read_the_same_names(package, places):
    """The imports for type checkers and the table that Python uses say the same, and what they
    name is public. It says the package as its module, or the guest's that defines it.
    """
    tree = ast.parse(Path(package.__file__).read_text())
    block = next(node for node in tree.body if ast.unparse(node).startswith("if TYPE_CHECKING"))
    found = {
        (node.module, alias.name)
        for node in block.body
        for alias in node.names
        if node.module != "treadle"
    }
    assert found == {(module, name) for module, names in places.items() for name in names}
    assert {name for names in places.values() for name in names} == set(package.__all__) - {
        "__version__",
        "functional",
    }
    for module, name in found:
        owner = getattr(package, name).__module__
        assert owner in (package.__name__, module), name


LOADED = """
import sys, treadle
assert "treadle.layers.recurrent" not in sys.modules
module = treadle.load(sys.argv[1])
print(type(module).__module__, module)
"""


def test_a_file_names_a_layer_that_nobody_has_imported(tmp_path):
    """A new process that only loads a file finds the layer, a layer within a layer too."""
    path = str(tmp_path / "model.safetensors")
    for module in (
        treadle.GRU(2, 3, seed=0),
        treadle.Sequential(treadle.Embedding(4, 3, seed=0), treadle.LSTM(3, 2, seed=0)),
        treadle.Seq2Seq(
            treadle.Sequential(
                treadle.Embedding(5, 4, seed=0), treadle.GRU(4, 3, batch_first=True, seed=0)
            ),
            treadle.Sequential(
                treadle.Embedding(6, 4, seed=0),
                treadle.GRU(4, 3, batch_first=True, seed=0),
                treadle.Linear(3, 6, seed=0),
            ),
            None,
        ),
    ):
        treadle.save(module, path)
        assert child.succeed(LOADED, path) == f"treadle {module!r}"
        pickled = pickle.dumps(module)
        code = f"import pickle; print(pickle.loads({pickled!r}))"
        assert child.succeed(code) == repr(module)


@linux
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
    assert child.succeed(code) == "[]"
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
