# The classes of treadle._core for transformers. This file has their types; there is no such module.
from collections.abc import Mapping
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt

_Float: TypeAlias = npt.NDArray[np.float32]
_Int: TypeAlias = npt.NDArray[np.int64]
# A matrix in the form of a dtype (formats.py): float32, the bits of bfloat16, or int8 with scales.
_Weight: TypeAlias = _Float | npt.NDArray[np.uint16] | tuple[npt.NDArray[np.int8], _Float]
_Activation: TypeAlias = tuple[str, float, float]

@final
class Encoder:
    """Packed layers of a transformer encoder. Built first, then run, from any thread."""

    def __init__(
        self,
        function: str,
        *,
        hidden: int,
        num_heads: int,
        feed_forward: int,
        activation: _Activation,
        norm_first: bool,
        eps: float,
        dtype: str = "float32",
    ) -> None: ...
    def add_layer(self, weights: Mapping[str, _Weight]) -> None: ...
    def run(
        self,
        function: str,
        x: _Float,
        offsets: npt.NDArray[np.int64],
        *,
        mask: _Float | npt.NDArray[np.bool_] | None = None,
        is_causal: bool = False,
        layers: tuple[int, int | None] = (0, None),
        probabilities: _Float | None = None,
    ) -> _Float: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def isa(self) -> str: ...

@final
class TransformerBlock:
    """A packed block of a transformer, with cross attention if its weights have it."""

    def __init__(
        self,
        function: str,
        weights: Mapping[str, _Weight],
        *,
        num_heads: int,
        activation: _Activation,
        norm_first: bool,
        eps: float,
        dtype: str = "float32",
    ) -> None: ...
    def run(
        self,
        function: str,
        x: _Float,
        offsets: npt.NDArray[np.int64],
        *,
        memory: tuple[_Float, npt.NDArray[np.int64]] | None = None,
        mask: _Float | npt.NDArray[np.bool_] | None = None,
        memory_mask: _Float | npt.NDArray[np.bool_] | None = None,
        is_causal: bool = False,
    ) -> _Float: ...
    @property
    def has_cross_attention(self) -> bool: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def isa(self) -> str: ...

@final
class Decoder:
    """A packed stack of layers with its embedding and its vocabulary.

    Built first, with `add_layer`, then used from any thread. ``options`` and ``weights`` have the
    names that `treadle.layers.decoder_weights` gives them.
    """

    def __init__(
        self,
        function: str,
        options: Mapping[str, Any],
        weights: Mapping[str, Any],
        *,
        dtype: str,
        embedding: Decoder | None = None,
    ) -> None: ...
    def add_layer(self, options: Mapping[str, Any], weights: Mapping[str, Any]) -> None: ...
    def encode(
        self,
        function: str,
        tokens: _Int,
        lengths: _Int,
        *,
        states: bool = False,
        attentions: bool = False,
    ) -> tuple[_Float, _Float | None, _Float | None, _Float | None]: ...
    def logits(self, function: str, hidden: _Float) -> _Float: ...
    def start(
        self,
        function: str,
        rows: int,
        *,
        capacity: int,
        dtype: str,
        memory: tuple[_Float, _Int] | None = None,
    ) -> DecoderState: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def isa(self) -> str: ...

@final
class DecoderState:
    """The sequences that a stack goes on with."""

    def extend(
        self,
        function: str,
        tokens: _Int,
        lengths: _Int,
        *,
        states: bool = False,
        attentions: bool = False,
    ) -> tuple[_Float, _Float | None, _Float | None, _Float | None]: ...
    def step(self, function: str, tokens: _Int) -> _Float: ...
    def step_best(self, function: str, tokens: _Int, k: int) -> tuple[_Int, _Float, _Float]: ...
    def reorder(self, function: str, rows: _Int) -> None: ...
    def truncate(self, function: str, lengths: _Int) -> None: ...
    def copy(self) -> DecoderState: ...
    @property
    def lengths(self) -> list[int]: ...
    @property
    def capacity(self) -> int: ...
    @property
    def bytes(self) -> int: ...
