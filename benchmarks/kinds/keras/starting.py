"""This module starts what a worker needs for its way: Keras on a backend, or a file's model."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ...core.kind import OURS
from .data import Order
from .ways import BACKENDS, WITHOUT


def start(way: str, threads: int) -> Callable[[Order], Any]:
    """Import what a way needs, with so many threads, and return what builds programs."""
    import treadle

    treadle.set_num_threads(threads)
    if way == WITHOUT:
        from . import loaded

        return loaded.build
    backend = BACKENDS[way]
    os.environ["KERAS_BACKEND"] = backend
    _threads(backend, threads)
    from . import programs

    if way != OURS:
        return lambda order: programs.build(order, backend)
    return lambda order: programs.build(order, backend, accelerated)


def accelerated(model: Any) -> None:
    """Let treadle run the layers of a model. ValueError says which it does not."""
    import treadle.keras

    report = treadle.keras.accelerate(model)
    if report.left:
        raise ValueError(f"treadle does not run all layers: {report}")


def _threads(backend: str, threads: int) -> None:
    """Set the threads of a backend before Keras imports it."""
    if backend == "torch":
        import torch

        torch.set_num_threads(threads)
    elif backend == "jax":
        from ...core.peers import jax

        jax.configure(threads)
    else:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow

        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
