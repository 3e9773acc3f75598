"""The benchmark's models that generate: the grid, limits by hand, answers that are judged."""

import dataclasses
import json
from contextlib import nullcontext

import numpy as np
import pytest
import transformers

from treadle.benchmarks.core import registry
from treadle.benchmarks.core.limits import FMA, Rates
from treadle.benchmarks.core.peers import torch as torch_peer
from treadle.benchmarks.kinds import generation
from treadle.benchmarks.kinds.generation import files, limits, targets
from treadle.benchmarks.kinds.generation.cases import GenerationCase
from treadle.benchmarks.run import main

GRID = generation.grid()


def tiny_gpt2():
    return transformers.GPT2Config(
        vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=64, **files.TOKENS
    )


def tiny_t5():
    return transformers.T5Config(
        vocab_size=50,
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=files.START,
        **files.TOKENS,
    )


def tiny_marian():
    return transformers.MarianConfig(
        vocab_size=50,
        d_model=16,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        max_position_embeddings=64,
        decoder_start_token_id=49,
        forced_eos_token_id=None,
        **{**files.TOKENS, "pad_token_id": 49},
    )


TINY = [
    GenerationCase("causal", "tiny-gpt2", 2, 5, "tiny", T=4),
    GenerationCase("causal", "tiny-gpt2", 1, 5, "tiny", T=4, beams=3),
    GenerationCase("seq2seq", "tiny-t5", 2, 6, "tiny", T=4, beams=2, lengths=(6, 3)),
    GenerationCase("seq2seq", "tiny-t5", 1, 6, "tiny", T=4),
    GenerationCase("seq2seq", "tiny-marian", 3, 6, "tiny", T=4, lengths=(6, 3, 4)),
]


@pytest.fixture
def tiny(monkeypatch):
    """The sizes of the models of `TINY`."""
    monkeypatch.setitem(files.CONFIGURATIONS, "tiny-gpt2", tiny_gpt2)
    monkeypatch.setitem(files.CONFIGURATIONS, "tiny-t5", tiny_t5)
    monkeypatch.setitem(files.CONFIGURATIONS, "tiny-marian", tiny_marian)


@pytest.mark.parametrize("case", GRID, ids=lambda case: case.name)
def test_case_is_well_formed(case):
    assert case.reason
    assert generation.words(case)
    assert case.model in files.CONFIGURATIONS
    assert len(case.rows) == case.B
    assert max(case.rows) == case.S
    assert registry.of(case) is generation


def test_grid_has_the_shapes_of_the_goal():
    assert {case.B for case in GRID} == {1, 8, 32}
    assert {case.beams for case in GRID} == {1, 4}
    assert {case.T for case in GRID} == {64}
    assert {32, 512} <= {case.S for case in GRID}


@pytest.mark.parametrize(
    ("name", "millions"),
    [("marian", 68), ("t5-small", 52), ("gpt2", 124), ("llama-135m", 134), ("nllb-600m", 608)],
)
def test_sizes_of_models(name, millions):
    """All weights, by hand: those of encoder and decoder, and the output's."""
    found = limits.weights(name)
    encoder = 0 if name in ("gpt2", "llama-135m") else found.source
    assert round((encoder + found.new + found.output) / 1e6) == pytest.approx(millions, abs=8)


def test_limit_by_hand(tiny):
    """Two layers of 12 x 16^2 weights and an output of 50 x 16; the last step has no successor."""
    case = TINY[0]
    layers, output = 2 * 12 * 16**2, 50 * 16
    assert limits.weights("tiny-gpt2") == (layers, layers, output)
    products = 10 * layers + 2 * output + 3 * 2 * (layers + output)
    assert limits.flops(case) == 2 * products
    assert limits.bytes_read(case) == 4 * (layers + output + 3 * (layers + output))
    assert limits.limit(case, Rates(1e3, lambda size: 1e12)).seconds == pytest.approx(
        2 * products / 1e3
    )
    reading = limits.bytes_read(case) / 1e3
    assert limits.limit(case, Rates(1e12, lambda size: 1e3)).seconds == pytest.approx(reading)
    assert limits.limit(case, Rates(1e12, lambda size: 1e3)).bound_by == 4 * (layers + output)
    assert limits.limit(case, Rates(1e3, lambda size: 1e12)).bound_by == FMA


