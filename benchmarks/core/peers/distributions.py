"""This module asks for the versions of packages that this process must not import."""

from __future__ import annotations

from importlib import metadata


def keras_on(backend: str) -> str:
    """Return the versions of Keras and of its backend. ImportError says what is not installed."""
    found = {}
    for name in ("keras", backend):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            raise ImportError(f"{name} is not installed") from None
    return f"{found['keras']} on {backend} {found[backend]}"
