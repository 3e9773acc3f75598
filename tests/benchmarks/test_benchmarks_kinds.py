"""The benchmark's attention and encoder cases: well-formed, limits and targets by hand, a run, a
report.
"""

import dataclasses
import json

import numpy as np
import pytest

from treadle.benchmarks import front, report
from treadle.benchmarks.core import measure, peers, registry
from treadle.benchmarks.core.comparisons import against_peers
from treadle.benchmarks.core.kind import PEERS
from treadle.benchmarks.core.limits import FMA, Limit, Rates
from treadle.benchmarks.core.models.attention.case import AttentionCase, mask
from treadle.benchmarks.core.models.minilm.case import EncoderCase
from treadle.benchmarks.core.summary import by_section
from treadle.benchmarks.core.target import Result
from treadle.benchmarks.kinds import attention, encoder
from treadle.benchmarks.kinds.attention import limits as attention_limits
from treadle.benchmarks.kinds.attention import targets as attention_targets
from treadle.benchmarks.kinds.encoder import limits as encoder_limits
from treadle.benchmarks.kinds.encoder import targets as encoder_targets
from treadle.benchmarks.kinds.encoder.cases import around
from treadle.benchmarks.kinds.recurrent import targets as recurrent_targets
from treadle.benchmarks.run import main

ATTENTION, ENCODER = attention.grid(), encoder.grid()
NOTHING = Limit({}, 0.0, 0.0)
needs_model = pytest.mark.skipif(bool(encoder.missing()), reason=encoder.missing() or "-")
TINY = [
    AttentionCase("attention", 2, 3, 5, 5, 7, "tiny"),
    AttentionCase("attention", 1, 2, 9, 9, 8, "tiny", causal=True),
    AttentionCase("attention", 1, 2, 3, 9, 8, "tiny"),
    AttentionCase("attention", 3, 2, 6, 6, 8, "tiny", lengths=(6, 1, 4)),
    AttentionCase("attention", 3, 4, 6, 6, 8, "tiny", Nk=2, lengths=(6, 1, 4), causal=True),
    AttentionCase("decode", 2, 4, 1, 11, 8, "tiny", Nk=2),
    AttentionCase("decode", 3, 2, 1, 11, 8, "tiny", lengths=(3, 11, 1)),
]


def test_every_kind_answers_every_question():
    names = ["GROUPS", "NOTE", "PEERS", "UNIT", "answer", "arguments", "measure_targets"]
    names += [
        "buffer_sizes",
        "bytes_read",
        "describe",
        "error",
        "expected",
        "flops",
        "grid",
        "absent",
    ]
    names += ["limit", "low_precision", "missing", "peer", "target", "words"]
    for name in registry.KINDS:
        kind = registry.load(name)
        assert [n for n in names if not hasattr(kind, n)] == []
        assert set(kind.PEERS) <= set(PEERS)
        assert {case.group for case in kind.grid()} == set(kind.GROUPS)
        assert all(registry.of(case) is kind for case in kind.grid())
    assert set(registry.peers()) == set(PEERS)


def test_names_are_unique_and_have_reasons():
    cases = registry.grid()
    assert len({case.name for case in cases}) == len(cases)
    assert all(case.reason for case in cases)
    for kind in (ATTENTION, ENCODER):
        quick = [case for case in kind if case.quick]
        assert {case.group for case in quick} == {case.group for case in kind}
        assert len(quick) <= len(kind) / 2


@pytest.mark.parametrize("case", ATTENTION, ids=lambda case: case.name)
def test_attention_case_is_well_formed(case):
    assert case.N % case.kv_heads == 0
    assert 1 <= case.E <= 256
    assert case.decoding == (case.group == "decode")
    assert not case.causal or case.S == case.K
    if case.lengths:
        assert len(case.lengths) == case.B
        assert max(case.lengths) == case.K
        assert min(case.lengths) >= 1


