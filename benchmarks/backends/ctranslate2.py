"""CTranslate2: encoders only."""

from __future__ import annotations


def configure(threads: int) -> None:
    """Threads are an option of the encoder."""


def version() -> str:
    """CTranslate2's version."""
    import ctranslate2

    return str(ctranslate2.__version__)
