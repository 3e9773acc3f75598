"""The benchmark suite: well-formed cases, the limit by hand, the report, a run of tiny cases."""

import dataclasses
import json

import numpy as np
import pytest

from treadle.benchmarks import report
from treadle.benchmarks.core import limits, machine, measure, peers
from treadle.benchmarks.core.errors import Exact
from treadle.benchmarks.core.limits import FMA, Limit, Rates
from treadle.benchmarks.core.models.recurrent import work
from treadle.benchmarks.core.models.recurrent.case import NetCase as Case
from treadle.benchmarks.core.models.recurrent.data import Outputs, make_input, make_weights
from treadle.benchmarks.core.models.recurrent.formulas import run
from treadle.benchmarks.core.summary import by_section, summary
from treadle.benchmarks.kinds.recurrent import answer, peer, target
from treadle.benchmarks.kinds.recurrent.cases import GROUPS, grid
from treadle.benchmarks.kinds.recurrent.reference import expected, worst_error
from treadle.benchmarks.run import main

CASES = grid()
START, END = report.markers("recurrent")
TINY = [
    Case("lstm", "step", 1, 1, 5, 7, "tiny"),
    Case("gru", "step", 1, 3, 5, 7, "tiny", L=2),
    Case("rnn", "sequence", 4, 2, 5, 7, "tiny", nonlinearity="relu"),
    Case("lstm", "stacked", 4, 2, 5, 7, "tiny", L=2, D=2, P=3),
    Case("gru", "ragged", 4, 3, 5, 7, "tiny", D=2, lengths=(4, 0, 2)),
]


def test_names_are_unique():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_is_well_formed(case):
    assert case.group in GROUPS
    assert case.reason
    assert 1 <= case.T <= 1000
    assert 1 <= case.B <= {"pool": 1000, "drawn": 256}.get(case.group, 128)
    assert 1 <= case.H <= 2048
    assert case.D in (1, 2)
    assert case.P < case.H
    assert not case.P or case.cell == "lstm"
    assert case.carried <= (case.D == 1)
    assert bool(case.lengths) == (case.group == "ragged")
    if case.lengths:
        assert len(case.lengths) == case.B
        assert max(case.lengths) == case.T
        assert min(case.lengths) >= 1


def test_grid_covers_what_it_should():
    steps = {(c.cell, c.H) for c in CASES if (c.T, c.B, c.L) == (1, 1, 1) and c.I == c.H}
    sizes = (32, 64, 128, 256, 512, 640, 1024)
    assert steps >= {(cell, size) for cell in ("rnn", "lstm", "gru") for size in sizes}
    shapes = {(c.cell, c.T, c.B, c.I, c.H) for c in CASES}
    assert shapes >= {
        ("lstm", 1, 1, 128, 128),
        ("lstm", 1, 1, 512, 512),
        ("lstm", 100, 1, 64, 128),
        ("lstm", 100, 1, 1, 50),
        ("lstm", 50, 32, 256, 256),
        ("lstm", 25, 64, 512, 512),
        ("gru", 100, 1, 64, 128),
        ("gru", 50, 32, 256, 256),
        ("rnn", 50, 1, 1760, 1760),
    }
    assert {c.group for c in CASES} == set(GROUPS)
    quick = [c for c in CASES if c.quick]
    assert {c.cell for c in quick} == {"rnn", "lstm", "gru"}
    assert {c.group for c in quick} == set(GROUPS)
    assert len(quick) < len(CASES) / 3


# The limit, computed by hand with a peak of 1000 FLOP/s. LSTM, I = 2, H = 3: 24 input and 36
# recurrent weights.


