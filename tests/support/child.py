"""Python in a process of its own: for imports, environments, signals, forks and limits."""

import os
import subprocess
import sys

# A shell's background jobs, and what they start, ignore Ctrl-C.
LISTEN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); del signal\n"


def start(code, *args, **environment):
    """A process that runs `code`; pipes for what it writes, its environment changed as given."""
    return subprocess.Popen(
        [sys.executable, "-c", LISTEN + code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def run(code, *args, timeout=120, **environment):
    """(exit status, standard output, standard error) of `code`."""
    with start(code, *args, **environment) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        finally:
            process.kill()
    return process.returncode, output.strip(), errors.strip()


def succeed(code, *args, timeout=120, **environment):
    """The standard output of `code`, which must end well and complain of nothing."""
    status, output, errors = run(code, *args, timeout=timeout, **environment)
    assert (status, errors) == (0, ""), f"exit status {status}\n{output}\n{errors}"
    return output
