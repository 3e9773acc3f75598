"""Whoever installs treadle gets all files, and types that are true of the compiled module."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import treadle


def test_stubs_of_the_compiled_module(source):
    """The stubs and the compiled module have the same names."""
    pytest.importorskip("mypy", reason="mypy is in the extra `test`")
    run = subprocess.run(
        [
            *(sys.executable, "-m", "mypy.stubtest", "treadle._core", "--concise"),
            *("--allowlist", str(source / "tests/support/stubtest.txt")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def recorded():
    """Return the names of files that the wheel of this installation had."""
    try:
        files = importlib.metadata.files("treadle") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    names = {str(file) for file in files if "__pycache__" not in file.parts}
    if "treadle/__init__.py" not in names:
        pytest.skip("the package runs from its source tree and not from a wheel")
    return names


def test_list_of_the_wheel(source):
    """The wheel has every module of the tree, the marker of types, stubs, data and the license."""
    names = recorded()
    tree = {
        f"treadle/{path.relative_to(source / 'python/treadle').as_posix()}"
        for path in (source / "python/treadle").rglob("*")
        if path.suffix in (".py", ".pyi", ".typed", ".safetensors")
        and "benchmarks" not in path.relative_to(source / "python/treadle").parts
    }
    assert {"treadle/py.typed", "treadle/_core.pyi", "treadle/_version.pyi"} <= tree
    assert tree - names == set()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    compiled = [name for name in names if Path(name).suffix in (".so", ".pyd", ".a", ".dylib")]
    assert len(compiled) == 1, compiled
    assert not [name for name in names if name.startswith(("tests/", "treadle/tests", "cpp/"))]


def test_marker_of_types():
    assert (Path(treadle.__file__).parent / "py.typed").is_file()
