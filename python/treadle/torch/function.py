"""One recurrent layer for autograd: tensors in, tensors out, treadle's kernels in between."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from treadle import _core

if TYPE_CHECKING:
    from collections.abc import Sequence


class Layer(NamedTuple):
    """What a layer of one or two directions is made of, beside its weights."""

    function: str
    mode: str
    input_size: int
    hidden_size: int
    proj_size: int
    directions: int
    activation: str

    def pack(self, weights: list[tuple[Any, ...]]) -> _core.Recurrent:
        candidate = (self.activation, 0.0, 0.0)
        return _core.Recurrent(
            self.function,
            self.mode,
            self.input_size,
            self.hidden_size,
            self.proj_size,
            1,
            "bidirectional" if self.directions == 2 else "forward",
            weights,
            {
                "activations": {"f": ("sigmoid", 0.0, 0.0), "g": candidate, "h": candidate},
                "clip": 0.0,
                "input_forget": False,
                "reset_after": True,
                "dtype": "float32",
            },
        )


class Pack:
    """A layer's packed weights, and the values that they were packed from.

    Whatever writes to a weight (an optimizer, load_state_dict, ``.data``), the values tell: versions
    of tensors do not count writes to ``.data``.
    """

    __slots__ = ("_values", "layer", "native")

    def __init__(self, layer: Layer, weights: list[tuple[Any, ...]]) -> None:
        # In this order: packing lets other threads run, and what one of them writes is found later.
        self._values = [a.copy() for a in present(weights)]
        self.layer, self.native = layer, layer.pack(weights)

    def is_of(self, layer: Layer, arrays: list[Any]) -> bool:
        """``arrays`` are those that are `present`."""
        return self.layer == layer and _core.same_bits(arrays, self._values)


class Weights:
    """A layer's tensors, the arrays that share their memory, and what was packed from them."""

    __slots__ = ("_places", "arrays", "entries", "pack")

    def __init__(self, layer: Layer, tensors: tuple[Any, ...], before: Weights | None) -> None:
        self.entries = entries(layer.directions, tensors)
        self.arrays = present(self.entries)
        self.pack: Pack = Pack(layer, self.entries) if before is None else before.pack
        self.update(layer)
        self._places: list[Any] = [
            None if t is None else (weakref.ref(t), t.data_ptr(), t.shape) for t in tensors
        ]

    def update(self, layer: Layer) -> None:
        """Packs the values anew where they have changed."""
        if not self.pack.is_of(layer, self.arrays):
            self.pack = Pack(layer, self.entries)

    def lie_in(self, tensors: Sequence[Any]) -> bool:
        """Whether the memory of the arrays is that of these tensors: else it may be gone.

        A tensor may get other memory, another shape or dtype by ``.data = `` and remain the object
        that it was.
        """
        if len(tensors) != len(self._places):
            return False
        for tensor, place in zip(tensors, self._places, strict=True):
            if place is None:
                if tensor is not None:
                    return False
                continue
            known, address, shape = place
            if (
                tensor is None
                or known() is not tensor
                or tensor.data_ptr() != address
                or tensor.shape != shape
                or tensor.dtype is not torch.float32
                or not tensor.is_contiguous()
            ):
                return False
        return True


class Packed:
    """The weights of a module's layers, packed anew whenever one has changed."""

    def __init__(self) -> None:
        self._layers: dict[int, Weights] = {}

    def find(self, index: int, tensors: tuple[Any, ...]) -> Weights | None:
        """A layer's weights where they lie as they did before, in tensors that treadle can read."""
        known = self._layers.get(index)
        return known if known is not None and known.lie_in(tensors) else None

    def place(self, index: int, layer: Layer, tensors: tuple[Any, ...]) -> Weights:
        """A layer's weights where `find` finds none."""
        placed = self._layers[index] = Weights(layer, tensors, self._layers.get(index))
        return placed


_PACKED: weakref.WeakKeyDictionary[Any, Packed] = weakref.WeakKeyDictionary()


def packed(module: Any) -> Packed:
    """That of a module, kept beside it: copies and pickles of the module know nothing of it."""
    found = _PACKED.get(module)
    if found is None:
        found = _PACKED[module] = Packed()
    return found


def array(tensor: Any) -> Any:
    if tensor is None:
        return None
    return (tensor.detach() if tensor.requires_grad else tensor).numpy()


