"""This module names the cases of a parametrised test by their values."""

import re


def shown(value):
    """The first 20 characters of repr(value), without addresses.

    Every process that collects the tests must find the same names: pytest-xdist compares them.
    """
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))[:20]
