"""The accuracy of bfloat16 and int8 meets the targets of `treadle bench --accuracy`, against
installed peers.
"""

import json

import numpy as np
import pytest

from treadle.benchmarks.core import registry
from treadle.benchmarks.core.models.minilm.checkpoint import missing
from treadle.benchmarks.kinds.accuracy import demo, encoder, recurrent, report, targets
from treadle.benchmarks.kinds.accuracy.sentences import sentences
from treadle.benchmarks.run import main

needs_model = pytest.mark.skipif(bool(missing()), reason=missing() or "-")
from_peers = pytest.mark.filterwarnings("ignore")  # they announce what they are going to drop
SEEDS = range(2)


def peers(kind, *names):
    return {name: registry.load(kind).peer(name) for name in ("treadle", *names)}


def held(found):
    """The name of each target; all are met."""
    results = list(targets.run({"recurrent": [], "encoder": [], "demo": []} | found))
    assert [f"{result.name}: {result.text}" for result in results if not result.passed] == []
    return [result.name for result in results]


@from_peers
def test_recurrent_nets_against_torch():
    """500 steps.

    Bfloat16 is nearer to float64 than PyTorch's, int8 than its dynamic quantisation.
    """
    torch = pytest.importorskip("torch")
    with torch.inference_mode():
        found = recurrent.measure(peers("recurrent", "torch"), SEEDS)
    assert len(held({"recurrent": found})) == 6
    assert {(r["cell"], r["dtype"], r["backend"]) for r in found} == {
        (cell, dtype, name)
        for cell in ("lstm", "gru")
        for dtype in ("bfloat16", "int8")
        for name in ("treadle", "torch")
    }
    for row in found:
        assert all(2**-12 < error < 2**-4 for error in row["errors"])


@from_peers
def test_lstm_against_onnxruntime():
    """500 steps; int8 is nearer to float64 than DynamicQuantizeLSTM with the same weights."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    found = recurrent.measure(peers("recurrent", "onnxruntime"), SEEDS)
    assert held({"recurrent": found}) == ["lstm, int8, error of a seed over onnxruntime's"]


@needs_model
def test_sentences():
    assert len(sentences(encoder.SENTENCES)) >= 200
    assert len(set(sentences(encoder.SENTENCES))) == len(sentences(encoder.SENTENCES))
    found = encoder.measure(peers("encoder"))
    assert [row["sentences"] for row in found] == [len(sentences(encoder.SENTENCES))] * 2
    assert len(held({"encoder": found})) == 6


@needs_model
@from_peers
@pytest.mark.parametrize("peer", targets.NEARER_THAN)
def test_sentences_against_int8_elsewhere(peer):
    pytest.importorskip(peer)
    pytest.importorskip({"onnxruntime": "onnx", "ctranslate2": "transformers"}[peer])
    found = encoder.measure(peers("encoder", peer))
    assert f"MiniLM, int8, hidden error over {peer}'s" in held({"encoder": found})


def test_demo():
    found = demo.measure()
    assert {row["texts"] for row in found} == {3600, 1200, 720}
    assert len(held({"demo": found})) == 6


def test_compared():
    rng = np.random.default_rng(1)
    right = [rng.standard_normal((length, 8)).astype(np.float32) for length in (3, 5, 4)]
    same = encoder.compare(right, right)
    assert same == pytest.approx({"cosine_mean": 1, "cosine_min": 1, "hidden": 0, "spearman": 1})
    other = [part.copy() for part in right]
    other[1][2, 3] += 0.5
    found = encoder.compare(right, other)
    assert found["hidden"] == 0.5
    assert found["cosine_min"] < found["cosine_mean"] < 1
    assert encoder.spearman(np.array([1.0, 5.0, 2.0]), np.array([0.1, 0.3, 0.2])) == 1
    assert encoder.spearman(np.array([1.0, 5.0, 2.0]), np.array([0.3, 0.1, 0.2])) == -1


def rows(ours, theirs, dtype, peer):
    def row(name, errors):
        return {"cell": "lstm", "dtype": dtype, "backend": name, "errors": errors} | {
            "mean": float(np.mean(errors)),
            "variant": "-",
        }

    return [row("treadle", ours), row(peer, theirs)]


def verdicts(found):
    every = {"recurrent": [], "encoder": [], "demo": []} | found
    return [target.passed for target in targets.run(every)]


def test_targets_can_be_missed():
    measure = lambda *given: verdicts({"recurrent": rows(*given)})
    assert measure([0.2, 0.5], [0.3, 0.5], "bfloat16", "torch") == [True, True]
    assert measure([0.4, 0.5], [0.1, 1.0], "bfloat16", "torch") == [False, True]
    assert measure([0.4, 0.5], [0.3, 0.5], "bfloat16", "torch") == [True, False]
    assert measure([0.4, 0.5], [0.3, 0.9], "int8", "onnxruntime") == [False]
    good = {"cosine_mean": 0.996, "cosine_min": 0.992, "hidden": 0.1, "spearman": 0.996}
    ours = {"dtype": "int8", "backend": "treadle"} | good
    theirs = {"dtype": "int8", "backend": "ctranslate2"} | good | {"hidden": 0.09}
    assert verdicts({"encoder": [ours, theirs]}) == [True, True, True, False]
    assert verdicts({"encoder": [ours | {"dtype": "bfloat16"}]}) == [False, False, False]
    told = [
        {"dtype": dtype, "words": 1, "texts": 1000, "right": right}
        for dtype, right in (("float32", 900), ("bfloat16", 897), ("int8", 896))
    ]
    assert verdicts({"demo": told}) == [True, False]


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(encoder, "measure", lambda *given: [])
    path, readme = tmp_path / "accuracy.json", tmp_path / "README.md"
    assert main(["--accuracy", "--quick", "--json", str(path), "--report", str(readme)]) == 0
    found = json.loads(path.read_text())["accuracy"]
    assert {row["backend"] for row in found["recurrent"]} == {"treadle"}
    assert "demo, int8" in capsys.readouterr().out
    text = readme.read_text()
    assert text.startswith("<!-- bench-accuracy:start -->")
    assert "| lstm | int8 | treadle |" in text
    assert "| 5 | 720 |" in text
    assert report.SECTION == "accuracy"
