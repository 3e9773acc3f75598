"""Whoever installs treadle gets all files, and types that are true of the compiled module."""

import importlib.metadata
import re
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


def test_one_version(source):
    """pyproject.toml, CITATION.cff and the changelog prepare the same version."""
    text = (source / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.+)"$', text, re.MULTILINE)[1]
    assert f"\nversion: {version}\n" in (source / "CITATION.cff").read_text()
    headings = re.findall(r"^## (\S+)", (source / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == version


def test_metadata_of_the_wheel(source):
    """The metadata name the license, the Pythons, and the two packages that treadle needs."""
    recorded()
    package = importlib.metadata.distribution("treadle")
    assert package.version == treadle.__version__
    assert package.metadata["License-Expression"] == "MIT"
    assert package.metadata["Requires-Python"] == ">=3.10"
    assert package.read_text("licenses/LICENSE") == (source / "LICENSE").read_text()
    needed = [line for line in package.requires if "extra ==" not in line]
    assert [re.match(r"[\w-]+", line)[0] for line in needed] == ["numpy", "safetensors"]
    (script,) = package.entry_points.select(group="console_scripts")
    assert (script.name, script.value) == ("treadle", "treadle.cli.main:main")


def workflows(source):
    return sorted((source / ".github/workflows").glob("*.yml"))


def test_actions_are_pinned(source):
    """Every action of a workflow is named by its commit, and a workflow may only read."""
    assert len(workflows(source)) == 2
    for path in workflows(source):
        text = path.read_text()
        assert re.findall(r"^permissions:\n((?:  .*\n)+)", text, re.MULTILINE) == [
            "  contents: read\n"
        ]
        actions = re.findall(r"uses: (.*)", text)
        assert actions
        for action in actions:
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    wide = re.findall(
        r"^ +[\w-]+: write", "".join(p.read_text() for p in workflows(source)), re.MULTILINE
    )
    assert wide == ["      id-token: write"]  # the upload's, and only there


@pytest.mark.parametrize("name", ["build", "release"])
def test_packages_are_pinned(source, name):
    """Every package that takes part in a release has one version, and a hash for each file."""
    text = (source / f".github/{name}-requirements.txt").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace(" \\\n", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    for line in lines:
        assert re.fullmatch(r"[\w-]+==[\w.]+( ; [^\\#]+?)?( +--hash=sha256:[0-9a-f]{64})+", line), (
            line
        )
    pinned = {line.split("==")[0].replace("_", "-") for line in lines}
    if name == "build":
        project = (source / "pyproject.toml").read_text()
        required = re.search(r"^requires = \[(.*)\]$", project, re.MULTILINE)[1]
        needed = set(re.findall(r'"([\w-]+)', required)) | {"cmake", "ninja"}
        assert {"scikit-build-core", "pybind11"} < needed <= pinned
        assert "build-requirements.txt" in project  # cibuildwheel installs them
    else:
        assert {"build", "cibuildwheel"} <= pinned
