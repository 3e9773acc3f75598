"""The object that a trace is: a mapping with axes, tokens and a file."""

import subprocess
import sys

import numpy as np
import pytest

import treadle
from support import samples

X = samples.normal(0, 4, 2, 3)


@pytest.fixture
def trace():
    return treadle.trace(treadle.LSTM(3, 5, seed=0))(X)


def test_mapping(trace):
    assert trace.names == tuple(trace) == tuple(trace.to_dict())
    assert len(trace) == 6
    assert "layer0.forward.gates.forget" in trace
    assert "layer0.forward.gates.other" not in trace
    with pytest.raises(KeyError, match=r"no name of this trace, which has layer0\.forward"):
        trace["layer1.forward.gates.forget"]
    with pytest.raises(KeyError):
        trace.axes("h")
    with pytest.raises(KeyError):
        trace[[1]]
    with pytest.raises(ValueError, match="read-only"):
        trace["layer0.forward.states.cell"][0] = 1
    trace.to_dict().clear()
    assert len(trace) == 6


def test_save(trace, tmp_path):
    path = tmp_path / "trace.npz"
    trace.save(path)
    with np.load(path) as file:
        assert set(file) == {*trace, "axes"}
        for name, array in trace.items():
            np.testing.assert_array_equal(file[name], array)
        assert "layer0.forward.states.cell: time, batch, unit" in file["axes"]
    with pytest.raises(OSError, match="No such file"):
        trace.save(tmp_path / "none" / "trace.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["trace.npz"]


def test_save_as_a_page_or_a_picture(trace, tmp_path):
    pytest.importorskip("matplotlib")
    trace.tokens = ["<b>", "$x", "c", "d"]
    trace.save(tmp_path / "trace.html")
    text = (tmp_path / "trace.html").read_text()
    assert text.startswith("<!doctype html>")
    assert "&lt;b&gt;" in text
    for ending, begin in ((".png", b"\x89PNG"), (".PDF", b"%PDF"), (".svg", b"<?xml")):
        trace.save(tmp_path / f"trace{ending}")
        assert (tmp_path / f"trace{ending}").read_bytes().startswith(begin)
    files = sorted(p.name for p in tmp_path.iterdir())
    assert files == ["trace.PDF", "trace.html", "trace.png", "trace.svg"]
    with pytest.raises(ValueError, match=r"path ends in '\.doc', expected \.npz"):
        trace.save(tmp_path / "trace.doc")
    empty = treadle.trace(treadle.RNN(3, 5, seed=0))(X[:0])
    with pytest.raises(ValueError, match="nothing to draw"):
        empty.save(tmp_path / "none.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == files


def test_tokens(trace):
    assert trace.tokens is None
    trace.tokens = iter(["I", "love", "AI"])
    assert trace.tokens == ("I", "love", "AI")
    for wrong in ("text", 5, [1], [None]):
        with pytest.raises(TypeError, match="tokens"):
            trace.tokens = wrong
    assert trace.tokens == ("I", "love", "AI")


def test_nothing_is_imported_before_it_is_asked_for():
    program = (
        "import sys, treadle; assert 'treadle.inspection' not in sys.modules; treadle.trace; "
        "treadle.inspection; assert not {'matplotlib', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
