# The compiled module. It checks shapes, dtypes and values; the Python layer converts kinds of arrays.
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt

from treadle._inputs.attention import AttentionOptions

_Float: TypeAlias = npt.NDArray[np.float32]
# A matrix in the form of a dtype (formats.py): float32, the bits of bfloat16, or int8 with scales.
_Weight: TypeAlias = _Float | npt.NDArray[np.uint16] | tuple[npt.NDArray[np.int8], _Float]
_Rows: TypeAlias = npt.NDArray[np.int64] | npt.NDArray[np.bool_]
_Activation: TypeAlias = tuple[str, float, float]

@final
class Recurrent:
    """Packed weights of L layers in D directions. Immutable, safe to use from several threads."""

    def __init__(
        self,
        function: str,
        mode: str,
        input_size: int,
        hidden_size: int,
        proj_size: int,
        num_layers: int,
        direction: str,
        weights: Sequence[tuple[_Weight | None, ...]],
        options: dict[str, Any],
    ) -> None: ...
    def run(
        self,
        x: _Float,
        h0: _Float | None,
        c0: _Float | None,
        lengths: npt.NDArray[np.int64] | None,
        mask: npt.NDArray[np.bool_] | None,
        resets: npt.NDArray[np.bool_] | None,
        reset_h: _Float | None,
        reset_c: _Float | None,
        batch_first: bool,
        save: bool = False,
        recompute: bool = False,
    ) -> Any: ...
    def backward(
        self,
        weights: Sequence[tuple[_Float | None, ...]],
        x: _Float,
        y: _Float,
        h0: _Float | None,
        c0: _Float | None,
        lengths: npt.NDArray[np.int64] | None,
        mask: npt.NDArray[np.bool_] | None,
        resets: npt.NDArray[np.bool_] | None,
        reset_h: _Float | None,
        reset_c: _Float | None,
        batch_first: bool,
        saved: _Float,
        dy: _Float | None,
        dh_n: _Float | None,
        dc_n: _Float | None,
        want_x: bool = True,
    ) -> tuple[Any, list[tuple[Any, ...]], _Float, Any, Any, Any]: ...
    def stream(self, batch_size: int) -> Stream: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def isa(self) -> str: ...

@final
class Stream:
    """The state of B rows that advance together, and the buffers of one step."""

    def step(self, x: object, out: _Float | None = None) -> _Float: ...
    def run(self, x: object) -> _Float: ...
    def reset(
        self, rows: _Rows | None = None, h: _Float | None = None, c: _Float | None = None
    ) -> None: ...
    def get_state(self) -> tuple[_Float, _Float | None]: ...
    def set_state(self, h: _Float, c: _Float | None) -> None: ...

def same_bits(a: list[_Float], b: list[_Float]) -> bool: ...
def check_weight(function: str, name: str, value: object, dtype: str) -> None: ...
def linear(x: _Float, weight: _Float, bias: _Float | None) -> _Float: ...
def isa() -> str: ...
def available_isas() -> list[str]: ...
def set_isa(name: str) -> None: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def apply(name: str, x: _Float, alpha: float = 0.0, beta: float = 0.0) -> _Float: ...
def control_word() -> int: ...
def multiply_peak(seconds: float = 0.05, dtype: str = "float32") -> float: ...
def read_bandwidth(bytes: int, seconds: float = 0.05) -> float: ...
def build_info() -> dict[str, str]: ...

@final
class Linear:
    """Packed weights of a product and its bias. Immutable, safe to use from several threads."""

    def __init__(
        self, function: str, weight: _Weight, bias: _Float | None, dtype: str = "float32"
    ) -> None: ...
    def run(
        self,
        function: str,
        x: _Float,
        activation: _Activation | None = None,
        residual: _Float | None = None,
    ) -> _Float: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def isa(self) -> str: ...

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

# float32, bfloat16 as uint16, or int8 and its scales.
_Heads: TypeAlias = _Float | npt.NDArray[np.uint16] | tuple[npt.NDArray[np.int8], _Float]

@final
class KeyValueCache:
    """Keys [B, N, K, E] and values [B, N, K, F] of B sequences, each with a length of its own."""

    def __init__(
        self,
        function: str,
        *,
        batch_size: int,
        num_heads: int,
        head_size: int,
        value_size: int,
        capacity: int,
        dtype: str,
    ) -> None: ...
    def append(
        self, function: str, k: _Float, v: _Float, *, counts: npt.NDArray[np.int64]
    ) -> None: ...
    def attend(
        self,
        function: str,
        q: _Float,
        counts: npt.NDArray[np.int64],
        options: AttentionOptions = ...,
        out: _Float | None = None,
    ) -> _Float: ...
    def set_lengths(self, function: str, lengths: npt.NDArray[np.int64]) -> None: ...
    def reorder(self, function: str, rows: npt.NDArray[np.int64]) -> None: ...
    def rows(self) -> tuple[Any, Any]: ...
    def copy(self) -> KeyValueCache: ...
    @property
    def lengths(self) -> list[int]: ...
    @property
    def capacity(self) -> int: ...

def attention(
    function: str,
    query: _Float,
    key: _Heads,
    value: _Heads,
    options: AttentionOptions = ...,
    out: _Float | None = None,
    *,
    probabilities: _Float | None = None,
    lse: _Float | None = None,
) -> _Float: ...
def attention_backward(
    function: str,
    query: _Float,
    key: _Float,
    value: _Float,
    *,
    options: AttentionOptions,
    forward: dict[str, _Float],
    dout: _Float,
    grads: dict[str, _Float],
) -> None: ...
def layer_norm(
    function: str,
    x: _Float,
    weight: _Float | None,
    bias: _Float | None,
    eps: float,
    residual: _Float | None = None,
) -> _Float: ...
def softmax(function: str, x: _Float) -> _Float: ...
def embedding_sum(
    function: str, tables: list[_Float], ids: list[npt.NDArray[np.int64]]
) -> _Float: ...