def test_grids_have_the_shapes_of_the_goal():
    shapes = {(c.B, c.N, c.S, c.K, c.E, c.kv_heads, c.causal, bool(c.lengths)) for c in ATTENTION}
    assert shapes >= {
        (1, 12, 128, 128, 64, 12, False, False),
        (1, 12, 512, 512, 64, 12, False, False),
        (1, 12, 2048, 2048, 64, 12, False, False),
        (1, 12, 2048, 2048, 64, 12, True, False),
        (1, 32, 1, 4096, 128, 32, False, False),
        (1, 32, 1, 4096, 128, 8, False, False),
        (1, 12, 128, 128, 32, 12, False, False),
        (32, 12, 128, 128, 32, 12, False, False),
        (8, 12, 512, 512, 64, 12, True, False),
        (8, 12, 512, 512, 64, 12, False, True),
        (1, 32, 2048, 2048, 128, 32, True, False),
    }
    batches = {(c.B, c.S) for c in ENCODER if not c.sentences}
    assert batches >= {(1, 8), (1, 32), (1, 128), (32, 32), (32, 128)}
    assert any(c.one_call and c.lengths and c.B == 32 for c in ENCODER)
    assert 10_000 in {c.B for c in ENCODER if c.sentences}
    (half,) = {c.lengths for c in ATTENTION if c.lengths and not c.decoding}
    assert sum(half) == len(half) * max(half) / 2


def test_lengths_around():
    lengths = around(32, 32, 128)
    assert lengths == around(32, 32, 128)
    assert (len(lengths), max(lengths)) == (32, 128)
    assert 20 <= np.median(lengths) <= 45


# The limit by hand, at 1000 FLOP/s and so many bytes/s.


def test_limit_of_attention():
    full = AttentionCase("attention", 2, 3, 20, 20, 5, "by hand")
    assert attention.flops(full) == 4 * 5 * 2 * 3 * 400
    assert attention.limit(full, Rates(1000, lambda _: 1)).seconds == attention.flops(full) / 1000
    assert attention.limit(full, Rates(1000, lambda _: 1)).bound_by == FMA
    causal = dataclasses.replace(full, causal=True)
    assert causal.pairs() == 2 * 20 * 21 // 2
    ragged = dataclasses.replace(full, lengths=(20, 2))
    assert ragged.pairs() == 404
    assert dataclasses.replace(ragged, causal=True).pairs() == 213


def test_limit_of_decoding():
    case = AttentionCase("decode", 2, 4, 1, 10, 5, "by hand", Nk=2, lengths=(10, 6), goal=True)
    size = 2 * 4 * 5 * 2 * 16  # keys and values x bytes x E x heads x tokens
    assert attention.bytes_read(case) == size
    assert attention.flops(case) == 4 * 5 * 4 * 16
    assert attention.buffer_sizes(case) == [size]
    assert attention.limit(case, Rates(1e9, lambda _: 640)).seconds == 2.0
    assert attention.limit(case, Rates(1e9, lambda _: 640)).bound_by == size
    assert attention.limit(case, Rates(1280, lambda _: 1e9)).seconds == 1.0
    target = attention.target(case, Limit({size: 2.0}, 0.0, 1.0), Rates(1e9, lambda _: 640))
    assert target.allowed == pytest.approx(2.0 / 0.85)


def test_targets_of_attention():
    case = AttentionCase("attention", 1, 12, 512, 512, 64, "", goal=True)
    allowed = attention.flops(case) / 1e11
    assert attention.target(case, NOTHING, Rates(1e11, float)).allowed == pytest.approx(
        allowed / 0.85
    )
    short = dataclasses.replace(case, S=128, K=128)
    allowed = attention.flops(short) / 1e11
    assert attention.target(short, NOTHING, Rates(1e11, float)).allowed == pytest.approx(
        allowed / 0.75
    )
    for other in ({"causal": True}, {"goal": False}, {"S": 32}):
        assert (
            attention.target(dataclasses.replace(case, **other), NOTHING, Rates(1e11, float))
            is None
        )


