"""What a test asks of the operating system."""

import sys

import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc or sets what Linux has")
