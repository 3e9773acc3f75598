"""This module computes with sizes of which some are symbols.

A size is an int, or a str that stands for a number that only a call knows. Equal strings are equal
numbers, since an expression is spelled in one way: ``"n"``, ``"n+3"``, ``"n*m"``, ``"(n+3)//2"``.
Different strings may be equal numbers too.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Dim = int | str
_SUM = re.compile(r"^(.*[^+-])([+-]\d+)$")
_names = itertools.count()
# A longer expression becomes a symbol of its own: squares of squares would fill the memory.
MOST_LETTERS = 200


def fresh() -> str:
    """Return a symbol that is used nowhere else, for a size about which nothing is known."""
    return f"?{next(_names)}"


def _bounded(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else fresh()


def _simple(text: str) -> str:
    """Return an expression that can be part of a product or quotient."""
    return text if re.fullmatch(r"[?\w.]+|\(.*\)", text) and _balanced(text) else f"({text})"


def _balanced(text: str) -> bool:
    """Return whether the first parenthesis closes only at the end, or there is none."""
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and "(" in text and index < len(text) - 1:
            return False
    return True


def add(a: Dim, b: Dim) -> Dim:
    """Return a + b.

    >>> add(add("n", 3), -3), add("n", "m") == add("m", "n")
    ('n', True)
    """
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if isinstance(a, int):
        a, b = b, a
    assert isinstance(a, str)
    if isinstance(b, str):
        first, second = _parts(a), _parts(b)
        names = sorted((*first[0], *second[0]))
        return _sum("+".join(names), first[1] + second[1])
    text, constant = _split(a)
    return _sum(text, constant + b)


def _split(text: str) -> tuple[str, int]:
    match = _SUM.match(text)
    if match is None or match[1].count("(") != match[1].count(")"):
        return text, 0
    return match[1], int(match[2])


def _parts(text: str) -> tuple[list[str], int]:
    """Return the terms of a sum, and its constant."""
    base, constant = _split(text)
    terms, depth, start = [], 0, 0
    for index, letter in enumerate(base):
        depth += (letter == "(") - (letter == ")")
        if letter == "+" and depth == 0:
            terms.append(base[start:index])
            start = index + 1
    return [*terms, base[start:]], constant


def _sum(text: str, constant: int) -> str:
    return _bounded(f"{text}{constant:+d}" if constant else text)


def multiply(sizes: Iterable[Dim]) -> Dim:
    """Return the product of sizes.

    >>> multiply([2, "n", 3]), multiply([]), multiply(["n", 0])
    ('6*n', 1, 0)
    """
    number, names = 1, []
    for size in sizes:
        if isinstance(size, int):
            number *= size
        else:
            names.append(size)
    if number == 0 or not names:
        return number
    if number == 1 and len(names) == 1:
        return names[0]
    names = [_simple(name) for name in names]
    return _bounded("*".join(([str(number)] if number != 1 else []) + sorted(names)))


def floor_divide(a: Dim, b: int) -> Dim:
    """Return a // b for b > 0.

    >>> floor_divide(7, 2), floor_divide("n", 1), floor_divide("n+1", 2)
    (3, 'n', '(n+1)//2')
    """
    if isinstance(a, int):
        return a // b
    return a if b == 1 else _bounded(f"{_simple(a)}//{b}")


def broadcast(a: Dim, b: Dim) -> Dim:
    """Return the size that two sizes broadcast to."""
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    if isinstance(a, int):  # the other is 1 or the same, or the operator throws
        return a
    return b if isinstance(b, int) else fresh()


def broadcast_shapes(*shapes: Sequence[Dim]) -> tuple[Dim, ...]:
    """Return the shape that shapes broadcast to.

    >>> broadcast_shapes(("n", 1, 3), (4, 1))
    ('n', 4, 3)
    """
    result: list[Dim] = []
    for axis in range(1, max((len(shape) for shape in shapes), default=0) + 1):
        size: Dim = 1
        for shape in shapes:
            if axis <= len(shape):
                size = broadcast(size, shape[-axis])
        result.append(size)
    return tuple(reversed(result))


def quotient(numerator: Sequence[Dim], denominator: Sequence[Dim]) -> Dim | None:
    """Return the product of sizes over the product of others, or None where it is not known.

    >>> quotient(["n", 6, "m"], ["n", 3]), quotient(["n"], ["m"])
    ('2*m', None)
    """
    above, below = list(numerator), []
    for size in denominator:
        if isinstance(size, str) and size in above:
            above.remove(size)
        else:
            below.append(size)
    number = 1
    for size in below:
        if isinstance(size, str) or size == 0:
            return None
        number *= size
    constant = 1
    for size in above:
        constant *= size if isinstance(size, int) else 1
    if constant % number:
        return None
    names = [size for size in above if isinstance(size, str)]
    return multiply([constant // number, *names])