@needs_model
def test_limit_of_the_encoder():
    weights = 6 * (4 * 384 * 384 + 2 * 384 * 1536)
    case = EncoderCase("encoder", 2, 5, "by hand", lengths=(5, 3), bandwidth_target=True)
    assert encoder_limits.weight_bytes(case) == 4 * weights
    assert encoder.flops(case) == 2 * weights * 8 + 4 * 384 * 6 * (25 + 9)
    extra = 4 * 384 * 6 * 34 / 1e9
    reading = encoder.limit(case, Rates(1e9, lambda _: 4 * weights)).seconds
    assert reading == pytest.approx(1 + extra)
    multiplying = encoder.limit(case, Rates(1e9, lambda _: 1e12)).seconds
    assert multiplying == pytest.approx(encoder.flops(case) / 1e9)
    target = encoder.target(case, NOTHING, Rates(1e9, lambda _: 4 * weights))
    assert target.allowed == pytest.approx(1.3)
    assert (
        encoder.target(dataclasses.replace(case, bandwidth_target=False), NOTHING, Rates(1, float))
        is None
    )
    low = dataclasses.replace(case, dtype="int8")
    assert encoder.buffer_sizes(low) == [weights]
    assert encoder.flops(low) == encoder.flops(case)
    assert encoder.limit(low, Rates(1e9, lambda _: 4 * weights)).seconds == pytest.approx(
        0.25 + extra
    )
    assert encoder.target(low, NOTHING, Rates(1e9, lambda _: 4 * weights)).allowed == 0.8e-3
    assert (
        encoder.target(dataclasses.replace(case, dtype="bfloat16"), NOTHING, Rates(1, float))
        is None
    )


def test_mask():
    case = AttentionCase("attention", 2, 1, 3, 3, 1, "", lengths=(3, 1))
    assert mask(case)[:, 0, 0].tolist() == [[True, True, True], [True, False, False]]
    causal = mask(dataclasses.replace(case, causal=True))
    assert causal[0, 0].tolist() == np.tri(3, dtype=bool).tolist()
    assert causal[1, 0, :, 1:].any() == np.False_


def check(case, name):
    """Every variant of a peer is right."""
    kind = registry.of(case)
    peers.start(name, 1)
    module, given = kind.peer(name), kind.arguments(case)
    want = kind.expected(case, given)
    for variant in module.variants(case, 1):
        prepared = module.prepare(case, given, 1, variant)
        got = kind.answer(case, prepared)
        assert kind.error(want, got, prepared) <= want.tolerance, variant
    return want, got, prepared


@pytest.mark.parametrize("case", TINY, ids=lambda case: case.name)
def test_attention_agrees_with_the_reference(case):
    want, got, prepared = check(case, "treadle")
    assert want.tolerance < 1e-4
    off = got + 2 * want.tolerance
    assert attention.error(want, off, prepared) > want.tolerance
    off = got.copy()
    off[0, 0, 0, 0] = np.nan
    assert attention.error(want, off, prepared) == np.inf
    assert attention.error(want, got[:, :, :, 1:], prepared) == np.inf


@needs_model
@pytest.mark.parametrize(
    "case",
    [
        EncoderCase("encoder", 1, 5, "tiny"),
        EncoderCase("encoder", 3, 7, "tiny", lengths=(7, 2, 4)),
        EncoderCase("encode", 20, 0, "tiny"),
    ],
    ids=lambda case: case.name,
)
def test_encoder_agrees_with_the_reference(case):
    want, got, prepared = check(case, "treadle")
    assert want.tolerance < 1e-3
    assert encoder.error(want, got + 2 * want.tolerance, prepared) > want.tolerance
    assert encoder.error(want, got[:0], prepared) == np.inf
    assert encoder.error(want, got * np.float32(np.nan), prepared) == np.inf


@needs_model
def test_sentences_are_short_and_the_same_each_time():
    about = encoder.text.about(1000)
    assert encoder.text.sentences(1000)[:100] == encoder.text.sentences(100)
    assert len(set(encoder.text.sentences(1000))) > 900
    assert about["longest"] < encoder.text.MOST_TOKENS
    assert 5 <= about["median_tokens"] <= 40


def test_very_long_calls_are_made_twice(monkeypatch):
    order = []
    monkeypatch.setattr(measure, "SLOW_CALL", 0.0)
    monkeypatch.setattr(measure, "VERY_LONG_CALL", 0.0)
    runs = {name: (lambda name=name: order.append(name)) for name in "ab"}
    timed = measure.take_turns(runs, measure.Effort(sample=1e-9, total=0.0))
    assert timed["a"].turns == 2
    assert order == ["a", "b", "a", "a", "b", "b"]  # short ones still warm up before each turn


