"""The benchmark in bfloat16 and int8: limits and tolerances by hand, peers, report, targets."""

import dataclasses
import importlib
import json
from contextlib import nullcontext

import numpy as np
import pytest

import treadle
from treadle.benchmarks import report
from treadle.benchmarks.core import limits, registry
from treadle.benchmarks.core.dtypes import BYTES, DTYPES, LOW_PRECISION, parse
from treadle.benchmarks.core.errors import BFloat16, Int8, Plain, errors_of, tolerance
from treadle.benchmarks.core.kind import Unsupported
from treadle.benchmarks.core.limits import FMA, Limit, Rates
from treadle.benchmarks.core.models.minilm.case import EncoderCase
from treadle.benchmarks.core.models.recurrent import work
from treadle.benchmarks.core.models.recurrent.case import NetCase as Case
from treadle.benchmarks.core.summary import section_of
from treadle.benchmarks.kinds import attention, encoder, recurrent
from treadle.benchmarks.kinds.encoder import targets as encoder_targets
from treadle.benchmarks.kinds.recurrent import targets as recurrent_targets
from treadle.benchmarks.run import main

needs_model = pytest.mark.skipif(bool(encoder.missing()), reason=encoder.missing() or "-")
TINY = [
    Case("lstm", "step", 1, 1, 64, 96, "tiny"),
    Case("gru", "step", 1, 3, 64, 96, "tiny"),
    Case("lstm", "batch", 6, 5, 64, 96, "tiny"),
    Case("gru", "batch", 6, 5, 64, 96, "tiny"),
]


def test_names_and_dtypes():
    cases = registry.grid(dtypes=DTYPES)
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        assert case.name.endswith(f"/{case.dtype}") == (case.dtype != "float32")
        assert registry.about(case)["dtype"] == case.dtype
    low_kinds = {case.kind for case in cases if case.dtype == "int8"}
    assert low_kinds == {"recurrent", "encoder", "generation"}
    assert registry.grid(dtypes=("float32",)) == registry.grid()
    low = registry.grid(("encoder",), ("int8",))
    assert {(c.B, c.S) for c in low} == {(1, 8), (1, 32), (1, 128), (32, 32), (32, 128)}
    assert any(case.lengths for case in low)
    steps = {(c.cell, c.H) for c in recurrent.low_precision() if c.carried}
    assert steps == {(cell, size) for cell in ("lstm", "gru") for size in (128, 256, 512, 1024)}
    assert all(c.B >= 32 and c.H >= 256 for c in recurrent.low_precision() if not c.carried)
    assert attention.low_precision() == []


def test_what_is_left_out_is_said():
    found = registry.only_float32(("attention", "encoder"), ("float32", "int8"))
    assert found == {"attention cases in int8": "only float32 is timed"}
    assert registry.only_float32(registry.KINDS, ("float32",)) == {}


def test_list_of_dtypes():
    assert parse("int8,bfloat16,int8,") == ("int8", "bfloat16")
    for text in ("", ",", "float16", "int8,fp8"):
        with pytest.raises(ValueError, match="--dtype"):
            parse(text)
    with pytest.raises(ValueError, match="no case of attention in int8"):
        main(["--kind", "attention", "--dtype", "int8"])


# By hand, as in test_benchmarks.py: LSTM, I = 2, H = 3, 24 input and 36 recurrent weights.


def test_limits():
    for dtype, width in BYTES.items():
        step = Case("lstm", "step", 1, 1, 2, 3, "by hand", dtype=dtype)
        assert work.weight_bytes(step) == width * 60
        assert work.flops(step) == 2 * 60
        assert work.limit(step, Rates(1e9, lambda _: 60)).seconds == width
        sequence = dataclasses.replace(step, T=5, B=2)
        assert work.bytes_read(sequence) == width * (24 + 5 * 36)
        assert work.limit(sequence, Rates(1000, lambda _: 1e9)).seconds == pytest.approx(
            0.48 + 0.72
        )


def test_targets_of_a_case():
    spent, rates = Limit({FMA: 1.0}, 0.0, 0.0), Rates(1e11, float)
    batch = Case("gru", "batch", 10, 32, 256, 256, "", dtype="bfloat16")
    assert recurrent.target(batch, spent, rates).allowed == work.flops(batch) / 0.85e11
    int8 = dataclasses.replace(batch, dtype="int8")
    assert recurrent.target(int8, spent, rates).allowed == work.flops(int8) / 0.7e11
    assert recurrent.target(dataclasses.replace(batch, B=16), spent, rates) is None
    step = Case("lstm", "step", 1, 1, 128, 128, "", dtype="int8")
    assert recurrent.target(step, spent, rates).allowed == 3e-6
    for other in ({"cell": "gru"}, {"H": 256}, {"dtype": "bfloat16"}):
        assert recurrent.target(dataclasses.replace(step, **other), spent, rates) is None


