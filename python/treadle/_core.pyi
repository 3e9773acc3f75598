# The compiled module checks shapes, dtypes and values; the Python layer converts kinds of arrays.
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypedDict, final, type_check_only

import numpy as np
import numpy.typing as npt

from treadle._core_graph import Conv as Conv
from treadle._core_graph import ConvTranspose as ConvTranspose
from treadle._core_graph import Depthwise as Depthwise
from treadle._core_graph import PlainInputs as PlainInputs
from treadle._core_graph import Program as Program
from treadle._core_graph import operators as operators
from treadle._core_streams import HeldStreams as HeldStreams
from treadle._core_streams import Stream as Stream
from treadle._core_streams import StreamPool as StreamPool
from treadle._core_streams import StreamSlots as StreamSlots
from treadle._core_transformer import Decoder as Decoder
from treadle._core_transformer import DecoderState as DecoderState
from treadle._core_transformer import Encoder as Encoder
from treadle._core_transformer import TransformerBlock as TransformerBlock

_Float: TypeAlias = npt.NDArray[np.float32]
# A matrix in the form of a dtype (formats.py): float32, the bits of bfloat16, or int8 with scales.
_Weight: TypeAlias = _Float | npt.NDArray[np.uint16] | tuple[npt.NDArray[np.int8], _Float]
_Activation: TypeAlias = tuple[str, float, float]

class _SequenceInputs(Protocol):
    """The attributes that the core reads of a `treadle._inputs.sequence.SequenceInputs`."""

    x: _Float
    h_0: _Float | None
    c_0: _Float | None
    lengths: npt.NDArray[np.int64] | None
    mask: npt.NDArray[np.bool_] | None
    resets: npt.NDArray[np.bool_] | None
    reset_h: _Float | None
    reset_c: _Float | None
    batch_first: bool

