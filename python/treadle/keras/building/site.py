"""This module defines `Site`: one call of a layer, and the operations that its meaning is written
in.

The functions of the files ``build_*.py`` take a site and return the tensors that the call makes.
They write nodes by the methods of this class, which keep count of dtypes and shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._storage.json import short
from treadle.keras.building.builder import BATCH, MOST_RANK, Builder, Shape, Size, Tensor, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle._inputs.types import AnyArray
    from treadle.keras.files.description import Layer


_LARGEST = 2**63 - 1


class Site:
    """A Site is one call of a layer.

    Attributes
    ----------
    builder : Builder
        The graph in the making.
    layer : Layer
        The layer with its options and weights.
    args, kwargs : list and dict
        The arguments of the call: Tensors, constants, and lists and dicts of these.
    path : str
        The layer's name behind those of the models and layers around it.
    """

    def __init__(
        self, builder: Builder, layer: Layer, args: list[Any], kwargs: dict[str, Any], path: str
    ) -> None:
        self.builder, self.layer = builder, layer
        self.args, self.kwargs, self.path = args, kwargs, path

    def error(self, problem: str) -> ValueError:
        """Return an error that names the function, the file and the layer."""
        return ValueError(
            f"{self.builder.where}: layer {short(self.path)} ({self.layer.kind}) {problem}"
        )

    # -- what the layer says ----------------------------------------------------------------------

    def option(self, name: str) -> Any:
        """Return an option of the layer. Raises ValueError where the description lacks it."""
        if name not in self.layer.config:
            raise self.error(f"lacks the option {name}")
        return self.layer.config[name]

    def weight(self, name: str) -> AnyArray:
        """Return a weight of the layer. Raises ValueError where there is none of this name."""
        array = self.layer.weights.get(name)
        if array is None:
            raise self.error(f"lacks the weight {name}")
        return array

    def constant(self, name: str, made: AnyArray | None = None, label: str = "") -> Tensor:
        """Return a weight as a constant, or what is ``made`` of it."""
        return self.builder.weight(self.weight(name), f"{self.path}/{label or name}", made)

    @property
    def x(self) -> Tensor:
        """The only tensor that the layer is called with."""
        first = self.args[0] if self.args else None
        if isinstance(first, list | tuple) and len(first) == 1:
            first = first[0]
        if not isinstance(first, Tensor):
            raise self.error(f"is called with {_kind(first)}, expected one tensor")
        return first

    @property
    def xs(self) -> list[Tensor]:
        """The list of tensors that the layer is called with."""
        first = self.args[0] if self.args else None
        if not isinstance(first, list | tuple) or not all(isinstance(t, Tensor) for t in first):
            raise self.error(f"is called with {_kind(first)}, expected a list of tensors")
        return list(first)

    def inner(self, part: Layer, args: list[Any], **kwargs: Any) -> Site:
        """Return the site of a layer within this one."""
        path = f"{self.path}/{part.name}"
        return Site(self.builder, part, args, kwargs, path)

    # -- nodes ------------------------------------------------------------------------------------

    def emit(
        self,
        op: str,
        inputs: Sequence[Tensor | None],
        shape: Sequence[Size],
        dtype: str = "float32",
        **attributes: Any,
    ) -> Tensor:
        """Add a node of one output of this shape and dtype; return the output."""
        if len(shape) > MOST_RANK:
            raise self.error(f"makes a tensor of {len(shape)} axes, expected at most {MOST_RANK}")
        if any(isinstance(size, int) and size >= _LARGEST for size in shape):
            raise self.error(f"makes a tensor of {text(shape)}, which is too large")
        name = self.builder.name(f"{self.path}/{op}")
        self.builder.node(op, inputs, [name], attributes, self.path)
        return Tensor(name, dtype, tuple(shape))

    def integers(self, numbers: Sequence[int], label: str) -> Tensor:
        """Return a constant of int64."""
        if any(abs(number) > _LARGEST for number in numbers):
            raise self.error(f"has {label} that are too large: {short(list(numbers))}")
        return self.builder.constant(np.array(numbers, np.int64), f"{self.path}/{label}")

    def number(self, value: float, dtype: str = "float32") -> Tensor:
        """Return a constant of one number."""
        return self.builder.constant(np.array(value, dtype), f"{self.path}/number")

    def unary(self, op: str, x: Tensor, dtype: str = "", **attributes: Any) -> Tensor:
        """Apply an operator to each element."""
        return self.emit(op, [x], x.shape, dtype or x.dtype, **attributes)

    def binary(self, op: str, a: Tensor, b: Tensor, dtype: str = "") -> Tensor:
        """Apply an operator to each pair of elements of tensors that broadcast."""
        return self.emit(op, [a, b], self.broadcast(a.shape, b.shape), dtype or a.dtype)

    def scaled(self, x: Tensor, factor: float) -> Tensor:
        """Multiply a tensor by a number."""
        return x if factor == 1 else self.binary("Mul", x, self.number(factor))

    def where(self, condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
        """Choose among the elements of two tensors."""
        shape = self.broadcast(condition.shape, self.broadcast(yes.shape, no.shape))
        return self.emit("Where", [condition, yes, no], shape, yes.dtype)

    def broadcast(self, a: Shape, b: Shape) -> Shape:
        """Return the shape that two shapes have together. Raises ValueError where they have none.

        A size that calls choose is taken to be that of the other one, as in Keras.
        """
        if len(a) < len(b):
            a, b = b, a
        result = list(a)
        for i in range(1, len(b) + 1):
            one, two = a[-i], b[-i]
            if one == 1 or (isinstance(one, str) and isinstance(two, int) and two != 1):
                result[-i] = two
            elif isinstance(one, int) and isinstance(two, int) and two not in (1, one):
                raise self.error(f"puts together tensors of the shapes {text(a)} and {text(b)}")
        return tuple(result)

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        """Convert a tensor to another dtype."""
        numbers = {"float32": 1, "int32": 6, "int64": 7, "bool": 9}
        if x.dtype == dtype:
            return x
        return self.emit("Cast", [x], x.shape, dtype, to=numbers[dtype]).masked(x.mask)

    def floats(self, x: Tensor) -> Tensor:
        """Convert a tensor to float32, in which all layers compute."""
        return self.cast(x, "float32")

    def axis(self, axis: int, rank: int, name: str = "axis") -> int:
        """Return an axis counted from the first. Raises ValueError for one that is not there."""
        if not -rank <= axis < rank:
            raise self.error(f"has the {name} {axis}, expected one of a tensor of {rank} axes")
        return axis % rank

    def transpose(self, x: Tensor, order: Sequence[int]) -> Tensor:
        """Put the axes into another order."""
        if list(order) == list(range(x.rank)):
            return x
        shape = [x.shape[axis] for axis in order]
        return self.emit("Transpose", [x], shape, x.dtype, perm=list(order))

    def unsqueeze(self, x: Tensor, *axes: int) -> Tensor:
        """Add axes of size 1 at these places of the result."""
        rank = x.rank + len(axes)
        places = sorted(axis % rank for axis in axes)
        shape = list(x.shape)
        for place in places:
            shape.insert(place, 1)
        return self.emit("Unsqueeze", [x, self.integers(places, "axes")], shape, x.dtype)

    def squeeze(self, x: Tensor, *axes: int) -> Tensor:
        """Take axes of size 1 away."""
        places = sorted(axis % x.rank for axis in axes)
        shape = [size for i, size in enumerate(x.shape) if i not in places]
        return self.emit("Squeeze", [x, self.integers(places, "axes")], shape, x.dtype)

    def slice(
        self, x: Tensor, axis: int, begin: int, end: int | None = None, step: int = 1
    ) -> Tensor:
        """Take every ``step``-th element of an axis from ``begin`` to before ``end``."""
        axis %= x.rank
        size = x.shape[axis]
        until = (-_LARGEST if step < 0 else _LARGEST) if end is None else end
        if isinstance(size, int):
            length: Size = len(range(size)[begin:end:step])
            if not length:
                raise self.error(f"takes nothing of axis {axis} of a tensor of {text(x.shape)}")
        elif end is None and abs(step) == 1 and begin in ((-1, 0)[step > 0],):
            length = size
        else:
            length = self.builder.symbol(size)
        parts = ((begin, "begin"), (until, "end"), (axis, "axis"), (step, "step"))
        reads = [x, *(self.integers([number], label) for number, label in parts)]
        shape = [*x.shape[:axis], length, *x.shape[axis + 1 :]]
        return self.emit("Slice", reads, shape, x.dtype)

    def flip(self, x: Tensor, axis: int) -> Tensor:
        """Turn an axis round."""
        return self.slice(x, axis, -1, None, -1)

    def pick(self, x: Tensor, axis: int, index: int) -> Tensor:
        """Take one element of an axis, which goes."""
        axis %= x.rank
        size = x.shape[axis]
        if isinstance(size, int) and not -size <= index < size:
            raise self.error(f"takes element {index} of axis {axis} of {text(x.shape)}")
        place = self.builder.constant(np.array(index, np.int64), f"{self.path}/index")
        shape = [*x.shape[:axis], *x.shape[axis + 1 :]]
        return self.emit("Gather", [x, place], shape, x.dtype, axis=axis)

    def concat(self, xs: Sequence[Tensor], axis: int) -> Tensor:
        """Put tensors one behind the other along an axis."""
        axis %= xs[0].rank
        if len(xs) == 1:
            return xs[0]
        sizes = [x.shape[axis] for x in xs]
        total: Size = sum(s for s in sizes if isinstance(s, int))
        free = [size for size in sizes if isinstance(size, str)]
        if free:
            total = self.builder.symbol(free[0])
        shape = list(xs[0].shape)
        for x in xs[1:]:
            if x.rank != len(shape):
                raise self.error(f"joins tensors of {len(shape)} and of {x.rank} axes")
            for i, size in enumerate(x.shape):
                if i != axis and isinstance(size, int):
                    if shape[i] != size and isinstance(shape[i], int):
                        raise self.error(
                            f"joins {text(xs[0].shape)} and {text(x.shape)} along axis {axis}"
                        )
                    shape[i] = size
        shape[axis] = total
        return self.emit("Concat", list(xs), shape, xs[0].dtype, axis=axis)

    def reduce(self, op: str, x: Tensor, axes: Sequence[int], *, keep: bool = False) -> Tensor:
        """Reduce axes by an operator such as ReduceSum."""
        places = sorted(axis % x.rank for axis in axes)
        shape: list[Size] = []
        for i, size in enumerate(x.shape):
            if i not in places:
                shape.append(size)
            elif keep:
                shape.append(1)
        return self.emit(op, [x, self.integers(places, "axes")], shape, x.dtype, keepdims=int(keep))

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Multiply matrices; axes before the last two broadcast."""
        summed = a.shape[-1], b.shape[-2]
        if all(isinstance(size, int) for size in summed) and summed[0] != summed[1]:
            raise self.error(f"multiplies {text(a.shape)} by {text(b.shape)}")
        outer = self.broadcast(a.shape[:-2], b.shape[:-2])
        return self.emit("MatMul", [a, b], [*outer, a.shape[-2], b.shape[-1]])

    def linear(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, activation: dict[str, Any]
    ) -> Tensor:
        """Multiply the last axis by the rows of weight [N, K]; activation is the node's own."""
        if x.shape[-1] != weight.shape[1]:
            raise self.error(
                f"takes {weight.shape[1]} features, and is called with a tensor of {text(x.shape)}"
            )
        shape = [*x.shape[:-1], weight.shape[0]]
        return self.emit("treadle.Linear", [x, weight, bias], shape, **activation)

    # -- shapes -----------------------------------------------------------------------------------

    def sizes_of(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """Return the sizes of these axes as a call finds them: int64 [N]."""
        sizes = self.emit("Shape", [x], [x.rank], "int64")
        places = self.integers(list(axes), "places")
        return self.emit("Gather", [sizes, places], [len(axes)], "int64", axis=0)

    def reshape(self, x: Tensor, shape: Sequence[Size]) -> Tensor:
        """Give a tensor another shape of as many elements.

        A size that a call chooses may stay at its place, and one may move or be made of others.
        """
        if tuple(shape) == x.shape:
            return x
        target: list[int] = []
        for i, size in enumerate(shape):
            stays = i < x.rank and x.shape[i] == size and x.shape[:i] == tuple(shape[:i])
            target.append(size if isinstance(size, int) else 0 if stays else -1)
        if target.count(-1) > 1:
            return self._reshape_by_sizes(x, shape)
        return self.emit("Reshape", [x, self.integers(target, "shape")], shape, x.dtype)

    def _reshape_by_sizes(self, x: Tensor, shape: Sequence[Size]) -> Tensor:
        """Give a tensor another shape, with sizes that are looked up when it is called."""
        parts: list[Tensor] = []
        unknown = 0
        for size in shape:
            if isinstance(size, int):
                parts.append(self.integers([size], "size"))
            elif size in x.shape:
                parts.append(self.sizes_of(x, [x.shape.index(size)]))
            else:
                unknown += 1
                parts.append(self.integers([-1], "size"))
        if unknown > 1:
            raise self.error(f"turns {text(x.shape)} into {text(shape)}, which is not known to fit")
        target = self.concat(parts, 0)
        return self.emit("Reshape", [x, target], shape, x.dtype)


def number_of(shape: Sequence[Size]) -> int | None:
    """Return the number of elements but for the batch, or None where a call chooses it."""
    product = 1
    for size in shape:
        if size == BATCH:
            continue
        if not isinstance(size, int):
            return None
        product *= size
    return product


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {text(value.shape)}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return short(value)