def test_peaks_are_of_their_dtype():
    class Core:
        def multiply_peak(self, seconds, dtype):
            return {"float32": 1.0, "bfloat16": 2.0, "int8": 4.0}[dtype]

    meter = limits.Meter(Core(), 2)
    assert [meter.peak(dtype=dtype) for dtype in DTYPES] == [2.0, 4.0, 8.0]


def test_errors_that_are_allowed():
    a = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -3.0], np.float32)
    assert BFloat16().kept(a).tolist() == [1, 1, 1 + 2**-6, -3]  # even in the middle
    assert Plain().kept(a) is a
    x = np.linspace(-1, 3, 97).astype(np.float32)
    off = np.abs(Int8().inputs(x) - x).max()
    assert 0.4 * 4 / 127 < off <= 0.5 * 4 / 127 + 1e-6
    off = np.abs(Int8().weights(x) - x).max()
    assert 0.4 * 3 / 127 < off <= 0.5 * 3 / 127 + 1e-6
    assert not Int8().inputs(np.zeros((2, 2), np.float32)).any()
    assert not Int8().weights(np.zeros((2, 2), np.float32)).any()
    assert tolerance(0.5, 0.1, errors_of("float32")) == 1 + 4 * 2.0**-23
    assert tolerance(0.5, 2.0, errors_of("bfloat16")) == 1 + 8 * 2.0**-7


@pytest.mark.parametrize("case", TINY, ids=lambda case: case.name)
def test_tolerance_tells_a_wrong_answer(case):
    """A net without its recurrent weights is further off than any dtype may be."""
    given = recurrent.arguments(case)
    wrong = [w._replace(hh=np.zeros_like(w.hh)) for w in given[0]]
    module = recurrent.peer("treadle")
    (variant,) = module.variants(case, 1)
    prepared = module.prepare(case, (wrong, given[1]), 1, variant)
    got = recurrent.answer(case, prepared)
    for dtype in LOW_PRECISION:
        want = recurrent.expected(dataclasses.replace(case, dtype=dtype), given)
        assert recurrent.error(want, got, prepared) > want.tolerance