@final
class RecurrentStack:
    """Packed weights of L layers in D directions. Immutable, safe to use from several threads.

    ``weights`` has a dict for each layer and direction: that of the first layer forward, of the
    first layer backward if there are two directions, of the second layer forward, and so on. Its
    names are weight_ih, weight_hh, bias_ih, bias_hh, weight_hr (with ``proj_size``) and peepholes
    (of an LSTM); a bias or peepholes that are missing or None are zero. ``activations`` has ONNX's
    letters: f for the gates, g for the candidate, h for the output of an LSTM; a missing one is the
    identity. ``dtype`` is that of all layers, or a list with one for each. Without ``packed`` the
    arrays are kept and read in every call, as they are then: float32, no peepholes, and a GRU whose
    reset follows the product. ``function`` is the name that errors begin with. Raises ValueError or
    TypeError.
    """

    def __init__(
        self,
        function: str,
        weights: Sequence[Mapping[str, _Weight | None]],
        *,
        mode: str,
        input_size: int,
        hidden_size: int,
        proj_size: int = 0,
        num_layers: int = 1,
        direction: str = "forward",
        activations: dict[str, _Activation],
        clip: float = 0.0,
        input_forget: bool = False,
        reset_after: bool = True,
        dtype: str | list[str] = "float32",
        packed: bool = True,
    ) -> None: ...
    def renewed(self, weights: Sequence[Mapping[str, _Weight | None]]) -> RecurrentStack:
        """A net of the same form that packs other weights.

        It takes over the memory that this one keeps from call to call. Raises ValueError if this
        one has not packed its weights, and ValueError or TypeError for weights that do not fit.
        """

    def run(self, inputs: _SequenceInputs, *, save: bool = False, recompute: bool = False) -> Any:
        """(y, h_n, c_n or None), and with ``save`` what the backward pass needs.

        y [T, B, D*H], h_n [D*L, B, H], c_n [D*L, B, H] of an LSTM, saved [D, T, B, saved_size(...)]
        of one layer; with ``batch_first`` y [B, T, D*H]. With ``recompute`` the backward pass
        computes the gates again and less is saved.
        """

    def backward(
        self,
        inputs: _SequenceInputs,
        *,
        weights: Sequence[Mapping[str, _Float | None]],
        y: _Float,
        saved: _Float,
        grads: Mapping[str, _Float | None],
        want_x: bool = True,
        want_h: bool = True,
    ) -> dict[str, Any]:
        """The gradients of one layer, in the shapes of what they belong to.

        ``inputs`` and ``weights`` are those of the forward pass, ``y`` and ``saved`` its results.
        ``grads`` has the gradients of its results by the names y, h_n and c_n; a missing one is
        zero. The result has x (None unless ``want_x``), weights (a list with a dict by name for
        each direction), h_0 (None unless ``want_h``), c_0 (None unless an LSTM), reset_h and
        reset_c (None without resets).
        """

    def run_tensors(
        self, x: object, h: object, c: object, step: bool, batch_first: bool, save: bool
    ) -> tuple[Any, Any, Any, Any] | None:
        """(y, h_n, c_n or None, saved or None) as tensors of PyTorch. Of a ``step`` x is [B, I] or
        [I], states have no axis for layers, and y is None, or a copy of h_n that the backward pass
        reads. None if an argument is not plain float32 or has another shape.
        """
    def backward_tensors(
        self, forward: Any, upstream: Any, weights: Any, wanted: Any, step: bool, batch_first: bool
    ) -> list[Any] | None:
        """The gradients of x, h, c and the weights, None where not ``wanted``. ``forward`` has x,
        h, c, y and saved; ``upstream`` is of y, h_n and c_n. None as of `run_tensors`.
        """
    def stream(self, batch_size: int, *, to_float32: Callable[[str, str, Any], _Float]) -> Stream:
        """``to_float32(function, name, x)`` converts an x of `Stream.step` that is not float32."""
    def pool(
        self, slots: StreamSlots, *, to_float32: Callable[[str, str, Any], _Float]
    ) -> StreamPool:
        """Take streams with these slots, whose states are h [L, H] and c [L, H] behind it, through
        the net. ``to_float32(function, name, x)`` converts frames that are not float32.
        """
    @property
    def weight_bytes(self) -> int: ...
    @property
    def saves_activated(self) -> bool:
        """Whether `run` saves gates after activation, not what enters the activations."""
    @property
    def isa(self) -> str: ...
    @property
    def isas(self) -> list[str]:
        """The ISA level of each layer's products."""

def gate_counts() -> dict[str, int]:
    """The gates of a cell by its mode: rnn, lstm, gru."""

def saved_size(
    mode: str,
    hidden_size: int,
    *,
    activation: str = "tanh",
    clips: bool = False,
    reset_after: bool = True,
    recompute: bool = False,
) -> int:
    """The floats that each step of a forward pass saves for each row and direction.

    ``activation`` is that of the candidate, ``clips`` whether the net clips its pre-activations.
    """

def limits() -> dict[str, int]:
    """The kernels' limits.

    ``head_size`` is the most floats of a head of attention, ``sum_block`` the numbers along K that
    share a scale in int8.
    """

def tensor_array(tensor: object) -> npt.NDArray[Any]:
    """Return an array that shares the memory of a torch.Tensor, which stays resizable."""

@final
class Places:
    """Where the memory of tensors lay. It keeps no tensor alive."""

    def __init__(self, tensors: tuple[Any, ...]) -> None: ...
    def hold(self, tensors: tuple[Any, ...]) -> bool:
        """Tell whether these are contiguous float32 tensors that lie there, in the same shapes."""