def test_limit_of_a_step():
    case = Case("lstm", "step", 1, 1, 2, 3, "by hand")
    assert work.weight_bytes(case) == 4 * 60
    assert work.flops(case) == 2 * 60
    assert work.limit(case, Rates(1000, lambda _: 240)).seconds == 1.0  # 240 bytes; FLOPs 0.12 s
    assert work.limit(case, Rates(60, lambda _: 240)).seconds == 2.0  # FLOPs 2 s
    assert work.buffer_sizes(case) == [240]


def test_limit_of_a_sequence_reads_the_input_weights_once():
    case = Case("lstm", "sequence", 5, 2, 2, 3, "by hand")
    # Input product: 96 bytes once, 2 * 24 * 10 FLOPs. Recurrent: 5 times 144 bytes, 2 * 36 * 2
    # FLOPs.
    assert work.flops(case) == 480 + 5 * 144
    assert work.bytes_read(case) == 96 + 5 * 144
    assert work.limit(case, Rates(1000, lambda _: 96)).seconds == 1.0 + 5 * 1.5
    assert work.limit(case, Rates(96, lambda _: 1e9)).seconds == 5.0 + 5 * 1.5
    # Each product takes its own maximum: input by FLOPs (0.48 > 0.096), recurrent equal (0.144).
    assert work.limit(case, Rates(1000, lambda _: 1000)).seconds == pytest.approx(0.48 + 5 * 0.144)
    assert work.buffer_sizes(case) == [96, 144]
    assert work.limit(case, Rates(1e9, lambda _: 1)).bound_by == 144
    assert work.limit(case, Rates(1, lambda _: 1e9)).bound_by == FMA


def test_limit_of_a_ragged_batch_counts_live_rows():
    case = Case("rnn", "ragged", 3, 2, 2, 3, "by hand", lengths=(3, 1))
    # 6 input weights x 4 row-steps; 9 recurrent weights, two rows once and one row twice.
    assert work.flops(case) == 2 * 6 * 4 + 2 * 9 * 4
    assert work.bytes_read(case) == 24 + 3 * 36
    assert work.limit(case, Rates(18, lambda _: 1e9)).seconds == pytest.approx(48 / 18 + 4)


def test_limit_of_stacked_bidirectional_and_projected():
    case = Case("lstm", "stacked", 2, 1, 2, 3, "by hand", L=2, D=2, P=1)
    first, second = 12 * 2 + 12 * 1 + 3, 12 * 2 + 12 * 1 + 3  # the second layer reads 2 x P = 2
    assert work.weight_bytes(case) == 4 * 2 * (first + second)
    step = Case("gru", "step", 1, 1, 2, 3, "by hand", L=2)
    assert {p.resident for p in work.products(step)} == {work.weight_bytes(step)}


def test_targets():
    """A step may take its allowance beyond the products, a sequence has a share of the limit."""

    def spent(seconds, chain=0.0, call=0.0):
        return Limit({FMA: seconds}, chain, call)

    rates = Rates(1e11, float)
    step = Case("lstm", "step", 1, 1, 128, 128, "")
    assert target(step, spent(1e-6), rates).allowed == pytest.approx(2.8e-6)
    assert target(step, spent(1e-6, 5e-6, 1e-6), rates).allowed == pytest.approx(2.8e-6)
    assert target(dataclasses.replace(step, I=64), spent(1e-6), rates) is None
    sequence = Case("lstm", "sequence", 10, 1, 128, 128, "")
    assert target(sequence, spent(8e-6), rates).allowed == pytest.approx(1e-5)
    assert target(sequence, spent(1e-6, 7e-6, 1e-6), rates).allowed == pytest.approx(1e-5)
    batch = Case("lstm", "batch", 10, 16, 256, 256, "")
    assert target(batch, spent(1.0), rates).allowed == work.flops(batch) / 0.9e11
    assert target(dataclasses.replace(batch, B=8), spent(1.0), rates) is None
    assert target(dataclasses.replace(batch, lengths=(10,) * 16), spent(1.0), rates) is None