def entries(directions: int, weights: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, peepholes of each direction."""
    count = len(weights) // directions
    arrays = [None if w is None else array(w.contiguous()) for w in weights]
    return [
        (*arrays[d * count : (d + 1) * count], *[None] * (6 - count)) for d in range(directions)
    ]


def present(weights: list[tuple[Any, ...]]) -> list[Any]:
    """Those of `entries` that are there."""
    return [a for entry in weights for a in entry if a is not None]


def forward(
    native: _core.Recurrent, x: Any, h: Any, c: Any, lengths: Any, batch_first: bool, save: bool
) -> list[Any]:
    """The tensors y, h_n, c_n and the array that is saved, None for what is absent."""
    rows = (lengths, None, None, None, None, batch_first)
    y, h_n, c_n, *kept = native.run(array(x), array(h), array(c), *rows, save)
    tensor = torch.from_numpy
    return [
        tensor(y),
        tensor(h_n),
        None if c_n is None else tensor(c_n),
        kept[0] if save else None,
    ]


def backward(
    native: _core.Recurrent,
    weights: list[tuple[Any, ...]],
    x: Any,
    y: Any,
    h: Any,
    c: Any,
    lengths: Any,
    batch_first: bool,
    saved: Any,
    dy: Any,
    dh_n: Any,
    dc_n: Any,
    want_x: bool = True,
) -> list[Any]:
    """Arrays: the gradients of x, h, c and the weights, None for what is absent."""
    rows = (lengths, None, None, None, None, batch_first)
    dx, parts, dh, dc, _, _ = native.backward(
        weights, x, y, h, c, *rows, saved, dy, dh_n, dc_n, want_x
    )
    count = 4 if parts[0][4] is None else 5  # with weight_hr; there are no peepholes here
    return [dx, dh, dc, *(gradient for part in parts for gradient in part[:count])]


class _Run(torch.autograd.Function):
    """(y, h_n, c_n or None) of one layer."""

    @staticmethod
    def forward(
        ctx: Any,
        weights: Weights,
        lengths: Any,
        batch_first: bool,
        x: Any,
        h: Any,
        c: Any,
        *tensors: Any,
    ) -> Any:
        pack = weights.pack
        *results, kept = forward(pack.native, x, h, c, lengths, batch_first, True)
        ctx.weights, ctx.pack, ctx.kept = weights, pack, kept
        ctx.lengths, ctx.batch_first = lengths, batch_first
        # PyTorch raises where one of these has been changed in place before the backward pass.
        ctx.save_for_backward(x, h, c, results[0], *tensors)
        ctx.set_materialize_grads(False)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, dy: Any, dh_n: Any, dc_n: Any) -> Any:
        if torch.is_grad_enabled():  # create_graph=True; once_differentiable would let it pass
            raise RuntimeError(
                "treadle.torch has no second derivatives (create_graph=True): use torch.nn's module, "
                "for an accelerated model after treadle.torch.restore(model)"
            )
        x, h, c, y, *tensors = ctx.saved_tensors
        weights = ctx.weights
        own = weights.entries
        if not weights.lie_in(tensors):
            own = entries(ctx.pack.layer.directions, tuple(tensors))
        dy, dh_n, dc_n = (None if d is None else array(d.contiguous()) for d in (dy, dh_n, dc_n))
        gradients = backward(
            ctx.pack.native,
            own,
            array(x),
            array(y),
            array(h),
            array(c),
            ctx.lengths,
            ctx.batch_first,
            ctx.kept,
            dy,
            dh_n,
            dc_n,
            ctx.needs_input_grad[3],
        )
        results = [
            torch.from_numpy(a) if wanted else None
            for a, wanted in zip(gradients, ctx.needs_input_grad[3:], strict=True)
        ]
        return None, None, None, *results


def step(
    module: Any,
    index: int,
    layer: Layer,
    tensors: tuple[Any, ...],
    found: Weights | None,
    lengths: Any,
    batch_first: bool,
    x: Any,
    h: Any,
    c: Any,
) -> tuple[Any, Any, Any]:
    """A module's layer, with a graph for autograd where a gradient is wanted: (y, h_n, c_n or None).

    ``found`` is what ``packed(module).find`` says of the layer's tensors.
    """
    if found is None:
        weights = packed(module).place(index, layer, tensors)
    else:
        weights = found
        weights.update(layer)
    x = x if x.stride(-1) == 1 else x.contiguous()
    h = None if h is None else h.contiguous()
    c = None if c is None else c.contiguous()
    if torch.is_grad_enabled():
        given = (x, h, c, *tensors)
        for tensor in given:
            if tensor is not None and tensor.requires_grad:
                return _Run.apply(weights, lengths, batch_first, *given)
    y, h_n, c_n, _ = forward(weights.pack.native, x, h, c, lengths, batch_first, False)
    return y, h_n, c_n