def same_bits(a: list[_Float], b: list[_Float]) -> bool: ...
def check_weight(function: str, name: str, value: object, dtype: str) -> None: ...
def linear(x: _Float, weight: _Float, bias: _Float | None) -> _Float: ...
def isa() -> str: ...
def available_isas() -> list[str]: ...
def set_isa(name: str) -> None: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def suggest_num_threads(n: int) -> None: ...
def apply(name: str, x: _Float, alpha: float = 0.0, beta: float = 0.0) -> _Float: ...
def control_word() -> int: ...
def multiply_peak(seconds: float = 0.05, dtype: str = "float32") -> float: ...
def read_bandwidth(bytes: int, seconds: float = 0.05) -> float: ...
def step_chain(
    mode: str, activation: str = "tanh", seconds: float = 0.05, dtype: str = "float32"
) -> float:
    """The seconds for which a step of a cell waits for the one before, however small it is.

    A number of the state is loaded, multiplied into the gates, which go through their functions,
    and the new state is stored. ``activation`` is that of the candidate and of an LSTM's new cell.
    """

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

@type_check_only
class AttentionOptions(TypedDict, total=False):
    """The options of a native call of attention by their names; an option may be left out."""

    # [B, N, S, K]: bool, True where a query attends, or float32, added to the scores.
    mask: _Float | npt.NDArray[np.bool_] | None
    is_causal: bool
    # 1 when it is left out.
    scale: float
    # [B]: how many queries and how many keys of a row exist; None: all.
    query_lengths: npt.NDArray[np.int64] | None
    key_lengths: npt.NDArray[np.int64] | None
    # How many keys to the left and to the right of itself a query sees; -1: all.
    window: tuple[int, int]
    # 0: no cap.
    softcap: float
    # [N]
    alibi_slopes: _Float | None
    # [B]: the place of a row's first query among its keys; None: 0.
    query_offset: npt.NDArray[np.int64] | None
    # The probability of dropout and its seed.
    dropout: tuple[float, int]
    # The dtype of the two products, float32 or bfloat16.
    dtype: str

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
    def step(
        self,
        function: str,
        q: _Float,
        k: _Float,
        v: _Float,
        counts: npt.NDArray[np.int64],
        options: AttentionOptions = ...,
        out: _Float | None = None,
    ) -> _Float:
        """Append and attend, without another thread in between."""

    def truncate(self, function: str, lengths: npt.NDArray[np.int64]) -> None: ...
    def reset(self, function: str, rows: npt.NDArray[np.int64]) -> None: ...
    def set_lengths(self, function: str, lengths: npt.NDArray[np.int64]) -> None:
        """Say how many tokens the rows have, which the caller has written where they lie."""

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
    probabilities: _Float | None = None,
    *,
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
def pool(
    function: str,
    x: _Float,
    kind: str,
    axes: list[tuple[int, int, int, int, bool]],
    divisor: int = 0,
) -> _Float:
    """Pool x [B, C, H, W]. ``kind`` is "max", "average" or "average_with_pad"; an axis is (taps,
    stride, dilation, padding, ceil_mode).
    """

def adaptive_pool(function: str, x: _Float, kind: str, height: int, width: int) -> _Float: ...
def group_norm(
    function: str, x: _Float, groups: int, weight: _Float | None, bias: _Float | None, eps: float
) -> _Float:
    """Norm x [B, C, P]; the statistics are those of a group of channels and all P."""

def scale_channels(function: str, x: _Float, scale: _Float, shift: _Float) -> _Float:
    """Return x * scale + shift for x [B, C, P]."""

def resize(
    function: str, x: _Float, mode: str, sizes: tuple[int, int], scales: tuple[float, float]
) -> _Float:
    """Resize x [N, H, W]. ``mode`` is "nearest", "nearest-exact", "linear" or "linear_aligned"; a
    scale of 0 is that of the sizes.
    """

def pad(
    function: str,
    x: _Float,
    sizes: list[int],
    mode: str,
    before: list[int],
    after: list[int],
    value: float,
) -> _Float:
    """Pad x [n] of the shape ``sizes``; the modes are PyTorch's."""

def softmax(function: str, x: _Float) -> _Float: ...
def log_softmax(function: str, x: _Float) -> _Float: ...
def turn(function: str, x: _Float, out: _Float) -> None: ...
def embedding_sum(
    function: str, tables: list[_Float], ids: list[npt.NDArray[np.int64]]
) -> _Float: ...
