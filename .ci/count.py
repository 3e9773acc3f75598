#!/usr/bin/env python3
"""This script adds up what the steps of .ci/run report and prints `N passed, N failed`.

`count.py FOLDER STEP...` reads FOLDER/STEP.log, what the step printed, and FOLDER/STEP.status, its
exit status. A step whose status is not 0, which did not end or which printed no count where KINDS
expects one counts as one failure at least. The exit status is 1 if anything failed. Each failed
step comes with the lines of its log that say why, since the steps' logs are mixed and long.
"""

import re
import sys
from pathlib import Path

# The kinds of counts that a step must print; the steps that are not named print none.
KINDS = {
    "demo": ["example"],
    "tests": ["pytest", "example"],
    "docs": ["reader"],
    "levels": ["pytest"],
    "wheel": ["example"],
    "cpp": ["ctest", "doctest"],
    "tsan": ["ctest", "doctest", "pytest"],
    "aarch64": ["ctest", "doctest", "pytest"],
    "asan": ["ctest", "doctest", "pytest"],
}

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PYTEST = re.compile(r"=* ?((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s\b")
CTEST = re.compile(r"\d+% tests passed(?:, (\d+) tests? failed)? out of (\d+)")
DOCTEST = re.compile(r"\[doctest\] test cases: +\d+ \| +(\d+) passed \| +(\d+) failed")
READER = re.compile(r"(\d+) passed, (\d+) failed$")  # tests/support/reader.py
EXAMPLE = re.compile(r"example passed: ")
# The lines that name a failed test or an error, of pytest, doctest, ctest, compilers and linters.
REASON = re.compile(
    r"(FAILED|ERROR|failed:|SUMMARY:) |E   |_{3,} .+ _{3,}$|\$ "
    r"|.*(\bERROR\b|\b[Ee]rror:|\*\*\*Failed|Traceback)"
)
REASONS = 60  # the most lines that are repeated of one step


def counts(text):
    """Every kind of count in `text` -> [passed, failed], summed over its closing lines."""
    result = {}

    def add(kind, passed, failed):
        before = result.get(kind, [0, 0])
        result[kind] = [before[0] + passed, before[1] + failed]

    for line in COLOUR.sub("", text).splitlines():
        if found := PYTEST.match(line):
            words = {word: int(n) for n, word in re.findall(r"(\d+) ([a-z]+)", found[1])}
            failed = sum(words.get(word, 0) for word in ("failed", "error", "errors"))
            add("pytest", words.get("passed", 0), failed)
        elif found := CTEST.match(line):
            failed = int(found[1] or 0)  # newer ones say nothing of none
            add("ctest", int(found[2]) - failed, failed)
        elif found := DOCTEST.match(line):
            add("doctest", int(found[1]), int(found[2]))
        elif found := READER.match(line):
            add("reader", int(found[1]), int(found[2]))
        elif EXAMPLE.match(line):
            add("example", 1, 0)
    return result


def judge(step, text, status):
    """(passed, failed, reason) of a step; `status` is its exit status or None, the reason is ""
    unless the step failed without a test that did.
    """
    found = counts(text)
    missing = [kind for kind in KINDS.get(step, []) if kind not in found]
    programs = found.pop("ctest", [0, 0])
    # A program of ctest holds many cases of doctest, but one that crashes prints no count of them.
    cases = found.pop("doctest", programs)
    failed = max(cases[1], programs[1]) + sum(count[1] for count in found.values())
    passed = cases[0] + sum(count[0] for count in found.values())
    reason = ""
    if status is None:
        reason = "did not end"
    elif status != 0 and not failed:
        reason = f"exit status {status}"
    elif status == 0 and missing:
        reason = f"printed no count of {', '.join(missing)}"
    return passed, failed + bool(reason), reason


def reasons(text):
    """The last lines of `text` that say why a step failed; its last lines if none does."""
    lines = COLOUR.sub("", text).splitlines()
    return [line for line in lines if REASON.match(line)][-REASONS:] or lines[-REASONS // 3 :]


def main(folder, steps):
    passed = failed = 0
    for step in steps:
        log, status = Path(folder, f"{step}.log"), Path(folder, f"{step}.status")
        text = log.read_text(errors="replace") if log.exists() else ""
        ended = status.exists() and status.read_text().strip().isdigit()
        step_passed, step_failed, reason = judge(
            step, text, int(status.read_text()) if ended else None
        )
        if step_failed:
            print(f"failed: {step}" + (f" ({reason})" if reason else ""))
            for line in reasons(text):
                print(f"  {line}")
        passed += step_passed
        failed += step_failed
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
