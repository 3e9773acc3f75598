"""Sequential: layers one after the other, as one module."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, overload

from treadle._inputs import checks
from treadle._inputs.arrays import to_float32
from treadle._public import published
from treadle.layers.activation_layers import ActivationLayer
from treadle.layers.build import configuration
from treadle.layers.composite import (
    Composite,
    checked_child,
    described_child,
    retyped_child,
)
from treadle.layers.configuration import Entry
from treadle.layers.elementwise import Identity
from treadle.layers.linear import Product
from treadle.layers.module import LAYERS, Module, known_layers, layer
from treadle.layers.pooled_sequence import PooledSequence
from treadle.layers.recurrent_base import RecurrentBase
from treadle.layers.sequence_stream import SequenceRunner, SequenceStream, flattened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Self

    from treadle._inputs.types import ArrayLike, Float
    from treadle.layers.composite import Children
    from treadle.layers.configuration import Entries
    from treadle.layers.linear import Epilogue

_MOST_NESTED = 32
_NESTED = f"at most {_MOST_NESTED} sequences within each other"


class _Modules(Entry):
    """Modules with their names: objects, or, in files, [name, class, configuration]."""

    __slots__ = ()

    def _checked(self, function: str, name: str, value: Any) -> Children:
        if not isinstance(value, list | tuple):
            raise TypeError(f"{function}: {name} is {checks.shown(value)}, expected modules")
        items = list(value)
        if len(items) == 1 and isinstance(items[0], Mapping):
            items = list(items[0].items())
        if len(items) > checks.MAX_LAYERS:
            raise ValueError(
                f"{function}: {name} has {len(items)} items, expected at most {checks.MAX_LAYERS}"
            )
        _check_depth(function, name, items)
        children = tuple(_child(function, i, item) for i, item in enumerate(items))
        seen: set[str] = set()
        for own, _ in children:
            if own in seen:
                raise ValueError(f"{function}: {name} has the name {own!r} twice, expected it once")
            seen.add(own)
        return children

    def recorded(self, value: Children) -> list[list[Any]]:
        return [[name, child._name, configuration(child)] for name, child in value]

    def written(self, value: Children) -> str:
        if all(name == str(i) for i, (name, _) in enumerate(value)):
            return ", ".join(repr(child) for _, child in value)
        return f"{{{', '.join(f'{name!r}: {child!r}' for name, child in value)}}}"

    def retyped(self, value: Children, dtype: Any) -> Children:
        dtypes = [dtype] * len(value) if isinstance(dtype, str) else dtype
        return tuple(
            (name, retyped_child(child, one))
            for (name, child), one in zip(value, dtypes, strict=True)
        )


def _check_depth(function: str, name: str, items: list[Any]) -> None:
    """Raise ValueError for lists and objects that are nested too deeply to be read by recursion."""
    level: list[Any] = items
    for _ in range(4 * _MOST_NESTED + 8):  # a sequence in a file adds four levels
        inner: list[Any] = []
        for item in level:
            if isinstance(item, list | tuple):
                inner += item
            elif isinstance(item, Mapping):
                inner += item.values()
        if not inner:
            return
        level = inner
    raise ValueError(f"{function}: {name} are nested too deeply, expected {_NESTED}")


def _child(function: str, number: int, item: Any) -> tuple[str, Module]:
    """Return the name of a module and the module."""
    where = f"{function}: module {number}"
    name, module = str(number), item
    if isinstance(item, list | tuple) and len(item) in (2, 3):
        name, module = item[0], item[1]
        if not isinstance(name, str) or not name or "." in name or len(name) > 200:
            raise ValueError(
                f"{where} has the name {checks.shown(name)}, "
                "expected a text without dots, of 1 to 200 characters"
            )
        where = f"{function}: {name}"
        if len(item) == 3:
            names = ", ".join(known_layers())
            module = described_child(where, module, item[2], Module, f"one of {names}")
    module = checked_child(where, module, Module, "a module of treadle")
    if module._takes:
        raise TypeError(
            f"{where} is a {module._name}, which takes {module._takes}, "
            "expected a module of one argument, such as a TransformerEncoderLayer"
        )
    return name, module


@published("treadle")
@layer
class Sequential(Composite):
    """``torch.nn.Sequential``: each module takes what the one before it returns.

    The modules are given one by one, and then have the names "0", "1", ..., or as a dict by name.
    A recurrent layer or cell hands on its output y (a cell h), without its final state, also when
    it is the last: ``Sequential(LSTM(...), Linear(...))`` classifies every step. An activation
    after a linear layer or a convolution is applied to its product while that is in registers; the
    result is the same.

    The modules are the objects that were given, not copies: weights that are loaded into one of
    them are those of the sequence, and the other way round. They are found by number, name or
    attribute (``m[0]``, ``m["conv"]``, ``m.conv``); a slice is a sequence of the same modules.
    Parameters have PyTorch's names, "0.weight". Copies, pickles and files hold everything.

    Raises
    ------
    TypeError, ValueError
        For something that is no module of treadle, or takes more than one argument, and for names
        that occur twice or have dots. A call raises what its modules raise, with their names.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> model = treadle.Sequential(
    ...     treadle.Conv1d(40, 64, 3, padding=1, seed=0),
    ...     treadle.ReLU(),
    ...     treadle.Transpose(1, 2),
    ...     treadle.GRU(64, 32, batch_first=True, seed=0),
    ...     treadle.Linear(32, 10, seed=0),
    ... )
    >>> model(np.zeros((8, 40, 100), np.float32)).shape
    (8, 100, 10)
    >>> model.to("bfloat16")[-1]
    Linear(32, 10, dtype='bfloat16')
    """

    _depth: int
    _plan: list[tuple[str, Callable[[Any], Any]]]
    _derived = Composite._derived | {"_depth", "_plan"}
    _entries: ClassVar[Entries] = {"modules": _Modules()}

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        self._configure({"modules": modules})

    @property
    def _children(self) -> Children:
        children: Children = self._configuration["modules"]
        return children

    def _check_configuration(self) -> None:
        depths = [c._depth for _, c in self._children if isinstance(c, Sequential)]
        self.__dict__["_depth"] = 1 + max(depths, default=0)
        if self._depth > _MOST_NESTED:
            raise ValueError(f"{self._function}: modules are nested too deeply, expected {_NESTED}")
        super()._check_configuration()
        plan = list(_planned(self._children))
        self.__dict__["_plan"] = plan or [("x", partial(to_float32, self._function, "x"))]

    # -- calls ------------------------------------------------------------------------------------

    def __call__(self, x: ArrayLike) -> Float:
        """Return what the last module returns. ``x`` is what the first one takes: float32, or ids
        where that is an `Embedding`.

        Raises TypeError or ValueError as the modules do, with the name of the one that refuses.
        """
        for name, step in self._plan:
            try:
                x = step(x)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{self._function}: {name}: {error}") from error
        result: Float = x
        return result

    def stream(self, batch_size: int = 1) -> SequenceStream:
        """Make a `SequenceStream` with a state of ``batch_size`` rows. Raises ValueError for a
        layer that needs the future, and for one that is not known to work on each frame alone.
        """
        return SequenceStream(self._runner(f"{self._function}.stream"), batch_size)

    def _pooled(self, function: str) -> PooledSequence:
        return PooledSequence(function, self, self._runner(function))

    def _runner(self, function: str) -> SequenceRunner:
        children = flattened(self._children)
        return SequenceRunner(function, children, list(_planned(children)))

    # -- the modules ------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[Module]:
        return iter([child for _, child in self._children])

    @overload
    def __getitem__(self, key: int | str) -> Module: ...
    @overload
    def __getitem__(self, key: slice) -> Sequential: ...
    def __getitem__(self, key: Any) -> Module:
        """Return a module by its number or name, or a sequence of several by a slice."""
        if isinstance(key, str):
            return dict(self._children)[key]
        if isinstance(key, slice):
            return Sequential(dict(self._children[key]))
        module: Module = self._children[key][1]
        return module

    def __copy__(self) -> Self:
        other = type(self).__new__(type(self))
        state = self.__getstate__()
        children = tuple((name, copy.copy(child)) for name, child in self._children)
        other.__setstate__(state | {"modules": children})
        return other

    def __getstate__(self) -> dict[str, Any]:
        own = {k: v for k, v in self.__dict__.items() if k not in self._derived}
        return {"modules": self._children, "attributes": own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._configure({"modules": state["modules"]})
        self.__dict__.update(state["attributes"])


def _planned(children: Iterable[tuple[str, Module]]) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Yield the calls of a sequence with the names of their modules."""
    pending = [(name, child) for name, child in children if type(child) is not Identity]
    while pending:
        name, child = pending.pop(0)
        then = _epilogue(child, pending[0][1]) if pending else None
        if then is not None and isinstance(child, Product):
            pending.pop(0)
            yield name, partial(child._run, then=then)
        elif isinstance(child, RecurrentBase):
            yield name, partial(_output, child)
        else:
            yield name, partial(_called, child)


def _epilogue(product: Module, after: Module) -> Epilogue:
    """Return the activation of a module that a product before it can apply with the same bits, or
    None.
    """
    if not isinstance(product, Product) or not isinstance(after, ActivationLayer):
        return None
    known = all(LAYERS.get(type(one).__name__) is type(one) for one in (product, after))
    if not known or product._epilogue is not None:  # classes of users may call in their own way
        return None
    # In low precision a product computes its own gelu in fewer digits.
    exact = product._dtype == "float32" or after._epilogue != ("gelu", 0.0, 0.0)
    return after._epilogue if exact else None


def _called(module: Any, x: ArrayLike) -> Any:
    """Return what a module returns for x; classes of users may call in their own way."""
    return module(x)


def _output(net: Any, x: ArrayLike) -> Any:
    """Return the output of a recurrent net without its state."""
    result = net(x)
    return result[0] if isinstance(result, tuple) else result
