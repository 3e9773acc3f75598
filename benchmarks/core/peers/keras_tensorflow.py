"""Keras on TensorFlow runs in a process of its own, since a process has one backend of Keras."""

from __future__ import annotations

from .distributions import keras_on


def configure(threads: int) -> None:
    """Do nothing: the process gets its number of threads when it starts."""


def version() -> str:
    """Return the versions of Keras and TensorFlow, which are not imported here."""
    return keras_on("tensorflow")
