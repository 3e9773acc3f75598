"""This module says which layers an encoder and a decoder consist of, and runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.arrays import contiguous
from treadle.layers.activation_layers import ActivationLayer
from treadle.layers.adaptive_pooling import AdaptiveAvgPool2d, AdaptiveMaxPool2d
from treadle.layers.batch_norm import BatchNorm2d
from treadle.layers.cells import Cell
from treadle.layers.conv import Conv2d
from treadle.layers.conv_transpose import ConvTranspose2d
from treadle.layers.elementwise import Identity, LogSoftmax, Softmax
from treadle.layers.embedding import Embedding
from treadle.layers.group_norm import GroupNorm
from treadle.layers.instance_norm import InstanceNorm2d
from treadle.layers.linear import Linear
from treadle.layers.norm import LayerNorm
from treadle.layers.padding import ZeroPad2d
from treadle.layers.pooling import AvgPool2d, MaxPool2d
from treadle.layers.recurrent_base import RecurrentBase
from treadle.layers.recurrent_stack import Recurrent
from treadle.layers.resizing import Upsample
from treadle.layers.sequential import Sequential

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle._inputs.types import ArrayLike, Float, Int
    from treadle.layers.module import Module
    from treadle.seq2seq.state import State

# Layers that work on the numbers of one position alone and keep how many there are.
_POINTWISE = (ActivationLayer, Identity, LayerNorm, Softmax, LogSoftmax)
# Layers of images that keep the number of channels.
_IMAGES = (
    *(MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, AdaptiveMaxPool2d, ZeroPad2d, Upsample),
    *(BatchNorm2d, GroupNorm, InstanceNorm2d),
)


def flat(module: Module, inside: str = "") -> list[tuple[str, Module]]:
    """Return the layers of a sequence and of the sequences in it, with names such as "1.0"."""
    if not isinstance(module, Sequential):
        return [(inside, module)]
    return [
        found
        for name, child in module._children
        for found in flat(child, f"{inside}.{name}" if inside else name)
    ]


def output_size(modules: Sequence[Module]) -> int | None:
    """Return the numbers of a position, or the channels, that layers return, or None if their last
    layers do not tell.
    """
    for module in reversed(modules):
        if isinstance(module, RecurrentBase):
            return module._spec.directions * module._spec.state_size
        if isinstance(module, Linear):
            return _entry(module, "out_features")
        if isinstance(module, Conv2d | ConvTranspose2d):
            return _entry(module, "out_channels")
        if isinstance(module, Embedding):
            return _entry(module, "embedding_dim")
        if not isinstance(module, _POINTWISE + _IMAGES):
            return None
    return None


def input_size(modules: Sequence[Module]) -> int | None:
    """Return the numbers that layers take, or None if their first layers do not tell."""
    for module in modules:
        if isinstance(module, Linear):
            return _entry(module, "in_features")
        if not isinstance(module, ActivationLayer | Identity):
            return None
    return None


def _entry(module: Module, name: str) -> int:
    value: int = module._configuration[name]
    return value


class EncoderLayers:
    """The layers of an encoder, which is a sequence or a recurrent layer."""

    def __init__(self, function: str, encoder: Module) -> None:
        self.function = function
        self.modules = [child for _, child in flat(encoder)]
        self.last: Recurrent | None = None
        self._steps: list[tuple[str, Module]] = []
        self._mixes: str | None = None  # a layer that lets padding into other positions
        pending: list[Module] = []
        for name, child in flat(encoder):
            if isinstance(child, Cell):
                raise TypeError(
                    f"{function}: encoder: {name} is a {child._name}, expected a recurrent layer, "
                    "which reads whole sequences"
                )
            if isinstance(child, Recurrent):
                check_batch_first(function, f"encoder: {name}" if name else "encoder", child)
                if pending:
                    self._steps.append((f"before {name}", Sequential(*pending)))
                    pending = []
                self._steps.append((name, child))
                self.last = child
                continue
            pending.append(child)
            if not isinstance(child, (*_POINTWISE, Linear, Embedding)):
                self._mixes = self._mixes or child._name
        if pending:
            self._steps.append(("its last layers", Sequential(*pending)))

    def run(self, x: Any, lengths: Int | None) -> tuple[Float, Any]:
        """Return what the encoder has read, and the final state of its last recurrent layer."""
        if lengths is not None and self._mixes is not None:
            raise ValueError(
                f"{self.function}: lengths are given and the encoder has a {self._mixes}, which "
                "reads other positions and so the padding, expected layers of single positions "
                "and recurrent layers, or no lengths"
            )
        state = None
        for name, step in self._steps:
            call: Any = step
            try:
                if isinstance(step, Recurrent):
                    x, state = call(x, lengths=lengths)
                else:
                    x = call(x)
            except (TypeError, ValueError) as error:
                where = f"{self.function}: encoder: {name}" if name else f"{self.function}: encoder"
                raise type(error)(f"{where}: {error}") from error
        return positions(x), state


def positions(features: Float) -> Float:
    """Return the features of images [B, C, H, W] as those of positions [B, H W, C]; other features
    stay as they are.
    """
    if features.ndim != 4:
        return features
    rows, channels, height, width = features.shape
    return contiguous(features.reshape(rows, channels, height * width).transpose(0, 2, 1))


class DecoderLayers:
    """The layers of a decoder: an embedding, one recurrent layer or cell, and output layers."""

    def __init__(self, function: str, decoder: Sequential) -> None:
        self.function = function
        layers = flat(decoder)
        modules = [child for _, child in layers]
        if not modules or not isinstance(modules[0], Embedding):
            found = f"begins with a {modules[0]._name}" if modules else "has no layers"
            raise TypeError(
                f"{function}: decoder {found}, expected a treadle.Embedding of its tokens first"
            )
        places = [i for i, child in enumerate(modules) if isinstance(child, RecurrentBase)]
        if len(places) != 1:
            raise TypeError(
                f"{function}: decoder has {len(places)} recurrent layers or cells, expected one "
                "(num_layers stacks several)"
            )
        at = places[0]
        name, recurrent = layers[at]
        assert isinstance(recurrent, RecurrentBase)
        direction = recurrent._spec.direction
        if direction != "forward":
            raise ValueError(
                f"{function}: decoder: {name} has {direction}=True, expected False, since a "
                "decoder does not know the future"
            )
        if isinstance(recurrent, Recurrent):
            check_batch_first(function, f"decoder: {name}", recurrent)
        self.recurrent, self.name = recurrent, name
        self.tokens = _entry(modules[0], "num_embeddings")
        self.before, self.after = modules[:at], modules[at + 1 :]
        self._before, self._after = Sequential(*self.before), Sequential(*self.after)

    def embedded(self, tokens: ArrayLike) -> Float:
        """Return what the recurrent layer takes of tokens [B, T]."""
        found: Float = self._named("its first layers", self._before, tokens)
        return found

    def logits(self, features: Float) -> Float:
        """Return what the output layers say of the features [B, T, ...] of each step."""
        found: Float = self._named("its output layers", self._after, features)
        return found

    def recur(self, x: Float, state: State) -> tuple[Float, State]:
        """Return the outputs [B, T, H] of the next steps and the state behind them."""
        call: Any = self.recurrent
        given: Any = state if len(state) > 1 else state[0]
        if isinstance(self.recurrent, Recurrent):
            outputs, given = self._named(self.name, call, x, given)
        else:
            outputs = np.empty((*x.shape[:2], self.recurrent._spec.state_size), np.float32)
            for step in range(x.shape[1]):
                given = self._named(self.name, call, x[:, step], given)
                outputs[:, step] = given[0] if isinstance(given, tuple) else given
        return outputs, given if isinstance(given, tuple) else (given,)

    def _named(self, name: str, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self.function}: decoder: {name}: {error}") from error


def check_batch_first(function: str, name: str, module: Recurrent) -> None:
    """Raise ValueError for a layer whose arrays begin with time."""
    if not module._configuration["batch_first"]:
        raise ValueError(
            f"{function}: {name} has batch_first=False, expected True: x is [B, S, I] and tokens "
            "are [B, T]"
        )
