"""This module builds a layer from its class, configuration and parameters, and takes it apart.

Files, the conversion of state dicts, guests and the command line use these functions and nothing
else of a layer that is not public. A layer without parameters is a *blueprint*: it knows names,
shapes and dtypes, which is enough to compare a file with before memory is allocated, and `fill`
makes it a layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from treadle._inputs import checks, foreign
from treadle._inputs.arrays import to_weight
from treadle._storage import formats

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from treadle._inputs.types import AnyArray, ArrayLike
    from treadle._storage.formats import Stored
    from treadle.layers.module import Module

    Shapes = dict[str, tuple[int, ...]]

_M = TypeVar("_M", bound="Module")


class PackedParameters:
    """Parameters and their packed form; new weights replace the whole, which never changes."""

    __slots__ = ("_fingerprint", "native", "parameters")

    def __init__(self, parameters: dict[str, Stored], native: Any) -> None:
        self.parameters: dict[str, Any] = parameters
        self.native = native
        self._fingerprint: str | None = None

    def fingerprint(self, configuration: Mapping[str, Any]) -> str:
        """SHA-256 over everything that decides what a state means; computed once."""
        if self._fingerprint is None:
            import hashlib

            meaning = {k: v for k, v in configuration.items() if k != "batch_first"}
            digest = hashlib.sha256(repr(sorted(meaning.items())).encode())
            for name, value in self.parameters.items():
                for part, array in formats.arrays(name, value).items():
                    digest.update(part.encode())
                    digest.update(array.data)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint


class Count(NamedTuple):
    """The number of parameter arrays of a layer, and of their elements."""

    arrays: int
    elements: int


# -- construction ---------------------------------------------------------------------------------


def blueprint(cls: type[_M], configuration: Mapping[str, Any]) -> _M:
    """Check a configuration and return a layer with it that has no parameters yet."""
    module = cls.__new__(cls)
    module._configure(configuration)
    return module


def fill(module: Module, parameters: dict[str, Stored]) -> None:
    """Give a layer parameters that are stored as its `layout` says; the arrays become its own."""
    packed = module._packings(parameters)
    for value in parameters.values():
        formats.freeze(value)
    for one, new in packed:
        one.__dict__["_packed"] = new


def build(
    cls: type[_M],
    configuration: Mapping[str, Any],
    find: Callable[[str], ArrayLike],
    function: str,
) -> _M:
    """Build a layer from a configuration and copies of the arrays that ``find`` returns by name.

    Raises ValueError for a wrong shape and TypeError for a wrong dtype, in the name of
    ``function``.
    """
    module = blueprint(cls, configuration)
    shapes = module._shapes()
    fill(module, {n: stored(module, function, n, find(n), s) for n, s in shapes.items()})
    return module


def retyped(module: _M, dtype: Any) -> _M:
    """Return the blueprint of the same layer with its products in another dtype, or, for a module
    with parts, in several.
    """
    return blueprint(type(module), module._schema.retyped(module._configuration, dtype))


def draw(module: Module, seed: Any) -> dict[str, Stored]:
    """Draw uniform random parameters for a blueprint, each in float32, and store them."""
    function = module._function
    try:
        generator = np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{function}: seed is {checks.shown(seed)}, expected None or an integer >= 0"
        ) from error
    forms = {
        name: (shape, module._stored_as(name, shape), module._groups(name))
        for name, shape in module._shapes().items()
    }
    size = sum(formats.nbytes(*form) for form in forms.values())
    drawn: dict[str, Stored] = {}
    try:
        # Sizes beyond memory fail here at once, and not when most of the memory is taken.
        np.empty(size, np.uint8)
        for name, form in forms.items():
            drawn[name] = _uniform(generator, form, *module._initial(name, form[0]))
    except MemoryError:
        raise MemoryError(
            f"{function}: the sizes ask for {size} bytes of parameters, "
            "expected sizes that fit in memory"
        ) from None
    return drawn


def _uniform(
    generator: np.random.Generator,
    form: tuple[tuple[int, ...], str, int],
    middle: float,
    reach: float,
) -> Stored:
    shape, dtype, groups = form
    values = generator.random(shape, dtype=np.float32)
    values *= 2 * np.float32(reach)
    values -= np.float32(reach) - np.float32(middle)
    return values if dtype == "float32" else formats.encode(values, dtype, groups=groups)


# -- configurations -------------------------------------------------------------------------------


def arguments(cls: type[Module]) -> list[str]:
    """Return the names of a class's configuration entries: its constructor's arguments."""
    return list(cls._schema.entries)


def configuration(module: Module) -> dict[str, Any]:
    """Return the configuration of a layer as files, pickles and fingerprints have it."""
    return module._schema.recorded(module._configuration)


# -- parameters -----------------------------------------------------------------------------------


def parameters(module: Module) -> dict[str, Any]:
    """Return the parameters of a layer as they are stored: read-only."""
    return dict(module._packed.parameters)


def natives(module: Module) -> tuple[Any, ...]:
    """Return the native objects with the packed weights of a layer: one, several, or none."""
    return module._natives()


def isa(module: Module, name: str, value: Stored) -> str | None:
    """Return the ISA level whose products multiply by a parameter, or None where none does."""
    return module._isa(name, value)


def shapes(module: Module) -> Shapes:
    """Return the name and shape of every parameter, in PyTorch's order."""
    return module._shapes()


def count(module: Module) -> Count:
    """Count the parameters without listing them, since a file may ask for any number."""
    return Count(*module._count())


def layout(module: Module) -> dict[str, dict[str, tuple[str, tuple[int, ...]]]]:
    """Return the names, dtypes and shapes of the arrays that store each parameter."""
    return {
        name: formats.layout(name, shape, module._stored_as(name, shape), module._groups(name))
        for name, shape in module._shapes().items()
    }


def stored(
    module: Module, function: str, name: str, value: ArrayLike, shape: tuple[int, ...]
) -> Stored:
    """Check the shape of a new parameter and return a copy of it, as the layer stores it."""

    def fits(array: AnyArray) -> None:
        if array.shape != shape:
            raise ValueError(
                f"{function}: {name} has shape {array.shape}, expected {shape}"
                + foreign.hint(array.shape, shape)
            )

    array = to_weight(function, name, value, fits)
    return formats.encode(array, module._stored_as(name, shape), groups=module._groups(name))


def converted(module: Module, name: str, value: Stored) -> Stored:
    """Convert a parameter to this layer's dtype; a parameter that has it is returned as it is."""
    dtype = module._stored_as(name, value.shape)
    if formats.dtype_of(value) == dtype:
        return value
    return formats.encode(value, dtype, groups=module._groups(name))
