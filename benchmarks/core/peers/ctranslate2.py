"""CTranslate2 runs encoders, and models that generate."""

from __future__ import annotations


def configure(threads: int) -> None:
    """Do nothing: threads are an option of the model."""


def version() -> str:
    """Return CTranslate2's version."""
    import ctranslate2

    return str(ctranslate2.__version__)