def check_peer(name, case):
    """Hold a peer's answer against the reference, and see that other tokens are found out."""
    inputs = generation.arguments(case)
    want = generation.expected(case, inputs)
    peer = generation.peer(name)
    prepared = peer.prepare(case, inputs, 1, peer.variants(case, 1)[0])
    got = generation.answer(case, prepared)
    assert generation.error(want, got, prepared) <= want.tolerance
    assert generation.error(want, got[:, :-1], prepared) == np.inf
    peer.release()
    return want, got, prepared


@pytest.mark.parametrize("case", TINY, ids=lambda case: case.name)
@pytest.mark.parametrize("name", ["treadle", "torch"])
def test_everybody_is_right_and_wrong_tokens_are_found(tiny, case, name):
    want, got, prepared = check_peer(name, case)
    got[0, -1] = (got[0, -1] + 1) % 49
    assert generation.error(want, got, prepared) > want.tolerance


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("name", ["treadle", "torch"])
def test_low_precision_has_a_reference(tiny, name, dtype):
    for case in TINY:
        check_peer(name, dataclasses.replace(case, dtype=dtype))


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_ctranslate2_is_right(tiny, dtype):
    pytest.importorskip("ctranslate2")
    for case in TINY:
        check_peer("ctranslate2", dataclasses.replace(case, dtype=dtype))


def test_low_precision_runs_cases_of_the_grid():
    chosen = generation.low_precision()
    assert {case.model for case in chosen} == {case.model for case in GRID} - {"nllb-600m"}
    assert set(chosen) <= set(GRID)


def entry(name, dtype="float32", **microseconds):
    results = {peer: {"median_us": found} for peer, found in microseconds.items()}
    slowest = min(v for k, v in microseconds.items() if k != "treadle") / microseconds["treadle"]
    return {
        "name": name,
        "kind": "generation",
        "dtype": dtype,
        "results": results,
        "speedup": slowest,
    }


def test_targets_by_hand(monkeypatch):
    """Two cases against two peers; the second is one text, twice as fast in bfloat16."""
    text = "causal/gpt2/1x32+64"
    cases = [
        entry("seq2seq/marian/32x64+64-beams4-lognormal", treadle=10, torch=40, ctranslate2=20),
        entry(text, treadle=10, torch=10, ctranslate2=5),
        entry(text + "/bfloat16", "bfloat16", treadle=5, torch=10),
    ]
    monkeypatch.setattr(targets, "missing", lambda: "no models here")
    found = {r.name: r for r in targets.run({"cases": cases}, "float32")}
    assert found["never slower than a peer, generation"].value == 0.5
    assert found["geometric mean against ctranslate2, generation"].value == pytest.approx(1.0)
    assert found["geometric mean against torch, generation"].value == pytest.approx(2.0)
    assert found[f"times faster, {cases[0]['name']}"].passed
    low = {r.name: r for r in targets.run({"cases": cases}, "bfloat16")}
    assert low[f"bfloat16, {text}"].value == 2.0
    assert low[f"bfloat16, {text}"].passed


def test_first_token_and_loading(tiny, monkeypatch):
    monkeypatch.setattr(targets, "grid", lambda: TINY[:1])
    first, loading = targets.run({"cases": []}, "float32")
    assert first.name == "first token, tiny-gpt2"
    assert first.value > 0
    assert loading.name == "loading tiny-gpt2"
    assert loading.value > 0
    assert "times the file in memory" in loading.text


def test_a_run(tiny, monkeypatch, tmp_path):
    file = tmp_path / "found.json"
    arguments = ["--kind", "generation", "--quick", "--peers", "torch", "--json", str(file)]
    cases = [GenerationCase("causal", "tiny-gpt2", 2, 5, "tiny", T=4, quick=True)]
    monkeypatch.setattr(generation, "grid", lambda: cases)
    # A run enters inference mode for good; other tests of this process want gradients.
    monkeypatch.setattr(torch_peer, "INFERENCE", nullcontext())
    assert main(arguments) == 0
    (case,) = json.loads(file.read_text())["cases"]
    assert case["name"] == "causal/tiny-gpt2/2x5+4"
    assert set(case["results"]) == {"treadle", "torch"}
    assert not case["wrong"]
