"""treadle embed and treadle search."""

import io
import sys

import numpy as np
import pytest

from support.checkpoints import MINILM
from support.tolerance import assert_same_bits
from treadle.cli.main import main
from treadle.transformers import SentenceTransformer

LINES = [
    "The stock market fell sharply on Monday.",
    "",
    "A cat is sleeping on the warm windowsill.",
    "Weaving needs a warp and a treadle.",
    "Ünïcödé, 漢字 🧵",
]


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return path


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_embed(capsys, lines, tmp_path):
    """A row for each line, empty ones too."""
    target = tmp_path / "e.npy"
    status, out, err = run(capsys, "embed", MINILM, "--input", lines, "--output", target)
    assert (status, err) == (0, "")
    assert "5 vectors of 384" in out
    vectors = np.load(target)
    assert_same_bits(vectors, SentenceTransformer(MINILM).encode(LINES))


@pytest.mark.parametrize("text", ["", "one", "one\r\ntwo\r\n", "\ufeffone\ntwo"])
def test_line_endings(capsys, tmp_path, text):
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(text.encode())
    assert run(capsys, "embed", MINILM, "--input", source, "--output", target)[0] == 0
    expected = text.replace("\ufeff", "").replace("\r", "").split("\n") if text else []
    expected = expected[:-1] if text.endswith("\n") else expected
    assert_same_bits(np.load(target), SentenceTransformer(MINILM).encode(expected))


def test_standard_input(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(LINES).encode())))
    target = tmp_path / "e.npy"
    options = ("--batch-size", 2, "--normalize")
    status, *_ = run(capsys, "embed", MINILM, "--input", "-", "--output", target, *options)
    assert status == 0
    np.testing.assert_allclose(np.linalg.norm(np.load(target), axis=1), 1, rtol=1e-6)


def test_search(capsys, lines):
    status, out, err = run(
        capsys, "search", MINILM, "Where is the kitten?", "--input", lines, "--top", 2
    )
    assert (status, err) == (0, "")
    score, number, text = out.splitlines()[0].split(maxsplit=2)
    assert 0.2 < float(score) < 1
    assert (number, text) == ("3", LINES[2])
    assert len(out.splitlines()) == 2
    status, out, _ = run(capsys, "search", MINILM, "loom", "--input", lines, "--top", 99)
    assert len(out.splitlines()) == 4  # not the empty one


def test_errors(capsys, lines, tmp_path):
    """A message on standard error, and no file."""
    target = tmp_path / "e.npy"
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"fine\n\xff\xfe\n")
    cases = [
        (("embed", tmp_path, "--input", lines, "--output", target), "config.json"),
        (("embed", "no/such", "--input", lines, "--output", target), "no/such"),
        (("embed", MINILM, "--input", tmp_path / "none", "--output", target), "none"),
        (("embed", MINILM, "--input", bad, "--output", target), "line 2"),
        (
            ("embed", MINILM, "--input", lines, "--output", target, "--batch-size", 0),
            "batch_size",
        ),
        (("embed", MINILM, "--input", lines, "--output", tmp_path / "no" / "e.npy"), "no"),
        (("embed", MINILM, "--input", lines, "--output", tmp_path), "is the directory"),
        (("embed", MINILM, "--input", lines, "--output", lines), "is the input"),
        (("search", MINILM, "x", "--input", lines, "--top", 0), "--top"),
        (("search", MINILM, "x", "--input", tmp_path), "directory"),
    ]
    for arguments, culprit in cases:
        status, out, err = run(capsys, *arguments)
        assert (status, out) == (1, "")
        assert culprit in err
        assert err.startswith("treadle")
        assert not target.exists()


def test_search_in_nothing(capsys, tmp_path):
    (tmp_path / "empty").write_text("\n\n")
    assert run(capsys, "search", MINILM, "x", "--input", tmp_path / "empty") == (0, "", "")


def test_outputs_are_checked_first(capsys, lines, tmp_path, monkeypatch):
    """Outputs are checked before the work begins, not when it is done."""
    monkeypatch.setattr(SentenceTransformer, "encode", None)
    target = tmp_path / "no" / "e.npy"
    status, _, err = run(capsys, "embed", MINILM, "--input", lines, "--output", target)
    assert (status, err) == (
        1,
        f"treadle embed: there is no directory {target.parent} for --output\n",
    )


def test_closed_streams(capsys, lines, tmp_path, monkeypatch):
    """The streams are closed as after a shell's <&- and >&-."""
    monkeypatch.setattr(sys, "stdin", None)
    status, _, err = run(capsys, "embed", MINILM, "--input", "-", "--output", tmp_path / "e.npy")
    assert status == 1
    assert "standard input" in err
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["search", str(MINILM), "loom", "--input", str(lines)]) == 0
