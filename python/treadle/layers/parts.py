"""Modules with parts, of which each can have a dtype of its own.

The parts are the layers of a recurrent net, "layer0", "layer1", ..., or the modules of a sequence
under their names. A choice is a dtype for all parts; a list with one for each; or a mapping of
names to dtypes, in which "default" stands for the parts that it does not name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from treadle._inputs import checks
from treadle.layers.configuration import Entry
from treadle.layers.module import Module
from treadle.layers.sensitivity import Sensitivity, measured

if TYPE_CHECKING:
    from typing_extensions import Self

    from treadle._inputs.types import ArrayLike

DEFAULT = "default"


class Dtypes(Entry):
    """One dtype for all layers, a tuple with one for each, or a mapping that `chosen` takes."""

    __slots__ = ()

    def _checked(self, function: str, name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return dict(value)
        if isinstance(value, list | tuple):
            return tuple(value)
        return checks.dtype(function, name, value)

    def recorded(self, value: Any) -> Any:
        return value if isinstance(value, str) else list(value)

    def retyped(self, value: Any, dtype: Any) -> Any:
        return dtype

    def chooses_dtype(self) -> bool:
        return True


class Parted(Module):
    """A module with parts: its layers, or the modules that it consists of."""

    def _parts(self) -> list[str]:
        """Return the names of the parts."""
        raise NotImplementedError

    def _choice(self, function: str, dtype: Any, keep: Any) -> Any:
        """Return the dtype of each part, as the entry of the configuration takes them."""
        raise NotImplementedError

    def to(self, dtype: Any, keep: str | Iterable[str] = ()) -> Self:
        """Return a new module with the same parameters, its matrices in other dtypes.

        ``dtype`` is "float32", "bfloat16" or "int8" for all parts, a list with one for each part,
        or a dict by the names of parts; "default" stands for those that the dict does not name,
        which keep their dtypes without it. The parts of a recurrent net are its layers, "layer0",
        "layer1", ...; those of a `treadle.Sequential` are its modules by their names. ``keep``
        names parts that keep the dtype that they have. Matrices are rounded from the dtype that
        they have: ``to`` does not bring back bits that an earlier rounding has lost.

        Raises
        ------
        ValueError
            For another dtype, an unknown name, or a list of another length.

        Examples
        --------
        >>> import treadle
        >>> net = treadle.LSTM(40, 256, num_layers=3, seed=0)
        >>> net.to("int8", keep="layer0").dtype
        ('float32', 'int8', 'int8')
        >>> net.to({"default": "int8", "layer0": "bfloat16"})
        LSTM(40, 256, num_layers=3, dtype=('bfloat16', 'int8', 'int8'))
        """
        return self._retyped(self._choice(f"{self._function}.to", dtype, keep))

    def sensitivity(
        self, x: ArrayLike, dtype: Any = "int8", *, least: float = 0.999, **call: Any
    ) -> Sensitivity:
        """Measure on a sample x which parts lose most in a dtype, and recommend dtypes.

        The output of the module for x, in which every matrix is in float32, is compared with those
        in which each part alone, and then all parts, have ``dtype``. The dtypes that are
        recommended keep more bits for the parts that lose most alone, until the least cosine
        between two vectors of the outputs is ``least``: bfloat16 where that is enough, else
        float32. ``call`` is passed to the module's call, ``lengths=`` for instance. The sample
        should look like the data to come: what it does not show is not measured. The module itself
        should be in float32.

        Returns
        -------
        Sensitivity
            ``alone`` (a dict by part), ``together`` and ``recommended`` have a ``cosine`` (the
            least one) and an ``error`` (the largest one, in parts of the largest number);
            ``dtype`` is what `to` takes. ``print`` shows them as a table.

        Raises
        ------
        TypeError, ValueError
            For an argument of the wrong kind or value, and for what the call raises.

        Examples
        --------
        >>> import numpy as np, treadle
        >>> net = treadle.GRU(4, 8, num_layers=2, seed=0)
        >>> x = np.random.default_rng(0).random((20, 1, 4), np.float32)
        >>> found = net.sensitivity(x)
        >>> list(found.alone), found.dtype
        (['layer0', 'layer1'], 'int8')
        >>> small = net.to(found.dtype)
        """
        return measured(self, self._parts(), x, dtype, least, call)


def chosen(function: str, value: Any, parts: list[str], otherwise: list[Any]) -> list[Any]:
    """Return a dtype for each part, checked if it is one; ``otherwise`` has those of the parts that
    a mapping without "default" does not name.

    Raises TypeError or ValueError for unknown names and dtypes, and a list of another length.
    """
    if isinstance(value, Mapping):
        unknown = [name for name in value if name != DEFAULT and name not in parts]
        if unknown:
            raise ValueError(
                f"{function}: dtype has the name {checks.shown(unknown[0])}, "
                f"expected {_names([DEFAULT, *parts])}"
            )
        rest = otherwise
        if DEFAULT in value:
            rest = [checks.dtype(function, f"dtype[{DEFAULT!r}]", value[DEFAULT])] * len(parts)
        return [
            _one(function, f"dtype[{name!r}]", value[name]) if name in value else own
            for name, own in zip(parts, rest, strict=True)
        ]
    if isinstance(value, list | tuple):
        if len(value) != len(parts):
            raise ValueError(
                f"{function}: dtype has {len(value)} items, expected {len(parts)}, "
                f"one for each of {_names(parts)}"
            )
        return [_one(function, f"dtype[{i}]", item) for i, item in enumerate(value)]
    return [checks.dtype(function, "dtype", value)] * len(parts)


def kept(function: str, value: Any, parts: list[str]) -> list[bool]:
    """Tell which parts are to keep their dtype: those that ``value`` names, one or several.

    Raises TypeError or ValueError for what is no name of a part.
    """
    names = [value] if isinstance(value, str) else value
    if isinstance(names, Mapping):
        raise TypeError(
            f"{function}: keep is a {type(value).__name__}, expected names of parts; "
            "dtypes by name are the first argument"
        )
    if not isinstance(names, Iterable) or isinstance(names, bytes):
        raise TypeError(f"{function}: keep is {checks.shown(value)}, expected names of parts")
    names = list(names)
    for name in names:
        if name not in parts:
            raise ValueError(
                f"{function}: keep has the name {checks.shown(name)}, expected {_names(parts)}"
            )
    return [part in names for part in parts]


def _one(function: str, name: str, value: Any) -> Any:
    """Check the dtype of a part; one that has parts of its own checks a list or mapping itself."""
    return (
        value if isinstance(value, Mapping | list | tuple) else checks.dtype(function, name, value)
    )


def _names(parts: list[str]) -> str:
    few = ", ".join(parts[:8])
    return f"{few}, ..." if len(parts) > 8 else few or "no name, since there are no parts"