def test_levels_and_capacity():
    caches = [machine.Cache("L1", 1000, 1), machine.Cache("L2", 8000, 2)]
    assert [c.capacity(2) for c in caches] == [2000, 8000]
    assert [limits.level_of(n, caches, 1) for n in (1000, 1001, 8001)] == ["L1", "L2", "DRAM"]
    assert limits.levels(caches, 1) == [("L1", 500), ("L2", 4000), ("DRAM", 32000)]


def test_meter_adds_up_threads():
    class Core:
        def multiply_peak(self, seconds, dtype):
            return 7.0

        def read_bandwidth(self, nbytes, seconds):
            return float(nbytes)

    assert limits.Meter(Core(), 1).bandwidth(1 << 20) == 1 << 20
    assert limits.Meter(Core(), 2).bandwidth(1 << 20) == 1 << 20  # two halves
    assert limits.Meter(Core(), 2).peak() == 14.0


@pytest.mark.parametrize("case", TINY, ids=lambda case: case.name)
def test_treadle_agrees_with_the_reference(case):
    peers.start("treadle", 1)
    module = peer("treadle")
    inputs = make_weights(case), make_input(case)
    (variant,) = module.variants(case, 1)
    got = answer(case, module.prepare(case, inputs, 1, variant))
    want = expected(case, inputs)
    assert worst_error(want, got) <= want.tolerance


def test_a_wrong_answer_is_found():
    case = TINY[2]
    weights, x = make_weights(case), make_input(case)
    want = expected(case, (weights, x))
    right = run(case, weights, x, None, Exact())
    assert worst_error(want, right) == 0
    assert want.tolerance < 1e-5
    off = Outputs(right.y + 2 * want.tolerance, right.h, right.c)
    assert worst_error(want, off) > want.tolerance
    nan = right.y.copy()
    nan[-1, -1, -1] = np.nan
    assert worst_error(want, Outputs(nan)) == np.inf
    assert worst_error(want, Outputs(right.y[:-1])) == np.inf


def test_turns_alternate():
    order = []
    runs = {name: (lambda name=name: order.append(name)) for name in "ab"}
    effort = measure.Effort(sample=1e-9, total=0.0, least=3)
    timed = measure.take_turns(runs, effort, each_round=lambda number: order.append(number))
    rounds = order[order.index(0) :]
    assert rounds == [0, "a", "a", "b", "b", 1, "a", "a", "b", "b", 2, "a", "a", "b", "b"]
    assert timed["a"].turns == 3


def test_run_writes_json_and_report(tmp_path, capsys):
    wanted = "^(lstm/step/1x1x32x32|gru/sequence/100x1x64x128)$"
    path, readme = tmp_path / "out" / "bench.json", tmp_path / "README.md"
    readme.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    allowed = machine.allowed()
    assert main(["--filter", wanted, "--json", str(path), "--report", str(readme)]) == 0
    assert machine.allowed() == allowed
    result = json.loads(path.read_text())
    assert result["command"].endswith(" --json out/bench.json --report README.md")
    assert [case["name"] for case in result["cases"]] == [
        "lstm/step/1x1x32x32",
        "gru/sequence/100x1x64x128",
    ]
    for case in result["cases"]:
        timed = case["results"]["treadle"]
        assert 0 < timed["min_us"] <= timed["q1_us"] <= timed["median_us"] <= timed["q3_us"]
        parts = case["limit_parts_us"]
        assert all(part > 0 for part in parts.values())
        assert case["limit_us"] == pytest.approx(parts["call"] + max(parts["work"], parts["chain"]))
        assert not case["wrong"]
    assert {level["name"] for level in result["limits"]["levels"]} >= {"DRAM"}
    assert "lstm/step/1x1x32x32" in capsys.readouterr().out
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "`gru/sequence/100x1x64x128`" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["--filter", "no such case"],
        ["--filter", "("],
        ["--accuracy", "--dtype", "int8"],
        ["--accuracy", "--filter", "lstm"],
        ["--accuracy", "--list"],
        ["--peers", "abacus"],
        ["--threads", "0"],
        ["--kind", "convolution"],
        ["--kind", ""],
    ],
)
def test_wrong_options(arguments):
    with pytest.raises(ValueError, match="treadle bench"):
        main(arguments)


