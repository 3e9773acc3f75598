"""This module keeps recurrent layers whole while torch.export records a module.

torch.export takes a recurrent layer of PyTorch apart, step by step, and cannot record a
PackedSequence. While `kept_whole` is at work, and in its thread alone, the ``forward`` of
torch.nn's and of treadle's recurrent modules is one operator, packing a padded batch keeps it as it
is, with its lengths beside it, and MultiheadAttention is recorded by the operators that run
fastest. No module is changed for it.
"""

from __future__ import annotations

import inspect
import threading
from contextlib import ExitStack, contextmanager
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import torch
from torch.nn.utils import rnn

from treadle.torch import cells, modules, multihead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from treadle.torch.tensors import State, TensorLike

_STACK = (
    "(Tensor x, Tensor? h, Tensor? c, Tensor[] weights, Tensor? lengths, str mode, int input_size, "
    "int hidden_size, int proj_size, int num_layers, bool bias, bool bidirectional, "
    "bool batch_first) -> (Tensor, Tensor, Tensor)"
)
_CUT = "(Tensor y, Tensor lengths, int axis, SymInt? total, float padding) -> Tensor"

# PyTorch's names of modes, each with treadle's name and the activation of its candidate.
MODES = modules._MODES

_recording = threading.local()


@torch.library.custom_op(
    "treadle::captured_stack", mutates_args=(), device_types="cpu", schema=_STACK
)
def _captured_stack(*_: Any) -> NoReturn:
    """Stand for a stack of recurrent layers: y, h_n, and c_n or an empty tensor."""
    raise NotImplementedError("treadle::captured_stack stands in recorded graphs and never runs")


class _Stack(NamedTuple):
    """A _Stack has the arguments of the operator, in the order of its schema."""

    x: TensorLike
    h: TensorLike | None
    c: TensorLike | None
    weights: list[TensorLike]
    lengths: TensorLike | None
    mode: str
    input_size: int
    hidden_size: int
    proj_size: int
    num_layers: int
    bias: bool
    bidirectional: bool
    batch_first: bool


@_captured_stack.register_fake
def _(*arguments: Any) -> tuple[TensorLike, TensorLike, TensorLike]:
    own = _Stack(*arguments)
    x, H, D, P = own.x, own.hidden_size, 1 + own.bidirectional, own.proj_size or own.hidden_size
    B = x.shape[0 if own.batch_first else 1]
    y = x.new_empty((x.shape[0], x.shape[1], D * P))
    h_n = x.new_empty((D * own.num_layers, B, P))
    c_n = x.new_empty((D * own.num_layers, B, H) if own.mode == "LSTM" else (0,))
    return y, h_n, c_n


@torch.library.custom_op("treadle::captured_cut", mutates_args=(), device_types="cpu", schema=_CUT)
def _captured_cut(*_: Any) -> NoReturn:
    """Stand for the end of pad_packed_sequence: cut y to the longest length, or bring it to
    ``total`` steps; what lies behind a row's length becomes ``padding``."""
    raise NotImplementedError("treadle::captured_cut stands in recorded graphs and never runs")


@_captured_cut.register_fake
def _(
    y: TensorLike, lengths: TensorLike, axis: int, total: int | None, padding: float
) -> TensorLike:
    shape: list[Any] = list(y.shape)
    if total is None:
        total = torch.library.get_ctx().new_dynamic_size(min=2)  # as of every dynamic axis
        torch._check(total <= shape[axis])
    shape[axis] = total
    return y.new_empty(tuple(shape))


class CapturedSequence(rnn.PackedSequence):
    """A padded batch with its lengths, in the place of a PackedSequence while it is recorded."""

    padded: TensorLike
    lengths: TensorLike
    batch_first: bool

    @classmethod
    def of(cls, padded: TensorLike, lengths: TensorLike, batch_first: bool) -> CapturedSequence:
        made: CapturedSequence = tuple.__new__(cls, (None,) * 4)
        made.padded, made.lengths, made.batch_first = padded, lengths, batch_first
        return made

    def _refuse(self, *_: object) -> NoReturn:
        raise NotImplementedError(
            "treadle.torch.capture: the steps inside a PackedSequence are read (its data, "
            "batch_sizes or indices): run such a layer on the padded batch, before "
            "pack_padded_sequence or after pad_packed_sequence"
        )

    data = batch_sizes = sorted_indices = unsorted_indices = property(_refuse)
    __iter__ = __getitem__ = __len__ = _refuse
    to = cuda = cpu = double = float = half = long = int = _refuse


