"""Public objects say the package that people import them from, not the module that defines them.

Pickles, reprs and messages then stay the same when a definition moves to another module.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

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


def imported_later(
    package: str, places: Mapping[str, Iterable[str]], rooms: Iterable[str] = ()
) -> Callable[[str], Any]:
    """Return a package's ``__getattr__``, which imports a name when somebody asks for it.

    ``places`` has the names that each module defines; ``rooms`` are packages inside the package. A
    name that has been found becomes an attribute, so that nobody searches for it again.
    """
    modules = {name: module for module, names in places.items() for name in names}

    def find(name: str) -> Any:
        if name in modules:
            value = getattr(import_module(modules[name]), name)
        elif name in rooms:
            value = import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    return find
