"""This module marks the tests that run on Linux only."""

import sys

import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc or sets what Linux has")