PEERS = {"treadle": "treadle", "torch": "torch", "onnxruntime": "onnx", "openvino": "openvino"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", LOW_PRECISION)
@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("case", TINY, ids=lambda case: case.name)
def test_peers_agree_with_the_reference(case, peer, dtype):
    pytest.importorskip(peer)
    pytest.importorskip(PEERS[peer])
    with without_gradients(peer):
        check(dataclasses.replace(case, dtype=dtype), peer)


@needs_model
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", LOW_PRECISION)
@pytest.mark.parametrize("peer", [*PEERS, "ctranslate2"])
@pytest.mark.parametrize(
    "case",
    [
        EncoderCase("encoder", 1, 5, "tiny"),
        EncoderCase("encoder", 2, 7, "tiny", lengths=(7, 3), one_call=True),
    ],
    ids=lambda case: case.name,
)
def test_encoders_agree_with_the_reference(case, peer, dtype):
    pytest.importorskip(peer)
    pytest.importorskip(PEERS.get(peer, "transformers"))
    with without_gradients(peer):
        check(dataclasses.replace(case, dtype=dtype), peer)


@needs_model
@pytest.mark.parametrize("dtype", LOW_PRECISION)
def test_tolerance_tells_other_sentences(dtype):
    """The hidden states of other tokens are further off than any dtype may be."""
    case = EncoderCase("encoder", 4, 12, "tiny", dtype=dtype)
    given = encoder.arguments(case)
    want = encoder.expected(case, given)
    prepared = encoder.peer("treadle").prepare(case, given, 1, "AutoModel")
    got = encoder.answer(case, prepared)
    assert encoder.error(want, got, prepared) < want.tolerance / 4
    assert encoder.error(want, got[::-1], prepared) > want.tolerance


def without_gradients(peer):
    """Turn gradients off, as a run of the benchmark does."""
    return importlib.import_module(peer).inference_mode() if peer == "torch" else nullcontext()


# Who has no such dtype, and where: cells of recurrent nets, "encoder".
WITHOUT = {
    ("onnxruntime", "bfloat16"): ("lstm", "gru", "encoder"),
    ("onnxruntime", "int8"): ("gru",),
    ("openvino", "int8"): ("lstm", "gru"),
}


def check(case, peer):
    """Every variant is right, and none is float32."""
    kind = registry.of(case)
    module, given = kind.peer(peer), kind.arguments(case)
    want = kind.expected(case, given)
    cell = getattr(case, "cell", "encoder")
    for variant in module.variants(case, 1):
        try:
            prepared = module.prepare(case, given, 1, variant)
        except Unsupported:
            if peer != "ctranslate2":  # whether it has bfloat16 depends on the CPU
                assert cell in WITHOUT[peer, case.dtype]
            continue
        got = kind.answer(case, prepared)
        error = kind.error(want, got, prepared)
        assert error <= want.tolerance, variant
        if peer != "openvino" or treadle.isa() in (
            "avx512_bf16",
            "amx",
        ):  # it takes float32 where that is faster
            plain = kind.expected(dataclasses.replace(case, dtype="float32"), given)
            assert error > plain.tolerance, variant
    module.release()


def fake(case, ours, peers):
    fastest = min(peers, key=peers.get)
    return registry.about(case) | {
        "name": case.name,
        "kind": case.kind,
        "results": {n: {"median_us": us} for n, us in {"treadle": ours, **peers}.items()},
        "wrong": {},
        "limit_us": ours / 2,
        "of_limit": 0.5,
        "bound_by": "FMA",
        "fastest_peer": fastest,
        "speedup": peers[fastest] / ours,
    }


@pytest.fixture
def result():
    cases = [
        fake(case, 1000.0, {"torch": 2000.0, "openvino": 1500.0 if case.dtype == "int8" else 900.0})
        for case in registry.grid(("encoder",), DTYPES)
        if not case.sentences
    ]
    return {
        "command": "treadle bench --fake",
        "date": "2026-01-01",
        "threads": 1,
        "pinned_to": [1],
        "machine": {"cpu": "a CPU", "python": "3", "numpy": "2"},
        "versions": {"treadle": "0", "torch": "1", "openvino": "2", "ctranslate2": "3"},
        "limits": {"peak_gflops": 100.0, "low_precision_gflops": {"int8": 400.0}, "levels": []},
        "cases": cases,
    }


def test_targets_against_peers(result):
    low = list(encoder_targets.run(result, "int8"))
    assert [(target.passed, target.value) for target in low] == [
        (True, 1.5),
        (True, pytest.approx(1.5)),
    ]
    lost = list(encoder_targets.run(result, "bfloat16"))
    assert [(target.passed, target.value) for target in lost] == [
        (False, 0.9),
        (False, pytest.approx(0.9)),
    ]
    assert {section_of(dataclasses.asdict(target)) for target in low} == {"encoder-int8"}


def test_report_has_a_block_for_each_dtype(result, tmp_path):
    pytest.importorskip("matplotlib")
    result["targets"] = [
        dataclasses.asdict(target)
        for dtype in LOW_PRECISION
        for target in encoder_targets.run(result, dtype)
    ]
    path = tmp_path / "README.md"
    sections = [f"encoder{ending}" for ending in ("", "-bfloat16", "-int8")]
    path.write_text("\n".join(line for name in sections for line in report.markers(name)))
    report.write(result, path, tmp_path)
    text = path.read_text()
    first, last = report.markers("encoder-int8")
    block = text[text.index(first) : text.index(last)]
    assert "400 GFLOP/s int8" in block
    assert "`encoder/minilm/1x8/int8`" in block
    assert "/bfloat16`" not in block
    assert "geometric mean, encoder/int8 | 1.50x" in block
    assert "encoder/bfloat16" not in block
    assert "| torch | openvino | faster by |" in block  # CTranslate2 has nothing here
    assert (tmp_path / "encoder-int8.png").exists()


def test_time_of_steps(monkeypatch):
    times = {"float32": 10.0, "bfloat16": 6.0}

    class Timing:
        def __init__(self, name):
            self.median = times[name]

    monkeypatch.setattr(recurrent_targets, "ours", lambda case: case)
    monkeypatch.setattr(
        recurrent_targets, "take_turns", lambda runs, effort: {name: Timing(name) for name in runs}
    )
    found = list(recurrent_targets.steps("bfloat16"))
    assert {target.name for target in found} == {
        f"time of {cell}/step/1x1x{size}x{size}/bfloat16"
        for cell in ("lstm", "gru")
        for size in (256, 512, 1024)
    }
    assert all(target.value == 0.6 for target in found)
    assert [target.passed for target in found] == [True, True, False] * 2


def test_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(recurrent_targets, "run", lambda result, dtype: iter(()))
    path = tmp_path / "low.json"
    arguments = ["--quick", "--dtype", "bfloat16,int8", "--targets", "--json", str(path)]
    assert main([*arguments, "--filter", "gru/step/1x1x128x128"]) == 0
    result = json.loads(path.read_text())
    names = [f"gru/step/1x1x128x128/{dtype}" for dtype in LOW_PRECISION]
    assert [case["name"] for case in result["cases"]] == names
    assert [case["dtype"] for case in result["cases"]] == list(LOW_PRECISION)
    assert set(result["summary"]) == {"recurrent-bfloat16", "recurrent-int8"}
    assert set(result["limits"]["low_precision_gflops"]) == set(LOW_PRECISION)
    assert "training cases in bfloat16 and int8" in result["missing"]
    assert result["targets"] == []
    assert "GFLOP/s int8" in capsys.readouterr().out
