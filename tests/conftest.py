"""Fixtures: every ISA level of this CPU, one and two threads, the source tree and the build."""

import gc
import os
import sys
from pathlib import Path

import hypothesis
import pytest

# PyTorch is only the reference here, on small arrays. Its threads cost more than they give, and
# where several processes test at once, they wait for each other a hundred times as long as they
# compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("KERAS_BACKEND", "torch")  # the backend that treadle.keras runs on

import treadle

# Tests import `support` and `reference` from this folder. It then leaves the path, where its
# folders `torch` and `transformers` would pass for the packages when those are not installed.
tests = Path(__file__).resolve().parent
sys.path.insert(0, str(tests))
import reference  # noqa: F401
import support  # noqa: F401

sys.path[:] = [entry for entry in sys.path if entry != str(tests)]

# Every run tries the same examples, so that a failure in CI is a failure everywhere.
# HYPOTHESIS_PROFILE=explore draws new examples.
hypothesis.settings.register_profile("repeat", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


def pytest_collection_finish():
    """Keep tens of thousands of collected tests out of each later collection of garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=treadle.available_isas())
def isa(request):
    """Run the test once per ISA level; whatever it packs uses that level's kernels."""
    before = treadle.isa()
    treadle._core.set_isa(request.param)
    yield request.param
    treadle._core.set_isa(before)


@pytest.fixture(params=[1, 2], ids=["threads1", "threads2"])
def threads(request):
    """Run the test with one and with two threads."""
    before = treadle.get_num_threads()
    treadle.set_num_threads(request.param)
    yield request.param
    treadle.set_num_threads(before)


@pytest.fixture
def switch_often():
    """Let Python threads change places as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(scope="session")
def source():
    """The root of the source tree the tests belong to."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def no_warnings_before():
    """Let the test see the first warning of each reason, which treadle.torch shows only once."""
    from treadle.torch import fallback

    fallback._WARNED.clear()
