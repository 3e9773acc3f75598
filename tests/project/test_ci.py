""".ci/run: what it counts, what it refuses, and that it leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STEPS = """set -euo pipefail
always=(first)
names=(good bad silent mute endless)
source .ci/lanes
echo "folder $work"
first() { echo "first comes first"; }
good() { echo "==== 3 passed, 1 skipped in 0.1s ===="; }
bad() {
  echo "FAILED tests/test_x.py::test_y - AssertionError"
  echo "2 failed, 5 passed, 1 error in 61.02s (0:01:01)"
  false
  echo "never printed"
}
silent() { false; }
mute() { true; }
endless() {
  sleep 777 &
  setsid sleep 778 &
  echo "endless has begun"
  sleep 779
}
lane "" 0 first "one"
join
lane "a | " 0 good "g" bad "b"
lane "b | " 0 silent "s" mute "m" endless "e"
join
report
"""


@pytest.fixture(scope="module")
def count(source):
    """The module .ci/count.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(source / ".ci")
        import count

        yield count
        del sys.modules["count"]


@pytest.fixture
def start(source):
    """A function that starts a script of stub steps on .ci/lanes; Ctrl-C reaches the script."""
    # A shell's background jobs, and what they start, ignore Ctrl-C; bash cannot trap it then.
    listen = "import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); "

    def popen(steps):
        return subprocess.Popen(
            [sys.executable, "-c", f"{listen}os.execvp('bash', ['bash', '-c', {STEPS!r}])"],
            cwd=source,
            env=os.environ | {"TREADLE_CI_STEPS": steps},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return popen


@pytest.mark.parametrize(
    ("steps", "status", "last"),
    [
        ("good", 0, "3 passed, 0 failed"),
        ("good mute", 0, "3 passed, 0 failed"),
        ("good bad", 1, "8 passed, 3 failed"),
        ("good silent", 1, "3 passed, 1 failed"),
        ("bad silent good", 1, "8 passed, 4 failed"),
    ],
)
def test_last_line(start, steps, status, last):
    """The sum of all lanes, alone on the last line, whether steps fail or not."""
    with start(steps) as script:
        output, _ = script.communicate(timeout=60)
    assert (script.returncode, output.splitlines()[-1]) == (status, last), output
    assert "first comes first\n" in output
    assert "a | ==== 3 passed" in output
    assert "never printed" not in output


def test_reasons_at_the_end(start):
    """A failed step's reasons stand at the end too, where they are found without its long log."""
    with start("bad good") as script:
        output, _ = script.communicate(timeout=60)
    end = output[output.index("ended after") :].splitlines()
    assert end[-3:-1] == ["failed: bad", "  FAILED tests/test_x.py::test_y - AssertionError"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a\n_____ test_y _____\nE   assert 1 == 2\nb",
            ["_____ test_y _____", "E   assert 1 == 2"],
        ),
        ("x.cpp:3:1: error: no\nnote", ["x.cpp:3:1: error: no"]),
        ("4 - attention (Failed)\n 4/9 Test #4: attention ...***Failed", None),
        ("first\nlast", ["first", "last"]),
        ("\n".join(f"E   {i}" for i in range(100)), [f"E   {i}" for i in range(40, 100)]),
    ],
)
def test_reasons(count, text, expected):
    assert count.reasons(text) == (expected or text.splitlines()[-1:])


