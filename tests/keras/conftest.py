"""Keras computes on PyTorch here, and counts the names of its layers anew in each test."""

import os
import sys

import pytest

os.environ["KERAS_BACKEND"] = "torch"


@pytest.fixture(autouse=True)
def _names_of_layers():
    if "keras" in sys.modules:
        # Garbage of all tests so far would take longer to collect than most of these tests.
        sys.modules["keras"].utils.clear_session(free_memory=False)
