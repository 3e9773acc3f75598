"""The base of modules that consist of modules: their parameters are those of the modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from treadle._inputs import checks
from treadle.layers.build import PackedParameters, blueprint, natives, retyped
from treadle.layers.module import named_layer
from treadle.layers.parts import Parted, chosen, kept

if TYPE_CHECKING:
    from treadle.layers.build import Shapes
    from treadle.layers.module import Module

    Children = tuple[tuple[str, Module], ...]


class Composite(Parted):
    """A module that consists of modules, its children, which read as attributes by their names.

    The children are the objects that were given, not copies: weights that are loaded into one of
    them are those of the whole, and the other way round. A parameter is named after its child,
    "0.weight".
    """

    @property
    def _children(self) -> Children:
        """Return the modules with their names."""
        raise NotImplementedError

    @property
    def dtype(self) -> Any:
        """The dtype of the products, or, where modules differ, a dict of their dtypes by name.

        Modules without products do not count; where there are no others the dtype is float32.
        """
        found = {name: child.dtype for name, child in self._children if multiplies(child)}
        kinds = list(found.values()) or ["float32"]
        return kinds[0] if all(kind == kinds[0] for kind in kinds) else found

    def _parts(self) -> list[str]:
        return [name for name, _ in self._children]

    def _choice(self, function: str, dtype: Any, keep: Any) -> Any:
        """Return the choice of each module; None stands for the dtype that it has."""
        parts = self._parts()
        wanted = chosen(function, dtype, parts, [None] * len(parts))
        stays = kept(function, keep, parts)
        choices: list[Any] = []
        for (name, child), one, stay in zip(self._children, wanted, stays, strict=True):
            own = None if stay else one
            if isinstance(child, Parted):  # an empty dict names no part, and all keep their dtypes
                own = child._choice(f"{function}: {name}", {} if own is None else own, ())
            elif own is not None:
                own = checks.dtype(f"{function}: {name}", "dtype", own)
            choices.append(own)
        return choices

    # -- parameters, which are those of the modules -----------------------------------------------

    @property
    def _packed(self) -> PackedParameters:  # type: ignore[override]
        parts = [(name, child._packed.parameters) for name, child in self._children]
        return PackedParameters(
            {f"{n}.{key}": v for n, own in parts for key, v in own.items()}, None
        )

    def _packings(self, parameters: dict[str, Any]) -> list[tuple[Module, PackedParameters]]:
        result = []
        for name, child in self._children:
            result += child._packings({k: parameters[f"{name}.{k}"] for k in child._shapes()})
        return result

    def _natives(self) -> tuple[Any, ...]:
        return tuple(native for _, child in self._children for native in natives(child))

    def _isa(self, name: str, value: Any) -> str | None:
        first, _, rest = name.partition(".")
        return dict(self._children)[first]._isa(rest, value)

    def _passes_over(self, name: str) -> bool:
        first, _, rest = name.partition(".")
        return first in self._parts() and dict(self._children)[first]._passes_over(rest)

    def _count(self) -> tuple[int, int]:
        counts = [child._count() for _, child in self._children]
        return sum(arrays for arrays, _ in counts), sum(elements for _, elements in counts)

    def _shapes(self) -> Shapes:
        return {
            f"{name}.{key}": shape
            for name, child in self._children
            for key, shape in child._shapes().items()
        }

    def _stored_as(self, name: str, shape: tuple[int, ...]) -> str:
        first, _, rest = name.partition(".")
        return dict(self._children)[first]._stored_as(rest, shape)

    def _groups(self, name: str) -> int:
        first, _, rest = name.partition(".")
        return dict(self._children)[first]._groups(rest)

    # -- the modules as attributes ----------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if "_configuration" in self.__dict__:
            for own, child in self._children:
                if own == name:
                    return child
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: object) -> None:
        children = self._children if "_configuration" in self.__dict__ else ()
        if any(own == name for own, _ in children):
            raise AttributeError(
                f"{self._function}: {name} belongs to the configuration, which never changes; "
                "make a new module"
            )
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(name for name, _ in self._children)]


def described_child(
    where: str,
    name: Any,
    configuration: Any,
    classes: type[Module] | tuple[type[Module], ...],
    expected: str,
) -> Module:
    """Return the module that a file describes by the name of its class and its configuration.

    Raises ValueError, which begins with ``where``, unless the class is one of ``classes``.
    """
    cls = named_layer(name)
    if cls is None or not issubclass(cls, classes):
        raise ValueError(f"{where} is of the class {checks.shown(name)}, expected {expected}")
    try:
        return blueprint(cls, configuration)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from error


def checked_child(
    where: str, module: object, classes: type[Module] | tuple[type[Module], ...], expected: str
) -> Module:
    """Return a module of one of the classes; raise TypeError, which begins with ``where``, else."""
    if isinstance(module, classes):
        return module
    torch = type(module).__module__.startswith("torch.")
    raise TypeError(
        f"{where} is {checks.shown(module)}, expected {expected}"
        + " (treadle.from_torch makes one of PyTorch's)" * torch
    )


def retyped_child(child: Module, dtype: Any) -> Module:
    """Return the blueprint of a module in another dtype, or, for None, in the one that it has."""
    if dtype is None:
        return blueprint(type(child), child._configuration)
    return retyped(child, dtype)


def multiplies(module: Module) -> bool:
    """Tell whether a module has products, whose dtype can be chosen."""
    if isinstance(module, Composite):
        return any(multiplies(child) for _, child in module._children)
    return module._schema.chooses_dtype()