@pytest.mark.parametrize("steps", ["nosuch", "good nosuch", "first", "goo"])
def test_unknown_step(start, steps):
    with start(steps) as script:
        output, _ = script.communicate(timeout=60)
    assert script.returncode == 2
    wrong = steps.split()[-1]
    assert output == (
        f'TREADLE_CI_STEPS: there is no step "{wrong}"; '
        "the steps are good bad silent mute endless\n"
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_interrupt(start, name):
    """Ctrl-C ends the lanes, what they started, and what left their process groups."""
    script = start("endless")
    try:
        lines = []
        for line in script.stdout:
            lines.append(line.strip())
            if "endless has begun" in line:
                break
        folder = next(line for line in lines if line.startswith("folder ")).split()[1]
        assert os.path.isdir(folder)
        deadline = time.monotonic() + 30
        while len(marked(folder, "sleep")) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        script.send_signal(getattr(signal, name))
        script.communicate(timeout=60)
    finally:
        script.kill()
    assert script.returncode == 130
    assert marked(folder) == []
    deadline = time.monotonic() + 30  # what removes the folder outlives the script
    while os.path.exists(folder):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def marked(folder, command=""):
    """The processes of a run of .ci/lanes with this folder that have not ended."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = Path("/proc", name, "environ").read_bytes()
            line = Path("/proc", name, "cmdline").read_bytes()
        except OSError:  # it has ended, or belongs to somebody else
            continue
        if f"TREADLE_CI_WORK={folder}\0".encode() in environment and command.encode() in line:
            found.append(int(name))
    return found


def test_steps_are_known(source, count):
    """The real script reads its lanes, and count.py knows no step that there is not."""
    script = (source / ".ci" / "run").read_text()
    result = subprocess.run(
        ["bash", ".ci/run"],
        cwd=source,
        env=os.environ | {"TREADLE_CI_STEPS": "nosuch"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    names = result.stderr.strip().split("the steps are ")[1].split()
    assert set(names) - set(count.KINDS) == {"lint"}
    assert set(count.KINDS) < set(names)
    for name in names:
        assert f"\n{name}() {{" in script


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("== 20661 passed, 3 skipped, 1 warning in 500.0s (0:08:20) ==", {"pytest": [20661, 0]}),
        ("\x1b[32m\x1b[1m2145 passed\x1b[0m\x1b[32m in 13.94s\x1b[0m", {"pytest": [2145, 0]}),
        ("5 failed, 1 passed, 2 errors in 1.00s", {"pytest": [1, 7]}),
        ("3 errors in 0.12s", {"pytest": [0, 3]}),
        ("2 passed in 1.00s\n3 passed in 1.00s", {"pytest": [5, 0]}),
        ("100% tests passed out of 21", {"ctest": [21, 0]}),
        ("95% tests passed, 1 tests failed out of 20", {"ctest": [19, 1]}),
        ("[doctest] test cases:  3 |  2 passed | 1 failed | 4 skipped", {"doctest": [2, 1]}),
        ("40 passed, 2 failed", {"reader": [40, 2]}),
        ("example passed: python examples/x.py", {"example": [1, 0]}),
        ("it says that 3 passed in 4 of 5", {}),
    ],
)
def test_counts(count, text, expected):
    assert count.counts(text) == expected


CTEST = "{} tests passed, {} tests failed out of 20\n"
CASES = "[doctest] test cases: 40 | {} passed | {} failed | 0 skipped\n"


@pytest.mark.parametrize(
    ("text", "status", "expected"),
    [
        (CTEST.format("100%", 0) + CASES.format(40, 0), 0, (40, 0, "")),
        (CTEST.format("95%", 1) + CASES.format(38, 2), 8, (38, 2, "")),
        # One program crashed and printed no cases; or a step ended before it printed any.
        (CTEST.format("95%", 1) + CASES.format(40, 0), 8, (40, 1, "")),
        (CTEST.format("95%", 1), 8, (19, 1, "")),
        (CTEST.format("100%", 0), 0, (20, 1, "printed no count of doctest")),
        ("", 0, (0, 1, "printed no count of ctest, doctest")),
        ("", 1, (0, 1, "exit status 1")),
        (CTEST.format("100%", 0) + CASES.format(40, 0), 134, (40, 1, "exit status 134")),
        (CTEST.format("100%", 0) + CASES.format(40, 0), None, (40, 1, "did not end")),
    ],
)
def test_judge(count, text, status, expected):
    assert count.judge("cpp", text, status) == expected
