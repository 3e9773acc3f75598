"""This module checks single options of a layer's configuration.

A check takes a value of JSON and returns it in the form that `description.Layer` has: sizes are
tuples, numbers are floats. It raises ValueError(what was expected) for anything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

Check: TypeAlias = Callable[[Any], Any]
LARGEST = 2**31 - 1  # of every size in a configuration
LARGEST_NUMBER = 3.4028234e38  # of float32
MOST_AXES = 8


@dataclass(frozen=True, slots=True)
class Option:
    """This is an option of a layer: its check, and its value where a file lacks it or has null.

    Null is a value of its own where ``nullable``.
    """

    check: Check
    default: Any = None
    required: bool = False
    nullable: bool = False


def as_list(value: Any, complaint: str) -> list[Any]:
    """Return a list as it is. Raises ValueError for anything else."""
    if isinstance(value, list):
        return value
    raise ValueError(complaint)


def as_object(value: Any, complaint: str) -> dict[str, Any]:
    """Return an object of JSON as it is. Raises ValueError for anything else."""
    if isinstance(value, dict):
        return value
    raise ValueError(complaint)


def integer(least: int, most: int = LARGEST) -> Check:
    """Return a check of an integer."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"an integer from {least} to {most}")
        return value

    return check


positive = integer(1)
count = integer(0)
axis = integer(-MOST_AXES, MOST_AXES)


def number(value: Any) -> float:
    """Check a finite number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            result = float(value)
        except OverflowError:
            raise ValueError("a number of float64") from None
        if math.isfinite(result):
            return result
    raise ValueError("a finite number")


def not_negative(value: Any) -> float:
    """Check a number from 0 upwards."""
    result = number(value)
    if result < 0:
        raise ValueError("a number from 0 upwards")
    return result


def flag(value: Any) -> bool:
    """Check a truth value."""
    if isinstance(value, bool):
        return value
    raise ValueError("true or false")


def text(value: Any) -> str:
    """Check a string."""
    if not isinstance(value, str) or len(value) > 1000:
        raise ValueError("a string")
    return value


def choice(*values: Any) -> Check:
    """Return a check of one of some strings or None."""

    def check(value: Any) -> Any:
        if not (isinstance(value, str) or value is None) or value not in values:
            raise ValueError(f"one of {', '.join(map(repr, values))}")
        return value

    return check


def optional(check: Check) -> Check:
    """Return a check that lets None through."""
    return lambda value: None if value is None else check(value)


def sizes(length: int, check: Check = positive) -> Check:
    """Return a check of ``length`` numbers; a single one stands for all of them."""

    def checked(value: Any) -> tuple[Any, ...]:
        values = value if isinstance(value, list | tuple) else [value] * length
        if len(values) != length:
            raise ValueError(f"{length} numbers")
        return tuple(check(item) for item in values)

    return checked


def listed(check: Check, most: int = MOST_AXES) -> Check:
    """Return a check of a list of at most ``most`` values, or a single one."""

    def checked(value: Any) -> tuple[Any, ...]:
        values = value if isinstance(value, list | tuple) else [value]
        if len(values) > most:
            raise ValueError(f"a list of at most {most} values")
        return tuple(check(item) for item in values)

    return checked


def pairs(length: int) -> Check:
    """Return a check of a pair for each of ``length`` axes: how much is added or cut at its ends.

    One number stands for all of them; among several axes, one number stands for both its ends.
    """
    pair = sizes(2, count)
    return pair if length == 1 else sizes(length, pair)


def one_axis(value: Any) -> int:
    """Check an axis, which Keras 2 writes as a list of one."""
    if isinstance(value, list | tuple):
        if len(value) != 1:
            raise ValueError("one axis")
        value = value[0]
    return int(axis(value))


def shape(value: Any) -> tuple[int | None, ...]:
    """Check a shape, of which sizes may be None."""
    if not isinstance(value, list | tuple) or len(value) > MOST_AXES:
        raise ValueError(f"a shape of at most {MOST_AXES} sizes")
    return tuple(optional(count)(size) for size in value)


def target_shape(value: Any) -> tuple[int, ...]:
    """Check the target of a Reshape: sizes, of which one may be -1."""
    result: tuple[int, ...] = listed(integer(-1))(value)
    if result.count(-1) > 1 or 0 in result:
        raise ValueError("positive sizes, of which one may be -1")
    return result


def numbers(value: Any) -> Any:
    """Check a number, or lists of numbers of equal lengths; a list becomes a tuple."""
    if isinstance(value, list | tuple):
        result = tuple(numbers(item) for item in value)
        if len({_shape(item) for item in result}) > 1:
            raise ValueError("lists of equal lengths")
        return result
    if abs(one := number(value)) > LARGEST_NUMBER:
        raise ValueError("numbers of float32")
    return one


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple):
        return ()
    return (len(value), *(_shape(value[0]) if value else ()))


def only(*values: Any, because: str) -> Check:
    """Return a check of an option that is read for one of its values only."""

    def check(value: Any) -> Any:
        if not any(type(value) is type(known) and value == known for known in values):
            shown = " or ".join(repr(known) for known in values)
            raise ValueError(f"{shown} ({because})")
        return value

    return check
