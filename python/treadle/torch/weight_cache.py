"""This module finds the native layer for the weights of a recurrent layer as they are now.

Optimizers, load_state_dict and assignments to ``.data`` all write to weights, and PyTorch's version
counters do not count the last of them. The values themselves tell: a `WeightCache` keeps a copy of
those that it has packed, and compares their bits with the present ones in every call.

To compare weights takes longer than to multiply a few rows by them. So a short call does not pack
them: its native layer, an `UnpackedLayer`, reads them where they lie, and has the same bits.
"""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from treadle import _core
from treadle.layers.recurrent_spec import RecurrentSpec
from treadle.torch.tensors import shared_array

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from typing import TypeAlias

    from treadle._inputs.types import Float
    from treadle.layers.activation import Activation
    from treadle.torch.tensors import TensorLike

    NativeLayer: TypeAlias = "PackedLayer | UnpackedLayer"


# A call of at most so many rows, those of all steps counted, takes an `UnpackedLayer`. A row costs
# about as much as the comparison that it saves at one to three of them, and a twelfth of packing.
_FEW_ROWS, _FEW_LEARNING_ROWS = 2, 12


def reads_weights(rows: int, learns: bool) -> bool:
    """Tell whether a call of so many rows, those of all steps, reads weights where they lie.

    A call that ``learns`` is recorded for a backward pass. Its weights have most likely changed
    since the call before, so that they would have to be packed, not only compared.
    """
    return rows <= (_FEW_LEARNING_ROWS if learns else _FEW_ROWS)


class RecurrentLayer(NamedTuple):
    """The form of one layer in one or two directions: everything but its weights."""

    function: str
    """The name that errors begin with."""
    mode: str
    input_size: int
    hidden_size: int
    proj_size: int
    bias: bool
    directions: int
    activation: Activation
    recurrent_activation: Activation = "sigmoid"
    reset_after: bool = True

    @property
    def spec(self) -> RecurrentSpec:
        """The layer as a `RecurrentSpec`, the description that all of treadle uses."""
        return RecurrentSpec(
            self.mode,
            self.input_size,
            self.hidden_size,
            self.proj_size,
            direction="bidirectional" if self.directions == 2 else "forward",
            bias=self.bias,
            activation=self.activation,
            recurrent_activation=self.recurrent_activation,
            reset_after=self.reset_after,
        )

    @property
    def form(self) -> tuple[Any, ...]:
        """The layer as the arguments of an operator, without the function's name and the size of x.

        An activation is one string there: its name and its parameters with spaces between.
        """
        gates = _spelled(self.recurrent_activation)
        return (*self[1:2], *self[3:7], _spelled(self.activation), gates, self.reset_after)

    @classmethod
    def of_form(cls, function: str, input_size: int, form: Sequence[Any]) -> RecurrentLayer:
        """Return the layer that has this `form`."""
        mode, hidden_size, proj_size, bias, directions, activation, gates, reset_after = form
        sizes = input_size, hidden_size, proj_size
        activations = _read(activation), _read(gates)
        return cls(function, mode, *sizes, bias, directions, *activations, reset_after)

    @property
    def has_to_pack(self) -> bool:
        """Tell whether no native layer of this form reads its weights where they lie."""
        return not self.reset_after

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the weights of one direction, in PyTorch's order."""
        return tuple(self.spec.shapes())

    def named(self, arrays: Sequence[Float]) -> list[dict[str, Float]]:
        """Name the arrays of each direction, given those of one direction after the other."""
        names, count = self.names, len(self.names)
        return [
            dict(zip(names, arrays[d * count : (d + 1) * count], strict=True))
            for d in range(self.directions)
        ]


def _spelled(activation: Activation) -> str:
    given = (activation or "linear",) if not isinstance(activation, tuple) else activation
    return " ".join(map(str, given))


def _read(spelled: str) -> Activation:
    name, *parameters = spelled.split(" ")
    values: Any = (name, *map(float, parameters))
    return values if parameters else name


_LAYERS = functools.lru_cache(maxsize=256)(RecurrentLayer)


def layer_of(*form: Any) -> RecurrentLayer:
    """Return the layer that has these fields: the same one in every call, but in a graph.

    To make one takes longer than a step of a small net. Dynamo cannot record a cache.
    """
    make: Any = RecurrentLayer if torch.compiler.is_compiling() else _LAYERS
    layer: RecurrentLayer = make(*form)
    return layer


class UnpackedLayer(NamedTuple):
    """A native layer that reads the arrays of its weights in every call.

    One that `RecurrentLayer.has_to_pack` has packed them, and stands for the arrays as they were.
    """

    layer: RecurrentLayer
    native: _core.RecurrentStack


class LayerWeights:
    """The weights of a layer as arrays that share the memory of its tensors."""

    __slots__ = ("__weakref__", "_unpacked", "arrays", "named")

    def __init__(self, layer: RecurrentLayer, tensors: Sequence[TensorLike]) -> None:
        self.arrays: list[Float] = [shared_array(t.contiguous()) for t in tensors]
        """The arrays of one direction after the other, in the order of `RecurrentLayer.names`."""
        self.named = layer.named(self.arrays)
        """The arrays of each direction by name."""
        self._unpacked: UnpackedLayer | None = None

    def unpacked(self, layer: RecurrentLayer) -> UnpackedLayer:
        """Return the native layer of this form that reads these arrays.

        A backward pass takes it, too, since it is handed the weights anew and reads no packed ones.
        """
        found = self._unpacked
        if found is None or found.layer != layer:
            packed = layer.has_to_pack
            native = layer.spec.pack(layer.function, self.named, packed=packed)
            found = self._unpacked = UnpackedLayer(layer, native)
        return found


