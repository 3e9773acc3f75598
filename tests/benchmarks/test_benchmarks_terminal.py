"""A run shows plain words first on a terminal, in lines that fit, and blames nothing on a busy
machine.
"""

import pytest

from treadle.benchmarks import run
from treadle.benchmarks.core import machine, registry
from treadle.benchmarks.core.dtypes import DTYPES
from treadle.benchmarks.core.summary import by_section
from treadle.benchmarks.core.terminal import Screen, width

PEERS = ("torch", "onnxruntime", "openvino", "jax", "ctranslate2", "sentence_transformers")
BUSY = "This machine is busy: others used 1.4 of its 2 CPUs."


def timed(name, us, limit=1.0, bound_by="L2", passed=None, **peers):
    case = next(case for case in registry.grid(dtypes=DTYPES) if case.name == name)
    taken = {"treadle": us, **peers}
    found = registry.about(case) | {
        "name": name,
        "kind": case.kind,
        "flops": 1000,
        "bytes_read": 1000,
        "wrong": {},
        "limit_us": limit,
        "limit_parts_us": {"work": limit, "chain": 0.75, "call": 0.5},
        "of_limit": limit / us,
        "bound_by": bound_by,
        "results": {
            who: {"median_us": value, "q1_us": value, "q3_us": value}
            for who, value in taken.items()
        },
    }
    if passed is not None:
        found["target"] = {"name": "a target", "allowed_us": us, "passed": passed}
    if peers:
        fastest = min(peers, key=peers.get)
        found |= {"fastest_peer": fastest, "speedup": peers[fastest] / us}
    return case, found


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        (
            timed("lstm/step/1x1x128x128", 2.5, torch=10.0, jax=20.0),
            "One LSTM step of 128 units takes 2.50 us here, 4.0 times as fast as torch.",
        ),
        (
            timed("lstm/step/1x1x128x128", 2.5, limit=1.25),
            (
                "One LSTM step of 128 units takes 2.50 us here; reading its data from the L2 "
                "cache alone takes 1.25 us on this machine."
            ),
        ),
        (
            timed("gru/batch/50x32x256x256", 5000.0, limit=4000.0, bound_by="FMA"),
            (
                "A GRU of 256 units over 50 steps of 32 rows takes 5.00 ms here; multiplying alone"
                " takes 4.00 ms on this machine."
            ),
        ),
        (
            timed("lstm/step/1x1x128x128", 2.5, limit=1.25, bound_by="chain"),
            (
                "One LSTM step of 128 units takes 2.50 us here; the chain of its steps alone takes "
                "0.75 us on this machine."
            ),
        ),
        (
            timed("lstm/step/1x1x128x128", 2.5, limit=1.25, bound_by="call"),
            (
                "One LSTM step of 128 units takes 2.50 us here; a call from Python alone takes "
                "0.50 us on this machine."
            ),
        ),
        (
            timed("encoder/minilm/1x8", 2000.0, torch=1000.0),
            "MiniLM on a sentence of 8 tokens takes 2.00 ms here, 2.0 times as long as torch.",
        ),
        (
            timed("attention/1x12x128x128x64", 200.0, torch=202.0),
            "Attention of 128 queries to 128 keys in 12 heads takes 200 us here, as long as torch.",
        ),
    ],
)
def test_the_first_sentence(case, sentence):
    case, found = case
    words = registry.of(case).words(case)
    assert Screen((), (), "", 200).sentence(words, found) == sentence


def test_every_case_has_words():
    for case in registry.grid(dtypes=DTYPES):
        words = registry.of(case).words(case)
        assert words[0].isupper()
        assert len(words) < 80
        assert case.dtype == "float32" or case.dtype in words


