"""This module tells whether treadle can run for Keras: on its backend, and in a call."""

from __future__ import annotations

import keras


def require_torch(function: str) -> None:
    """Raise ValueError unless Keras runs on PyTorch.

    >>> require_torch("treadle.keras.accelerate")
    """
    found = keras.config.backend()
    if found != "torch":
        raise ValueError(
            f"{function}: Keras runs on the backend {found}, expected torch: set "
            "KERAS_BACKEND=torch in the environment before keras is imported"
        )


class Unable(Exception):
    """Keras' own code has to run; the message is the reason."""