class PackedLayer:
    """A native layer, and a copy of the weights that it was packed from.

    It takes the form and the memory for calls from the layer ``before``, if that has the same form.
    """

    __slots__ = ("__weakref__", "_values", "layer", "native")

    def __init__(
        self, layer: RecurrentLayer, weights: LayerWeights, before: PackedLayer | None = None
    ) -> None:
        # The copies are packed, not the weights: other threads run meanwhile, and one of them may
        # write to the weights and write the old values again before the next call compares them.
        named = [{name: array.copy() for name, array in own.items()} for own in weights.named]
        self._values = [array for own in named for array in own.values()]
        self.layer = layer
        self.native: _core.RecurrentStack = (
            before.native.renewed(named)
            if before is not None and before.layer == layer
            else layer.spec.pack(layer.function, named)
        )

    def has_packed(self, layer: RecurrentLayer, weights: LayerWeights) -> bool:
        """Tell whether the native layer has this form and the present bits of these weights."""
        return self.layer == layer and _core.same_bits(weights.arrays, self._values)


class WeightCache:
    """A cache of packed layers by keys that the caller chooses.

    With ``most``, the cache holds at most so many layers: the oldest makes room for a new one. It
    keeps copies of weights only, and no memory of a tensor.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._layers: dict[Hashable, PackedLayer] = {}

    def get(self, key: Hashable, layer: RecurrentLayer, weights: LayerWeights) -> PackedLayer:
        """Return the packed layer of a key; pack it anew unless it has exactly these weights."""
        packed = self._layers.get(key)
        if packed is None or not packed.has_packed(layer, weights):
            packed = self._layers[key] = PackedLayer(layer, weights, packed)
            if self._most is not None and len(self._layers) > self._most:
                # Another thread may make room at the same time. A list of all keys is made in one
                # step of Python, and a key that has gone meanwhile is no longer in the way.
                for oldest in list(self._layers)[: len(self._layers) - self._most]:
                    self._layers.pop(oldest, None)
        return packed


class StorageWeights:
    """The packed layers of weights that come without a module, as operators in a graph get them.

    They are kept as long as the storage of the layer's first weight, however many tensors share it,
    and let go with it.
    """

    def __init__(self) -> None:
        self._caches: weakref.WeakKeyDictionary[object, WeightCache] = weakref.WeakKeyDictionary()

    def get(
        self,
        layer: RecurrentLayer,
        tensors: Sequence[TensorLike],
        weights: LayerWeights,
        rows: int,
        learns: bool,
    ) -> NativeLayer:
        """Return the native layer of these tensors for a call, as `reads_weights` describes it."""
        if reads_weights(rows, learns) and not layer.has_to_pack:
            return weights.unpacked(layer)
        storage = tensors[0].untyped_storage()
        cache = self._caches.get(storage)
        if cache is None:
            # A storage may hold the weights of many layers, also of such as are no longer used. Of
            # threads that come first at the same time, one decides what all of them get.
            cache = self._caches.setdefault(storage, WeightCache(most=256))
        return cache.get((tensors[0].data_ptr(), layer), layer, weights)


class PlacedWeights(LayerWeights):
    """The weights of a layer, and the places of their tensors when this was made."""

    __slots__ = ("_places",)

    def __init__(self, layer: RecurrentLayer, tensors: tuple[TensorLike, ...]) -> None:
        super().__init__(layer, tensors)
        self._places = _core.Places(tensors)

    def lie_in(self, tensors: tuple[TensorLike, ...]) -> bool:
        """Tell whether the arrays still have the memory of these tensors; if not, it may be freed.

        An assignment to ``.data`` gives a tensor other memory, another shape or dtype. A storage
        that is resized (fully_shard frees it between calls) lies elsewhere, or nowhere, or in fewer
        bytes at the same address.
        """
        return self._places.hold(tensors)


class ModuleWeights:
    """The packed layers of one module, and the memory of their weights, by the layer's number."""

    def __init__(self) -> None:
        self._cache = WeightCache()
        self._placed: dict[int, PlacedWeights] = {}

    def find(self, index: int, tensors: tuple[TensorLike, ...]) -> PlacedWeights | None:
        """Return the weights of a layer if its tensors lie where they did in the call before.

        The tensors are then float32 and on the CPU, since the arrays were made from such tensors.
        """
        placed = self._placed.get(index)
        return placed if placed is not None and placed.lie_in(tensors) else None

    def place(
        self, index: int, layer: RecurrentLayer, tensors: tuple[TensorLike, ...]
    ) -> PlacedWeights:
        """Make and remember the weights of a layer for which `find` has returned None."""
        placed = self._placed[index] = PlacedWeights(layer, tensors)
        return placed

    def get(
        self, index: int, layer: RecurrentLayer, weights: LayerWeights, rows: int
    ) -> NativeLayer:
        """Return the native layer of a number for a call of so many rows, those of all steps."""
        if reads_weights(rows, torch.is_grad_enabled()) and not layer.has_to_pack:
            return weights.unpacked(layer)
        return self._cache.get(index, layer, weights)


_MODULES: weakref.WeakKeyDictionary[torch.nn.Module, ModuleWeights] = weakref.WeakKeyDictionary()


def weights_of(module: torch.nn.Module) -> ModuleWeights:
    """Return the weights kept beside a module, which its copies and pickles do not contain."""
    found = _MODULES.get(module)
    # Where threads come first at the same time, one decides what all of them get.
    return _MODULES.setdefault(module, ModuleWeights()) if found is None else found
