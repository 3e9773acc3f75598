"""`treadle bench --against`: a run is held against a recorded one in shares of the limit."""

import json

import pytest

from treadle.benchmarks import run
from treadle.benchmarks.core import against
from treadle.benchmarks.core.terminal import Screen

CASE = "gru/step/1x1x32x32"
RECORD = {
    "date": "2026-01-01",
    "threads": 1,
    "machine": {"cpu": "a CPU"},
    "cases": [
        {"name": "kept", "of_limit": 0.8},
        {"name": "fallen", "of_limit": 0.8},
        {"name": "gone", "of_limit": 0.8},
        {"name": "without a limit"},
    ],
}
NOW = [
    {"name": "kept", "of_limit": 0.77},
    {"name": "fallen", "of_limit": 0.75},
    {"name": "new", "of_limit": 0.1},
    {"name": "without a limit", "of_limit": 0.1},
]


def write(path, record):
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    return str(path)


def test_a_case_falls_when_it_keeps_less_than_95_percent_of_its_share(tmp_path):
    recorded = against.read(write(tmp_path / "a.json", RECORD), 1)
    kept = {case["name"]: recorded.share_kept(case) for case in NOW}
    assert kept == {
        "kept": pytest.approx(0.9625),
        "fallen": pytest.approx(0.9375),
        "new": None,
        "without a limit": None,
    }
    assert against.compare(NOW, recorded) == {
        "recorded": "2026-01-01, a CPU",
        "allowed": 0.05,
        "compared": 2,
        "fell": [{"name": "fallen", "recorded": 0.8, "now": 0.75}],
    }


def test_a_run_whose_limits_were_products_is_compared_by_them(tmp_path):
    """A limit of 10 us has products of 2 us: half of it reached are 10 % of the products."""
    now = {"limit_us": 10.0, "limit_parts_us": {"work": 2.0, "chain": 9.0, "call": 1.0}}
    now |= {"name": "a", "of_limit": 0.5}
    for parts, kept in (({}, 0.25), ({"limit_parts_us": {}}, 1.25)):
        record = {**RECORD, "cases": [{"name": "a", "of_limit": 0.4, **parts}]}
        recorded = against.read(write(tmp_path / "a.json", record), 1)
        assert recorded.share_kept(now) == pytest.approx(kept)
    assert against.compare([now], recorded)["fell"] == []


@pytest.mark.parametrize("busy", ["", "This machine is busy."])
def test_the_summary_names_what_fell(tmp_path, busy):
    recorded = against.read(write(tmp_path / "a.json", RECORD), 1)
    result = {"seconds": 1, "cases": NOW, "summary": {}, "against": against.compare(NOW, recorded)}
    text = " ".join(Screen((), (), busy, 100).summary(result).split())
    assert "Against the run of 2026-01-01, a CPU: 1 case of 2 fell by more than 5%" in text
    assert "fell fallen: 80.0% then, 75.0% now" in text
    assert ("no verdict" in text) == bool(busy)


@pytest.mark.parametrize(("share", "status", "times"), [(1e-6, 0, 1), (1e6, 1, 2)])
def test_a_run_against_a_record(tmp_path, monkeypatch, capsys, share, status, times):
    timed = []

    def counted(case, session):
        timed.append(case.name)
        return time_case(case, session)

    time_case = run.time_case
    monkeypatch.setattr(run, "time_case", counted)
    path = write(tmp_path / "a.json", {**RECORD, "cases": [{"name": CASE, "of_limit": share}]})
    json_path = tmp_path / "now.json"
    arguments = ["--filter", f"^{CASE}$", "--against", path, "--json", str(json_path)]
    assert run.main(arguments) == status
    assert timed == [CASE] * times
    assert f"{status or 'no'} case" in capsys.readouterr().out
    found = json.loads(json_path.read_text())["against"]
    assert found["compared"] == 1
    assert [case["name"] for case in found["fell"]] == [CASE] * status


@pytest.mark.parametrize(
    "record",
    [
        "",
        "[",
        "[]",
        "{}",
        {**RECORD, "cases": 3},
        {**RECORD, "cases": [3]},
        {**RECORD, "cases": [{"name": "a", "of_limit": "most of it"}]},
        {**RECORD, "cases": [{"name": "a", "of_limit": None}]},
        {**RECORD, "machine": []},
    ],
    ids=repr,
)
def test_a_file_without_a_run_is_refused(tmp_path, record):
    with pytest.raises(ValueError, match=r"treadle bench: --against .*no recorded run"):
        run.main(["--against", write(tmp_path / "a.json", record)])


def test_a_run_with_other_threads_and_no_file_are_refused(tmp_path):
    with pytest.raises(ValueError, match="recorded with 2 threads, expected 1"):
        run.main(["--against", write(tmp_path / "a.json", {**RECORD, "threads": 2})])
    with pytest.raises(ValueError, match=r"--against .*No such file"):
        run.main(["--against", str(tmp_path / "none.json")])
    with pytest.raises(ValueError, match="--against is given with --accuracy"):
        run.main(["--accuracy", "--against", "a.json"])