def test_run_of_several_kinds(tmp_path, capsys):
    wanted = "^(lstm/step/1x1x32x32|attention/1x12x32x32x32|decode/1x12x1x512x64)$"
    path, readme = tmp_path / "several.json", tmp_path / "README.md"
    blocks = [f"{a}\nold {kind}\n{b}" for kind in registry.KINDS for a, b in [report.markers(kind)]]
    readme.write_text("\n".join(["first", *blocks, "last\n"]))
    arguments = ["--quick", "--filter", wanted, "--json", str(path), "--report", str(readme)]
    assert main(arguments) == 0
    result = json.loads(path.read_text())
    assert [case["kind"] for case in result["cases"]] == ["recurrent", "attention", "attention"]
    assert set(result["summary"]) == {"recurrent", "attention"}
    text = readme.read_text()
    assert "`decode/1x12x1x512x64`" in text
    assert "old encoder" in text
    assert "old attention" not in text
    assert text.index("lstm/step") < text.index("attention/1x12")
    capsys.readouterr()
    assert main(["--kind", "attention", "--list"]) == 0
    listed = capsys.readouterr().out
    assert "decode/" in listed
    assert "lstm/" not in listed


def fake(name, kind, treadle, peers):
    case = next(case for case in registry.load(kind).grid() if case.name == name)
    results = {"treadle": {"median_us": treadle}} | {
        n: {"median_us": us} for n, us in peers.items()
    }
    fastest = min(peers, key=peers.get)
    return registry.about(case) | {
        "name": name,
        "kind": kind,
        "results": results,
        "wrong": {},
        "limit_us": 1000.0,
        "of_limit": 1000 / treadle,
        "bound_by": "FMA",
        "fastest_peer": fastest,
        "speedup": peers[fastest] / treadle,
    }


@pytest.fixture
def result():
    cases = [
        fake("attention/1x12x512x512x64", "attention", 8000.0, {"torch": 16000.0}),
        fake("decode/1x32x1x4096x128", "attention", 8000.0, {"torch": 4000.0}),
        fake("encoder/minilm/1x8", "encoder", 2000.0, {"torch": 9000.0, "ctranslate2": 4000.0}),
        fake("encoder/minilm/32x128-lognormal", "encoder", 1e6, {"ctranslate2": 1.4e6}),
        fake(
            "encode/minilm/10000",
            "encoder",
            1e7,
            {"sentence_transformers": 2e7, "onnxruntime": 1.6e7, "ctranslate2": 1.2e7},
        ),
    ]
    entries = [
        dataclasses.asdict(Result("a target", "text of attention", True, 1.0, 1.0, "attention")),
        dataclasses.asdict(Result("a target", "text of encoder", False, 0.0, 1.0, "encoder")),
    ]
    versions = {"treadle": "0", "torch": "1", "ctranslate2": "2", "sentence_transformers": "3"}
    return {
        "command": "treadle bench --fake",
        "date": "2026-01-01",
        "threads": 1,
        "machine": {"cpu": "a CPU", "python": "3", "numpy": "2"},
        "versions": versions,
        "limits": {"peak_gflops": 100.0, "levels": [{"name": "L1", "bytes": 1, "gb_s": 200.0}]},
        "cases": cases,
        "summary": by_section(cases),
        "targets": entries,
    }


def test_report_of_one_kind(result):
    text = report.markdown(report.only(result, "attention"))
    assert text.index("Cases lost to a peer: 1") < text.index("decode/1x32x1x4096x128` | 8.00 |")
    assert text.index("decode/1x32") < text.index("attention/1x12x512x512x64")
    assert (
        "| `attention/1x12x512x512x64` | 8.00 | 1.00 | 12% | FMA | - | **16.0** | 2.00x |" in text
    )
    assert "ctranslate2" not in text
    assert "minilm" not in text
    assert "text of attention" in text
    assert "text of encoder" not in text
    text = report.markdown(report.only(result, "encoder"))
    assert "Cases lost to a peer: 0" in text
    assert "sentence_transformers" in text
    assert "**missed**" in text


def without_peers(result, kind):
    """Return the result as a run without peers writes it for the cases of one kind."""
    compared = ("speedup", "fastest_peer")
    cases = [
        {name: value for name, value in case.items() if name not in compared}
        | {"results": {"treadle": case["results"]["treadle"]}}
        if case["kind"] == kind
        else case
        for case in result["cases"]
    ]
    return result | {"cases": cases, "versions": {"treadle": "0"}}


