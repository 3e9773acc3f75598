"""Each peer has a module, which starts it and has the parts that several kinds need of it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from ..kind import Library

if TYPE_CHECKING:  # a type checker holds every peer to the protocol here
    from . import (
        ctranslate2,
        jax,
        keras_jax,
        keras_tensorflow,
        keras_torch,
        onnxruntime,
        openvino,
        sentence_transformers,
        torch,
        treadle,
    )

    _PEERS: tuple[Library, ...] = (
        treadle,
        torch,
        onnxruntime,
        openvino,
        jax,
        ctranslate2,
        sentence_transformers,
        keras_torch,
        keras_jax,
        keras_tensorflow,
    )


def start(name: str, threads: int) -> str:
    """Start a peer and return its version. ImportError says that the peer is not installed."""
    library = cast(Library, importlib.import_module(f".{name}", __package__))
    library.configure(threads)
    return library.version()
