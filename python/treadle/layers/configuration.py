"""Configurations: the arguments that a layer was constructed with, declared by its class.

A class declares every argument of its constructor (but ``seed``) with an object that knows how the
argument is checked, written and changed::

    _entries: ClassVar = {"hidden_size": Integer(), "norm": Nested(LayerNorm, optional=True)}

The order of the entries and their defaults are those of the constructor's signature. A
configuration is untrusted: files and pickles bring one, and it is checked as arguments are.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from treadle._inputs import checks
from treadle.layers import activation
from treadle.layers.build import blueprint

if TYPE_CHECKING:
    from treadle.layers.module import Module

REQUIRED = inspect.Parameter.empty


class Entry:
    """One entry of a configuration.

    optional  the value may be None
    sparse    the entry is recorded only where it differs from its default. Entries that a class
              gained after its first release are sparse: what did not use them keeps its record, and
              with it the files and exported states of before
    """

    __slots__ = ("optional", "sparse")

    def __init__(self, *, optional: bool = False, sparse: bool = False) -> None:
        self.optional = optional
        self.sparse = sparse

    def check(self, function: str, name: str, value: Any) -> Any:
        """Return the value in its plain form, or raise TypeError or ValueError."""
        return None if value is None and self.optional else self._checked(function, name, value)

    def _checked(self, function: str, name: str, value: Any) -> Any:
        raise NotImplementedError

    def recorded(self, value: Any) -> Any:
        """Return the value as files, pickles and fingerprints have it."""
        return value

    def written(self, value: Any) -> str:
        """Return the value as the argument of a call."""
        return repr(value)

    def retyped(self, value: Any, dtype: str) -> Any:
        """Return the value in a layer whose products are computed in another dtype."""
        return value

    def chooses_dtype(self) -> bool:
        """Return whether the entry chooses the dtype of products."""
        return False


Entries: TypeAlias = Mapping[str, Entry]


class Flag(Entry):
    """True or False."""

    __slots__ = ()

    def _checked(self, function: str, name: str, value: Any) -> bool:
        return checks.flag(function, name, value)


class Integer(Entry):
    """An integer in ``least..most``."""

    __slots__ = ("least", "most")

    def __init__(self, *, least: int = 1, most: int = checks.MAX_SIZE, **options: bool) -> None:
        super().__init__(**options)
        self.least, self.most = least, most

    def _checked(self, function: str, name: str, value: Any) -> int:
        return checks.integer(function, name, value, self.least, self.most)


class Number(Entry):
    """A number in ``least..most``, or a number greater than ``above``."""

    __slots__ = ("above", "least", "most")

    def __init__(
        self,
        *,
        least: float = -checks.FLOAT32_MAX,
        above: float | None = None,
        most: float = checks.FLOAT32_MAX,
        **options: bool,
    ) -> None:
        super().__init__(**options)
        self.least, self.above, self.most = least, above, most

    def _checked(self, function: str, name: str, value: Any) -> float:
        return checks.number(function, name, value, self.least, self.above, self.most)


class Shape(Entry):
    """One size or several."""

    __slots__ = ()

    def _checked(self, function: str, name: str, value: Any) -> tuple[int, ...]:
        return checks.sizes(function, name, value)


class Nonlinearity(Entry):
    """An activation; None is the linear one, unless the entry is optional."""

    __slots__ = ()

    def _checked(self, function: str, name: str, value: Any) -> str | tuple[Any, ...]:
        return activation.canonical(function, name, value)


class Dtype(Entry):
    """The dtype in which matrices are stored and multiplied."""

    __slots__ = ()

    def _checked(self, function: str, name: str, value: Any) -> str:
        return checks.dtype(function, name, value)

    def retyped(self, value: str, dtype: str) -> str:
        return dtype

    def chooses_dtype(self) -> bool:
        return True


class Float32(Dtype):
    """The dtype of a layer without products: float32, whatever the layers around it have."""

    __slots__ = ()

    def _checked(self, function: str, name: str, value: Any) -> str:
        dtype = super()._checked(function, name, value)
        if dtype != "float32":
            raise ValueError(
                f"{function}: {name} is {dtype!r}, expected 'float32': the layer has no products"
            )
        return dtype

    def retyped(self, value: str, dtype: str) -> str:
        return value

    def chooses_dtype(self) -> bool:
        return False


class Nested(Entry):
    """The configuration of a layer within a layer, taken from such a layer or from a mapping."""

    __slots__ = ("cls",)

    def __init__(self, cls: type[Module], **options: bool) -> None:
        super().__init__(**options)
        self.cls = cls

    def _checked(self, function: str, name: str, value: Any) -> dict[str, Any]:
        if isinstance(value, self.cls):
            return dict(value._configuration)
        if not isinstance(value, Mapping):
            check_layer(function, name, value, self.cls)
        try:
            return blueprint(self.cls, value)._configuration
        except (TypeError, ValueError) as error:
            raise type(error)(f"{function}: {name}: {error}") from error

    def recorded(self, value: Any) -> Any:
        return None if value is None else self.cls._schema.recorded(value)

    def written(self, value: Any) -> str:
        return "None" if value is None else self.cls._schema.written(self.cls.__name__, value)

    def retyped(self, value: Any, dtype: str) -> Any:
        return None if value is None else self.cls._schema.retyped(value, dtype)

    def chooses_dtype(self) -> bool:
        return self.cls._schema.chooses_dtype()


def check_layer(function: str, name: str, value: Any, cls: type[Module]) -> None:
    """Raise TypeError unless the value is a layer of this class."""
    if not isinstance(value, cls):
        raise TypeError(f"{function}: {name} is {checks.shown(value)}, expected a {cls._function}")


class Schema:
    """The entries of a class in the order of its constructor, with their defaults."""

    __slots__ = ("defaults", "entries", "function")

    def __init__(self, cls: type[Module]) -> None:
        """Raise TypeError for a class whose constructor and entries differ."""
        parameters = dict(inspect.signature(cls).parameters)
        parameters.pop("seed", None)  # the seed is not needed once the parameters exist
        if set(parameters) != set(cls._entries):
            raise TypeError(
                f"{cls.__name__}: the entries are {sorted(cls._entries)}, "
                f"expected the arguments of the constructor, {sorted(parameters)}"
            )
        self.function = f"treadle.{cls.__name__}"
        self.entries: dict[str, Entry] = {name: cls._entries[name] for name in parameters}
        self.defaults: dict[str, Any] = {name: p.default for name, p in parameters.items()}

    def checked(self, configuration: Mapping[str, Any]) -> dict[str, Any]:
        """Return a complete configuration; entries that are left out get their defaults."""
        function = self.function
        if not isinstance(configuration, Mapping):
            raise TypeError(
                f"{function}: configuration is {checks.shown(configuration)}, expected an object"
            )
        unknown = sorted(set(configuration) - set(self.entries))
        if unknown:
            raise ValueError(
                f"{function}: configuration has the unknown entries {unknown}, "
                f"expected some of {list(self.entries)}"
            )
        result: dict[str, Any] = {}
        for name, entry in self.entries.items():
            value = configuration.get(name, self.defaults[name])
            if value is REQUIRED:
                raise ValueError(f"{function}: configuration has no {name}, expected one")
            result[name] = entry.check(function, name, value)
        return result

    def recorded(self, configuration: Mapping[str, Any]) -> dict[str, Any]:
        """Return the configuration as files, pickles and fingerprints have it."""
        return {
            name: self.entries[name].recorded(value)
            for name, value in configuration.items()
            if not (self.entries[name].sparse and value == self.defaults[name])
        }

    def retyped(self, configuration: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
        """Return the configuration with all products, also of nested layers, in another dtype."""
        return {k: self.entries[k].retyped(value, dtype) for k, value in configuration.items()}

    def chooses_dtype(self) -> bool:
        """Return whether the class has products whose dtype can be chosen."""
        return any(entry.chooses_dtype() for entry in self.entries.values())

    def written(self, name: str, configuration: Mapping[str, Any]) -> str:
        """Write the call that constructs a layer, without arguments that have their defaults."""
        shown = []
        for entry, value in configuration.items():
            text, default = self.entries[entry].written(value), self.defaults[entry]
            if default is REQUIRED:
                shown.append(text)
            elif value != default:
                shown.append(f"{entry}={text}")
        return f"{name}({', '.join(shown)})"
