"""This module checks configuration values and shapes.

Every check returns the value in its plain Python form, or raises an error that names the function,
the argument, what was expected and what was found.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

# Weights can be packed as these dtypes.
DTYPES = ("float32", "bfloat16", "int8")
# A dimension fits in 32 bits, so that a product of two of them cannot leave 64.
MAX_SIZE = 2**31 - 1
# Nobody stacks so many layers; the limit bounds the list of parameter names a file can ask for.
MAX_LAYERS = 4096
# NumPy's arrays have at most so many axes.
MAX_RANK = 64
FLOAT32_MAX = 3.4028234663852886e38


def shown(value: object) -> str:
    """Describe a value and its type for an error message, in few characters."""
    kind = type(value).__name__
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({kind})"


def integer(function: str, name: str, value: object, least: int = 1, most: int = MAX_SIZE) -> int:
    """Check for an integer in ``least..most`` and return it; bools and floats are no integers."""
    expected = f"expected an integer in {least}..{most}"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{function}: {name} is {shown(value)}, {expected}")
    try:
        number = operator.index(value)
    except TypeError:  # such as an array of several integers
        raise TypeError(f"{function}: {name} is {shown(value)}, {expected}") from None
    if not least <= number <= most:
        raise ValueError(f"{function}: {name} is {shown(value)}, {expected}")
    return number


def sizes(function: str, name: str, value: object) -> tuple[int, ...]:
    """Check a shape that may be one size or several, and return it as a tuple."""
    if not isinstance(value, Iterable) or isinstance(value, str | bytes):
        return (integer(function, name, value),)
    result = tuple(integer(function, name, size) for size in islice(value, MAX_RANK + 1))
    if not 1 <= len(result) <= MAX_RANK:
        raise ValueError(f"{function}: {name} is {shown(value)}, expected 1 to {MAX_RANK} sizes")
    return result


def number(
    function: str,
    name: str,
    value: object,
    least: float = -FLOAT32_MAX,
    above: float | None = None,
    most: float = FLOAT32_MAX,
) -> float:
    """Check for a finite number in the range of float32; bools and texts are no numbers."""
    if above is not None:
        expected = f"expected a number > {above:g}"
    elif (least, most) == (-FLOAT32_MAX, FLOAT32_MAX):
        expected = "expected a finite float32"
    elif most == FLOAT32_MAX:
        expected = f"expected a number >= {least:g}"
    else:
        expected = f"expected a number in {least:g}..{most:g}"
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        raise TypeError(f"{function}: {name} is {shown(value)}, expected a number")
    # The comparison refuses NaN, infinity and integers that are too large for a float.
    if not least <= value <= most or (above is not None and value <= above):
        raise ValueError(f"{function}: {name} is {shown(value)}, {expected}")
    return float(value)


def flag(function: str, name: str, value: object) -> bool:
    """Check that a value is True or False, and return it."""
    if not isinstance(value, bool):
        raise TypeError(f"{function}: {name} is {shown(value)}, expected True or False")
    return value


def dtype(function: str, name: str, value: object, among: tuple[str, ...] = DTYPES) -> str:
    """Check the dtype of products, a name or a type of NumPy's, and return its name."""
    name_of = value if isinstance(value, str) else getattr(value, "__name__", None)
    given = name_of if isinstance(name_of, str) else str(value)
    given = given.removeprefix("torch.")
    if given not in among:
        raise ValueError(f"{function}: {name} is {shown(value)}, expected one of {list(among)}")
    return given


def fits(
    function: str, name: str, sizes: tuple[int | None, ...], letters: Sequence[str] = ()
) -> Callable[[npt.NDArray[np.generic]], None]:
    """Return `shape` as a function of the array alone, for the conversions of arrays."""
    return lambda array: shape(function, name, array, sizes, letters)


def shape(
    function: str,
    name: str,
    array: npt.NDArray[np.generic],
    sizes: tuple[int | None, ...],
    letters: Sequence[str] = (),
) -> None:
    """Compare a shape with the expected one, where None may be anything; letters name its axes."""
    found = array.shape
    if found == sizes or (
        len(found) == len(sizes)
        and all(want in (None, have) for have, want in zip(found, sizes, strict=True))
    ):
        return
    expected = str(sizes)
    if letters:
        known = [f"{k} = {n}" for k, n in zip(letters, sizes, strict=True) if n is not None]
        expected = f"[{', '.join(letters)}]{' with ' * bool(known)}{', '.join(known)}"
    raise ValueError(f"{function}: {name} has shape {found}, expected {expected}")