def fake(name, group, treadle, peers, passed=True):
    case = dataclasses.asdict(Case("lstm", group, 1, 1, 4, 4, "fake")) | {"name": name}
    results = {"treadle": {"median_us": treadle}} | {
        n: {"median_us": us} for n, us in peers.items()
    }
    fastest = min(peers, key=peers.get)
    return case | {
        "results": results,
        "wrong": {},
        "limit_us": 1.0,
        "of_limit": 1 / treadle,
        "bound_by": "L1",
        "target": {"name": "a target", "allowed_us": 2.0, "passed": passed},
        "fastest_peer": fastest,
        "speedup": peers[fastest] / treadle,
    }


@pytest.fixture
def result():
    cases = [
        fake("lstm/step/won", "step", 1.0, {"torch": 8.0, "jax": 4.0}),
        fake("lstm/batch/lost", "batch", 4.0, {"torch": 1.0}, passed=False),
    ]
    return {
        "command": "treadle bench --fake",
        "date": "2026-01-01",
        "threads": 1,
        "machine": {"cpu": "a CPU", "python": "3", "numpy": "2"},
        "versions": {"treadle": "0", "torch": "1", "jax": "2"},
        "limits": {"peak_gflops": 100.0, "levels": [{"name": "L1", "bytes": 1, "gb_s": 200.0}]},
        "cases": cases,
        "summary": by_section(cases),
    }


def test_summary(result):
    found = result["summary"]["recurrent"]
    assert found == summary(result["cases"])
    assert found["geometric_mean"] == pytest.approx(1.0)
    assert found["worst"] == {"name": "lstm/batch/lost", "speedup": 0.25}
    assert found["lost"] == ["lstm/batch/lost"]
    assert found["missed"] == ["lstm/batch/lost"]
    assert found["fastest_peers"] == {"jax": 1, "torch": 1}


def test_report_lists_losses_first(result):
    text = report.markdown(result)
    assert "treadle bench --fake" in text
    assert text.index("Cases lost to a peer: 1") < text.index("lstm/batch/lost`", 600)
    assert text.index("| `lstm/batch/lost`") < text.index("| `lstm/step/won`")
    assert "| `lstm/step/won` | 1.00 | 1.00 | 100% | L1 | 2.00 | 8.00 | **4.00** | 4.00x |" in text
    assert "**missed** 2.00" in text
    assert "multiply, *reached*" in text
    assert "GB/s: L1 200." in text


def test_report_says_what_the_limits_count(result):
    result["limits"] |= {"chain_ns": {"rnn": 12.3, "lstm": 45.6, "gru": 34.5}, "call_us": 0.2}
    for case in result["cases"]:
        case["limit_parts_us"] = {"work": 0.5, "chain": 0.8, "call": 0.2}
    text = report.markdown(result)
    assert f"multiply{report.WAITING}, *reached*" in text
    assert "in ns: rnn 12, lstm 46, gru 34; a call takes 0.20 us." in text


def test_report_makes_a_new_file_and_refuses_one_without_markers(tmp_path):
    path = tmp_path / "new.md"
    report.replace_between_markers(path, "text")
    report.replace_between_markers(path, "other")
    assert path.read_text() == f"{START}\nother\n{END}\n"
    path.write_text("nothing here")
    with pytest.raises(ValueError, match="has no lines"):
        report.replace_between_markers(path, "text")
    assert path.read_text() == "nothing here"


def test_picture(result, tmp_path):
    pytest.importorskip("matplotlib")
    from treadle.benchmarks.core import picture

    picture.draw(result, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