@pytest.fixture
def result():
    names = [case.name for case in registry.grid(dtypes=DTYPES)]
    cases = [
        timed(name, 1234567.0, passed=False, **dict.fromkeys(PEERS, 654321.0))[1] for name in names
    ]
    cases[0]["wrong"] = {"torch": "module: off by 0.123, allowed 0.0001234 " + "and more " * 30}
    entry = {"name": "two threads, " + names[3], "text": "1.2 us " * 30, "passed": False}
    return {
        "threads": 2,
        "pinned_to": [14, 15],
        "machine": {"cpu": "A CPU with quite a long name (family 26, model 2)"},
        "versions": dict.fromkeys(("treadle", *PEERS), "2026.4.1-22982"),
        "missing": {f"{name} (encoder)": "No module named 'something'" for name in PEERS},
        "limits": {
            "peak_gflops": 100.0,
            "low_precision_gflops": dict.fromkeys(DTYPES[1:], 400.0),
            "levels": [{"name": n, "gb_s": 100.0} for n in ("L1", "L2", "L3", "DRAM")],
            "chain_ns": {"rnn": 12.3, "lstm": 45.6, "gru": 34.5},
            "call_us": 0.234,
        },
        "cases": cases,
        "targets": [entry] * 3,
        "summary": by_section(cases),
        "seconds": 12.0,
    }


def shown(result, peers, busy, columns):
    screen = Screen([case["name"] for case in result["cases"]], peers, busy, columns)
    text = [screen.machine(result), screen.heading(), screen.summary(result)]
    return "\n".join([*text, *map(screen.line, result["cases"])])


@pytest.mark.parametrize("columns", [80, 100, 132, 200])
@pytest.mark.parametrize("peers", [(), ("torch",), PEERS], ids=len)
@pytest.mark.parametrize("busy", ["", BUSY], ids=["quiet", "busy"])
def test_lines_fit(result, peers, busy, columns):
    lines = shown(result, peers, busy, columns).splitlines()
    assert max(map(len, lines)) <= columns
    for case in result["cases"]:
        assert any(line.startswith(f"{case['name']} ") for line in lines)


def test_the_machine_says_how_long_a_step_waits(result):
    text = Screen((), (), "", 1000).machine(result)
    assert "a step waits for the one before, in ns: rnn 12, lstm 46, gru 34" in text
    assert "a call takes 0.23 us" in text


def test_a_wide_terminal_has_more_columns(result):
    titles = {
        columns: Screen(["a" * 39], PEERS, "", columns).heading() for columns in (80, 120, 240)
    }
    assert len(titles[80]) < len(titles[120]) < len(titles[240])
    for title in ("us", "of limit", "fastest peer", "faster by"):
        assert title in titles[80]
    for title in ("quartiles", "rate", "bound by", "target", *(name[:11] for name in PEERS)):
        assert title in titles[240]


def test_a_busy_machine_is_said_once_and_misses_nothing(result):
    busy = shown(result, (), BUSY, 200)
    assert busy.count("others used 1.4 of its 2 CPUs") == 1
    assert "missed" not in busy
    assert " ?" in busy
    quiet = shown(result, (), "", 200)
    assert "missed" in quiet
    assert "busy" not in quiet


def test_a_long_list_is_cut(result):
    summary = Screen((), (), "", 1000).summary(result)
    (line,) = [line for line in summary.splitlines() if line.startswith("recurrent,")]
    missed = result["summary"]["recurrent"]["missed"]
    assert all(name in line for name in missed[:5])
    assert f"and {len(missed) - 5} more in the table" in line


def test_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "132")
    assert width() == 132
    monkeypatch.setenv("COLUMNS", "10")
    assert width() == 60


def test_busy():
    assert run._busy(0.1, 2) == ""
    assert "others used 1.4 of its 2 CPUs" in run._busy(1.4, 2)
    assert run._busy(1.4, 64) == ""
    assert machine.used_by_others(0.05) >= 0


def test_a_run_says_the_sentence_first(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    cases = "^lstm/step/1x1x(32x32|128x128)$"
    assert run.main(["--quick", "--kind", "recurrent", "--filter", cases]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("One LSTM step of 128 units takes ")
    assert max(map(len, lines)) <= 80
    rows = [line.split()[0] for line in lines if line.startswith("lstm/")]
    assert rows == ["lstm/step/1x1x32x32", "lstm/step/1x1x128x128"]
    assert run.main(["--list"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
