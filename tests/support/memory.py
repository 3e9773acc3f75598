"""How many bytes of memory a process has allocated, by the C library's count."""

import ctypes

import pytest


class _Counts(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    ]  # fmt: skip


def allocated():
    """Return the bytes that are allocated and not freed, of arrays and tensors and all else.

    The count is exact, so that tests need not wait or repeat. Where the C library does not count
    (musl, sanitizers), the test is skipped.
    """
    try:
        count = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        pytest.skip("the C library has no mallinfo2")
    count.restype = _Counts
    found = count()
    if not found.uordblks:
        pytest.skip("the C library does not count")
    return found.uordblks + found.hblkhd