def _pack(
    input: TensorLike, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> CapturedSequence:
    """Do what pack_padded_sequence does; rows need not be sorted."""
    return CapturedSequence.of(input, torch.as_tensor(lengths).to(torch.int64), batch_first)


def _pad(
    sequence: Any,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[TensorLike, TensorLike]:
    """Do what pad_packed_sequence does."""
    if not isinstance(sequence, CapturedSequence):
        raise NotImplementedError(
            "treadle.torch.capture: a PackedSequence comes from elsewhere than "
            "pack_padded_sequence: give the module a padded batch and its lengths"
        )
    y = sequence.padded
    if sequence.batch_first != batch_first:
        y = y.transpose(0, 1)
    axis = 1 if batch_first else 0
    y = torch.ops.treadle.captured_cut(
        y, sequence.lengths, axis, total_length, float(padding_value)
    )
    return y, sequence.lengths


def _run(
    module: Any, input: Any, hx: State | None = None, *, lengths: Any = None
) -> tuple[Any, State]:
    """Run a recurrent module by one operator."""
    packed = isinstance(input, CapturedSequence)
    if isinstance(input, rnn.PackedSequence) and not packed:
        raise NotImplementedError(
            "treadle.torch.capture: a recurrent layer gets a PackedSequence that comes from "
            "elsewhere than pack_padded_sequence: give the module a padded batch and its lengths"
        )
    x, batch_first = (input.padded, input.batch_first) if packed else (input, module.batch_first)
    lengths = input.lengths if packed else lengths
    lstm = module.mode == "LSTM"
    if x.dim() not in (2, 3) or x.shape[-1] != module.input_size:
        raise ValueError(
            f"treadle.torch.capture: a recurrent layer expects input [.., {module.input_size}] of "
            f"2 or 3 axes, found {tuple(x.shape)}"
        )
    if module.training and module.dropout:
        raise ValueError("treadle.torch.capture: a recurrent layer with dropout is training")
    states: tuple[Any, ...] = () if hx is None else tuple(hx) if lstm else (hx,)
    unbatched = x.dim() == 2
    if unbatched:
        x, states, batch_first = x.unsqueeze(1), tuple(s.unsqueeze(1) for s in states), False
    D = 1 + module.bidirectional
    sizes = (module.proj_size or module.hidden_size, module.hidden_size)
    for state, size in zip(states, sizes, strict=False):
        if state.dim() != 3 or tuple(state.shape[::2]) != (D * module.num_layers, size):
            raise ValueError(
                f"treadle.torch.capture: a recurrent layer has a state {tuple(state.shape)}, "
                f"expected [{D * module.num_layers}, B, {size}]"
            )
        torch._check(state.shape[1] == x.shape[0 if batch_first else 1])
    weights = [getattr(module, name) for names in module._all_weights for name in names]
    if lengths is not None:
        lengths = torch.as_tensor(lengths).to(torch.int64)
        torch._check(lengths.shape[0] == x.shape[0 if batch_first else 1])
    y, *ends = torch.ops.treadle.captured_stack(
        x,
        *states,
        *(None,) * (2 - len(states)),
        weights,
        lengths,
        module.mode,
        module.input_size,
        module.hidden_size,
        module.proj_size,
        module.num_layers,
        bool(module.bias),
        bool(module.bidirectional),
        batch_first,
    )
    if unbatched:
        y, ends = y.squeeze(1), [end.squeeze(1) for end in ends]
    result: Any = CapturedSequence.of(y, lengths, batch_first) if packed else y
    return result, tuple(ends) if lstm else ends[0]


def _pack_padded_sequence(
    input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> Any:
    from treadle.torch.capture_recurrent import instead

    return instead("pack_padded_sequence", input, lengths, batch_first, enforce_sorted)


def _pad_packed_sequence(
    sequence: Any, batch_first: bool = False, padding_value: Any = 0.0, total_length: Any = None
) -> Any:
    from treadle.torch.capture_recurrent import instead

    return instead("pad_packed_sequence", sequence, batch_first, padding_value, total_length)


_SWAPPED: dict[str, tuple[Any, Any, Callable[..., Any]]] = {
    # PyTorch's function, the function whose code it has meanwhile, and what that does here
    "pack_padded_sequence": (rnn.pack_padded_sequence, _pack_padded_sequence, _pack),
    "pad_packed_sequence": (rnn.pad_packed_sequence, _pad_packed_sequence, _pad),
}
_ORIGINAL = {
    name: FunctionType(theirs.__code__, theirs.__globals__, name, theirs.__defaults__)
    for name, (theirs, _, _) in _SWAPPED.items()
}


def instead(name: str, *arguments: Any) -> Any:
    """Run PyTorch's function of a name, or, in the thread that records, treadle's."""
    run = _SWAPPED[name][2] if recording() else _ORIGINAL[name]
    return run(*arguments)


def recording() -> bool:
    """Tell whether this thread records a module."""
    return getattr(_recording, "on", False)


@contextmanager
def _code(name: str) -> Iterator[None]:
    """Give a function of PyTorch other code, so that names that users imported mean it, too."""
    theirs, ours, _ = _SWAPPED[name]
    before = theirs.__code__
    theirs.__code__ = ours.__code__
    try:
        yield
    finally:
        theirs.__code__ = before


@contextmanager
def _forward(kind: Any, run: Callable[..., Any]) -> Iterator[None]:
    """Give a class another ``forward`` in the thread that records."""
    before = kind.forward

    def forward(self: Any, *arguments: Any, **options: Any) -> Any:
        return (run if recording() else before)(self, *arguments, **options)

    kind.forward = forward
    try:
        yield
    finally:
        kind.forward = before


def _theirs(module: Any, *arguments: Any, **options: Any) -> Any:
    """Run the ``forward`` of PyTorch's class, whose operators `treadle.torch.capture` knows."""
    return module.theirs.forward(module, *arguments, **options)


def _attend(module: Any, *arguments: Any, **named: Any) -> tuple[TensorLike, TensorLike | None]:
    """Run a MultiheadAttention by fewer views than PyTorch's ``forward`` makes."""
    bound = _SIGNATURE.bind(module, *arguments, **named)
    bound.apply_defaults()
    own = bound.arguments
    query, key, value = own["query"], own["key"], own["value"]
    ours, masks = multihead.MultiheadAttention, (own["key_padding_mask"], own["attn_mask"])
    plain = module.bias_k is None and not module.add_zero_attn and not query.is_nested
    if not plain or not ours._fits(module, query, key, value, masks):
        return _MULTIHEAD(*bound.args, **bound.kwargs)
    batched = query.dim() == 3
    turned = batched and not module.batch_first
    rows: Any = ours._projected(module, query, key, value)
    rows = tuple(x if batched else x.unsqueeze(0) for x in rows)
    rows = tuple(x.transpose(0, 1) if turned else x for x in rows)
    q, k, v = (x.unflatten(-1, (module.num_heads, -1)).transpose(1, 2) for x in rows)
    sizes = q.shape[0], module.num_heads, q.shape[2], k.shape[2]
    mask = multihead._merged(*masks, sizes)
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    y = module.out_proj(y.transpose(1, 2).flatten(2))
    probabilities = None
    if own["need_weights"]:
        scores = torch.matmul(q * module.head_dim**-0.5, k.transpose(-1, -2))
        if mask is not None:
            off = mask.dtype is torch.bool
            scores = scores.masked_fill(~mask, -torch.inf) if off else scores + mask
        probabilities = scores.softmax(-1)
        probabilities = probabilities.mean(1) if own["average_attn_weights"] else probabilities
        probabilities = probabilities if batched else probabilities.squeeze(0)
    y = y.squeeze(0) if not batched else y.transpose(0, 1) if turned else y
    return y, probabilities


_MULTIHEAD = torch.nn.MultiheadAttention.forward
_SIGNATURE = inspect.signature(_MULTIHEAD)


_MAX_POOL = torch.max_pool1d


def _pool(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, *rest: Any, **named: Any
) -> Any:
    """Run max_pool1d by max_pool2d: recording the former fixes the size of the axis."""
    if not recording():
        return _MAX_POOL(input, kernel_size, stride, padding, *rest, **named)
    names = ("dilation", "ceil_mode")
    options = {"dilation": 1, "ceil_mode": False} | dict(zip(names, rest, strict=False)) | named
    sizes = kernel_size, kernel_size if stride is None or stride == [] else stride
    window = [(1, *_single(size)) for size in sizes]
    ends, gaps = (0, *_single(padding)), (1, *_single(options["dilation"]))
    y = torch.max_pool2d(input.unsqueeze(-2), *window, ends, gaps, options["ceil_mode"])
    return y.squeeze(-2)


def _single(size: Any) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(size)


@contextmanager
def _pooling() -> Iterator[None]:
    torch.max_pool1d = _pool
    try:
        yield
    finally:
        torch.max_pool1d = _MAX_POOL


@contextmanager
def kept_whole() -> Iterator[None]:
    """Let this thread record recurrent layers as operators, and packed batches as padded ones."""
    stack = torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN, modules._Sequence
    with ExitStack() as undo:
        for kind in stack:
            undo.enter_context(_forward(kind, _run))
        for kind in (torch.nn.MultiheadAttention, multihead.MultiheadAttention):
            undo.enter_context(_forward(kind, _attend))
        undo.enter_context(_forward(cells._Cell, _theirs))
        undo.enter_context(_pooling())
        for name in _SWAPPED:
            undo.enter_context(_code(name))
        _recording.on = True
        try:
            yield
        finally:
            _recording.on = False
