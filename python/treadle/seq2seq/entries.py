"""The encoder and the decoder in a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from treadle._inputs import checks
from treadle.layers.build import configuration
from treadle.layers.composite import checked_child, described_child, retyped_child
from treadle.layers.configuration import Entry
from treadle.layers.parts import Dtypes
from treadle.layers.recurrent_stack import Recurrent
from treadle.layers.sequential import Sequential

if TYPE_CHECKING:
    from treadle.layers.module import Module

ATTENTIONS = ("dot", "general", "additive")


class Part(Entry):
    """A module: an object, or, in files, [class, configuration]."""

    __slots__ = ("classes", "expected", "part")

    def __init__(self, part: str, *, recurrent: bool = False, **options: bool) -> None:
        super().__init__(**options)
        self.part = part
        self.classes: tuple[type[Module], ...] = (Sequential,)
        self.expected = "a treadle.Sequential"
        if recurrent:
            self.classes = (Sequential, Recurrent)
            self.expected += ", treadle.RNN, treadle.LSTM or treadle.GRU"

    def _checked(self, function: str, name: str, value: Any) -> Module:
        where, module = f"{function}: {name}", value
        if isinstance(value, list | tuple) and len(value) == 2:
            module = described_child(where, value[0], value[1], self.classes, self.expected)
        return checked_child(where, module, self.classes, self.expected)

    def recorded(self, value: Module | None) -> Any:
        return None if value is None else [value._name, configuration(value)]

    def retyped(self, value: Module | None, dtype: Any) -> Module | None:
        if value is None:
            return None
        return retyped_child(value, dtype if isinstance(dtype, str) else dtype[self.part])

    def chooses_dtype(self) -> bool:
        return True


class Options(Entry):
    """The options of a search that a model keeps, by their names, or None."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(optional=True, sparse=True)

    def _checked(self, function: str, name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise TypeError(
                f"{function}: {name} is {checks.shown(value)}, expected options of "
                "treadle.generation.GenerationConfig by their names"
            )
        from treadle.generation import GenerationConfig

        try:
            config = GenerationConfig().merged(**value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{function}: {name}: {error}") from error
        return {key: getattr(config, key) for key in sorted(value)}

    def recorded(self, value: dict[str, Any] | None) -> Any:
        return None if value is None else {key: _listed(one) for key, one in value.items()}


def _listed(value: Any) -> Any:
    """Return tuples as the lists that a file has in their place."""
    return [_listed(one) for one in value] if isinstance(value, tuple) else value


class Score(Entry):
    """The score of attention: None, or one of `ATTENTIONS`."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(optional=True)

    def _checked(self, function: str, name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in ATTENTIONS:
            raise ValueError(
                f"{function}: {name} is {checks.shown(value)}, "
                f"expected None or one of {list(ATTENTIONS)}"
            )
        return value


class OwnDtypes(Dtypes):
    """The dtypes of the products that connect encoder and decoder, by name or one for all."""

    __slots__ = ()

    def retyped(self, value: Any, dtype: Any) -> Any:
        if isinstance(dtype, str):
            return dtype
        names = {k: v for k, v in dtype.items() if k not in ("encoder", "decoder")}
        return {k: v for k, v in names.items() if v is not None} if names else value

    def recorded(self, value: Any) -> Any:
        return value
