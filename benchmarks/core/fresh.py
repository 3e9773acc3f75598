"""This module runs a piece of Python in a new process, for times of imports and of loading."""

from __future__ import annotations

import os
import subprocess
import sys

UNWRITTEN = "PYTHONDONTWRITEBYTECODE"


def printed(code: str, *arguments: str) -> str:
    """Return what the code prints in a new process.

    Python may keep the bytecode of what is imported there, as it does for an installed package; the
    environment of this process may forbid it, and then every start would compile all modules anew.
    """
    environment = {name: value for name, value in os.environ.items() if name != UNWRITTEN}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return done.stdout