def test_a_kind_without_peers_has_no_row_and_no_summary(result):
    rows = front.by_kind({"bench": result}, {}).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| attention", "| sentence encoder"]
    alone = without_peers(result, "attention")
    rows = front.by_kind({"bench": alone}, {}).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| sentence encoder"]
    part = report.only(alone, "attention")
    text = report.markdown(part | {"targets": []})
    assert "faster than the fastest peer" not in text
    assert "\n\n\n" not in text
    assert "| `attention/1x12x512x512x64` | 8.00 | 1.00 | 12% | FMA | - |" in text


def test_a_second_machine_has_columns_of_its_own(result, tmp_path):
    folder = tmp_path / report.SECOND_FOLDER
    folder.mkdir()
    (folder / "attention.json").write_text(json.dumps(report.only(result, "attention")))
    others = report.second(tmp_path)
    assert list(others) == ["attention"]
    part = report.only(result, "attention")
    text, alone = report.markdown(part, others["attention"]), report.markdown(part)
    case = others["attention"]["cases"][0]
    peer = f"{case['speedup']:.2f}x ({case['fastest_peer']}) |"
    assert sum(line.endswith(peer) for line in text.splitlines()) >= 1
    assert "**The same on Zen 5**" in text
    assert f"on {result['machine']['cpu']}" in text
    assert "Zen 5" not in alone
    assert peer not in alone
    some = report.markdown(part, others["attention"] | {"cases": [case]})
    assert sum(line.endswith("| - | - | - |") for line in some.splitlines()) >= 1
    head, _, *rows = front.by_kind({"bench": result}, others).splitlines()
    assert head.endswith("| CPU | Zen 5: fastest in | mean | worst |")
    assert [row.endswith("| - | - | - |") for row in rows] == [False, True]


def test_the_picture_of_kinds_leaves_out_those_without_peers(result, tmp_path):
    pytest.importorskip("matplotlib")
    front.draw({"bench": without_peers(result, "encoder")}, tmp_path / "front.png")
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")


def test_pictures(result, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "README.md"
    path.write_text("\n".join(line for kind in registry.KINDS for line in report.markers(kind)))
    report.write(result, path, tmp_path)
    for name in ("attention", "encoder"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"({name}.png)" in path.read_text()
    assert not (tmp_path / "bench.png").exists()


def test_targets_against_peers(result, monkeypatch):
    never, mean = against_peers("attention", result["cases"][:2], 1.25)
    assert (never.value, never.passed) == (0.5, False)
    assert (mean.value, mean.passed) == (pytest.approx(1.0), False)
    assert list(against_peers("attention", [], 1.25)) == []
    for module in (attention_targets, encoder_targets):
        monkeypatch.setattr(module, "two_threads", lambda *_: iter(()))
    monkeypatch.setattr(attention_targets, "causal", lambda: iter(()))
    monkeypatch.setattr(encoder_targets, "loading", lambda: iter(()))
    monkeypatch.setattr(encoder_targets, "missing", lambda: "")
    found = {target.name: target for target in encoder_targets.run(result, "float32")}
    assert found["times faster, encoder/minilm/32x128-lognormal"].passed is False
    text = found["times faster, encode/minilm/10000"]
    assert (text.value, text.passed) == (pytest.approx(1.6), True)  # CTranslate2 is not meant
    assert "1.20x" in found["never slower than a peer, encode"].text
    assert found["geometric mean, encoder"].value == pytest.approx((2 * 1.4) ** 0.5)
    assert {target.kind for target in found.values()} == {"encoder"}
    assert {target.kind for target in attention_targets.run(result, "float32")} == {"attention"}


def test_targets_name_cases_that_exist():
    names = {case.name for case in registry.grid()}
    wanted = {
        *attention_targets.CAUSAL_PAIR,
        *attention_targets.PARALLEL,
        *encoder_targets.TIMES_FASTER,
    }
    assert wanted <= names
    assert set(recurrent_targets.PARALLEL) <= names
    assert attention_limits.LONG_SHARE == 0.85


@needs_model
def test_loading_target():
    seconds, memory = encoder_targets.loading(tries=1)
    assert seconds.value > 0
    assert memory.value > 0.5
