"""The machine under the package: instruction sets and threads."""

from __future__ import annotations

from treadle import _core
from treadle._inputs.checks import integer
from treadle._public import published


@published("treadle")
def isa() -> str:
    """Return the instruction set in use.

    It is "portable", "avx2", "avx512", "avx512_bf16" or "amx" on x86-64, and "portable", "neon",
    "neon_dotprod", "neon_i8mm" or "neon_bf16" on 64-bit Arm.

    It is the best set that the CPU has, unless the environment variable TREADLE_ISA names another
    when treadle is imported.

    Examples
    --------
    >>> import treadle
    >>> treadle.isa() in treadle.available_isas()
    True
    """
    return _core.isa()


@published("treadle")
def available_isas() -> list[str]:
    """Return the instruction sets that this build and this CPU both have, the best one last.

    Examples
    --------
    >>> import treadle
    >>> treadle.available_isas()[0]
    'portable'
    """
    return _core.available_isas()


@published("treadle")
def set_num_threads(n: int) -> None:
    """Use at most ``n`` threads, the calling one included, in every call from now on.

    The results have the same bits with any number of threads. More threads than the CPUs that this
    process may use never work on a call. The number counts before all that `get_num_threads` names.

    Raises
    ------
    TypeError
        When ``n`` is not an integer.
    ValueError
        When it is less than 1.

    Examples
    --------
    >>> import treadle
    >>> before = treadle.get_num_threads()
    >>> treadle.set_num_threads(1)
    >>> treadle.get_num_threads()
    1
    >>> treadle.set_num_threads(before)
    """
    _core.set_num_threads(integer("treadle.set_num_threads", "n", n))


@published("treadle")
def get_num_threads() -> int:
    """Return how many threads a call may use.

    That is the number given to `set_num_threads`, else the environment variable TREADLE_NUM_THREADS
    (1 to 1024; another value fails the import), else that of `torch.get_num_threads` in the last
    call of `treadle.torch` if there was one, else OMP_NUM_THREADS, else the number of CPUs: of the
    affinity mask, or the whole CPUs of a smaller quota of the process's cgroups.

    Examples
    --------
    >>> import treadle
    >>> treadle.get_num_threads() >= 1
    True
    """
    return _core.get_num_threads()
