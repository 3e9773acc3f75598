"""Public objects say the package that people import them from, not the module that defines them.

Pickles, reprs and messages then stay the same when a definition moves to another module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_T = TypeVar("_T")


def published(package: str) -> Callable[[_T], _T]:
    """Return a decorator that makes a class or function say ``package`` as its module."""

    def mark(value: _T) -> _T:
        value.__module__ = package
        return value

    return mark


def publish(package: str, namespace: Mapping[str, object], names: Iterable[str]) -> None:
    """Mark the classes and functions among ``names`` that the package itself defines."""
    for name in names:
        value = namespace.get(name)
        if str(getattr(value, "__module__", "")).startswith(f"{package}."):
            published(package)(value)
