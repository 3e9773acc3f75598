"""The base class of all layers: a configuration, named parameters, and their packed form.

A module is its configuration (what the constructor was called with) and its parameters (arrays
under PyTorch's names, the matrices in the dtype of the configuration, as `_storage.formats` stores
them). Both decide everything else: the packed weights are made from them once, and saving, pickling
and copying store nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from treadle._inputs import checks
from treadle._places import PUBLIC
from treadle._storage import formats
from treadle.layers import build
from treadle.layers.configuration import Schema

if TYPE_CHECKING:
    from typing_extensions import Self

    from treadle._inputs.types import ArrayLike, Float
    from treadle.layers.build import PackedParameters, Shapes
    from treadle.layers.configuration import Entries

_M = TypeVar("_M", bound="Module")

# The classes that a file may name, as far as they have been imported. Nothing but the modules of
# `known_layers` is ever imported because of a name in a file.
LAYERS: dict[str, type[Module]] = {}


def layer(cls: type[_M]) -> type[_M]:
    """Class decorator: give a layer its name in messages and files, and its configuration.

    The entries of the configuration and their defaults are the arguments of ``__init__``, except
    ``seed``, which is not needed once the parameters exist.
    """
    cls._name = cls.__name__
    cls._function = f"treadle.{cls.__name__}"
    cls._schema = Schema(cls)
    LAYERS[cls.__name__] = cls
    return cls


def known_layers() -> dict[str, type[Module]]:
    """Import the modules that define the package's layers, and return the layers by name."""
    for module in PUBLIC:
        if module.startswith(("treadle.layers.", "treadle.seq2seq.")):
            import_module(module)
    return LAYERS


def named_layer(name: object) -> type[Module] | None:
    """Return the layer that a file or a pickle calls ``name``, or None where no layer has it."""
    if not isinstance(name, str):
        return None
    return LAYERS.get(name) or known_layers().get(name)


class LoadResult(NamedTuple):
    """The names that ``load_state_dict(strict=False)`` ignored."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base of all layers. Its entries and parameters read as attributes: ``m.hidden_size``,
    ``m.weight_ih_l0``; the arrays are float32 and read-only, since the packed weights would not
    follow. Those of a layer in bfloat16 or int8 are decoded, anew each time.
    """

    _name: ClassVar[str]
    _function: ClassVar[str]
    _schema: ClassVar[Schema]
    _configuration: dict[str, Any]
    _packed: PackedParameters
    # The arguments that a call needs, where one is not enough.
    _takes: ClassVar[str] = ""
    # The attributes that follow from a configuration and parameters: copies make them anew.
    _derived: ClassVar[frozenset[str]] = frozenset({"_configuration", "_packed"})

    # -- what a layer defines ---------------------------------------------------------------------

    _entries: ClassVar[Entries]
    """Every argument of the constructor but ``seed``."""

    def _count(self) -> tuple[int, int]:
        """The number of parameter arrays and of their elements. A layer whose file could ask for
        very many arrays counts without listing them.
        """
        shapes = self._shapes()
        return len(shapes), sum(map(prod, shapes.values()))

    def _shapes(self) -> Shapes:
        """Return the name and shape of every parameter, in PyTorch's order."""
        raise NotImplementedError

    def _pack(self, parameters: Mapping[str, Any]) -> Any:
        """Return the packed form of checked parameters."""
        raise NotImplementedError

    def _initial(self, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
        """Return how a parameter is drawn: (a, b) means uniformly from a - b to a + b."""
        raise NotImplementedError

    def _packings(self, parameters: dict[str, Any]) -> list[tuple[Module, PackedParameters]]:
        """Pack checked parameters and return the modules that they belong to, each with its own."""
        return [(self, build.PackedParameters(parameters, self._pack(parameters)))]

    def _natives(self) -> tuple[Any, ...]:
        """Return the native objects with the packed weights: one, several, or none."""
        native = self._packed.native
        return native if isinstance(native, tuple) else () if native is None else (native,)

    def _isa(self, name: str, value: Any) -> str | None:
        """Return the ISA level whose products multiply by a parameter, or None."""
        natives = self._natives()
        isa: str | None = natives[0].isa if natives and len(value.shape) == 2 else None
        return isa

    def _passes_over(self, name: str) -> bool:
        """Tell whether a state dict's entry that is no parameter here may be there."""
        return False

    def _stored_as(self, name: str, shape: tuple[int, ...]) -> str:
        """Return the dtype in which a parameter of this shape is stored."""
        return formats.stored_as(shape, self._dtype)

    def _groups(self, name: str) -> int:
        """Return the groups of the transposed convolution whose weight this is; 0 for any other."""
        return 0

    @property
    def _dtype(self) -> str:
        """The dtype in which the matrices are stored."""
        dtype: str = self._configuration["dtype"]
        return dtype

    # -- construction -----------------------------------------------------------------------------

    def _initialize(self, arguments: Mapping[str, Any]) -> None:
        """Construct with random parameters; ``__init__`` passes its ``locals()``, no more."""
        given = {k: v for k, v in arguments.items() if k not in ("self", "seed")}
        self._configure(given)
        build.fill(self, build.draw(self, arguments["seed"]))

    def _configure(self, configuration: Mapping[str, Any]) -> None:
        """Check a configuration and take it over; entries it does not have get their defaults."""
        self.__dict__["_configuration"] = self._schema.checked(configuration)
        self._check_configuration()

    def _check_configuration(self) -> None:
        """Check conditions between several entries of the configuration."""
        elements = self._count()[1]
        if elements * 4 >= 2**63:
            raise ValueError(
                f"{self._function}: the sizes ask for {elements} parameters, "
                "expected less than 2**61 (float32, 64-bit addresses)"
            )

    # -- parameters -------------------------------------------------------------------------------

    @property
    def num_parameters(self) -> int:
        """The number of weights and biases."""
        return sum(value.size for value in self._packed.parameters.values())

    def state_dict(self) -> dict[str, Float]:
        """Return copies of all parameters under PyTorch's names, as float32 in every dtype.

        The numbers are those that the layer computes with, rounded if it has bfloat16 or int8.

        Examples
        --------
        >>> import treadle
        >>> {name: value.shape for name, value in treadle.GRU(3, 4).state_dict().items()}
        {'weight_ih_l0': (12, 3), 'weight_hh_l0': (12, 4), 'bias_ih_l0': (12,), 'bias_hh_l0': (12,)}
        """
        parameters = self._packed.parameters
        return {name: formats.decode(value) for name, value in parameters.items()}

    def load_state_dict(self, mapping: Mapping[str, ArrayLike], strict: bool = True) -> LoadResult:
        """Replace the parameters by those in ``mapping``, in the layer's dtype, and pack them.

        Everything is checked before anything changes. The values may be NumPy arrays or PyTorch
        tensors, as ``torch.nn.LSTM(...).state_dict()`` gives them, in float32 or bfloat16 (an array
        of uint16 is taken as the bits of bfloat16); they are copied, one after the other. With
        ``strict=False`` missing names keep their values, and unknown names are ignored; the result
        lists both. A stream that was made before keeps the weights that it was made with.

        Raises
        ------
        ValueError
            For missing or unexpected names and wrong shapes.
        TypeError
            For a wrong dtype.

        Examples
        --------
        >>> import treadle
        >>> a, b = treadle.LSTM(3, 4, seed=1), treadle.LSTM(3, 4, seed=2)
        >>> b.load_state_dict(a.state_dict())
        LoadResult(missing_keys=[], unexpected_keys=[])
        """
        function = f"{self._function}.load_state_dict"
        checks.flag(function, "strict", strict)
        if not isinstance(mapping, Mapping):
            raise TypeError(
                f"{function}: mapping is of type {type(mapping).__name__}, "
                "expected names with arrays, such as a state dict"
            )
        shapes = self._shapes()
        missing = [name for name in shapes if name not in mapping]
        others = (name for name in mapping if name not in shapes)
        unexpected = [n for n in others if not self._passes_over(str(n))]
        if strict and (missing or unexpected):
            raise ValueError(
                f"{function}: mapping lacks {_some(missing)} and has unexpected "
                f"{_some(unexpected)}, expected exactly the {len(shapes)} names of {self!r}"
            )
        given = (name for name in shapes if name in mapping)
        new = {n: build.stored(self, function, n, mapping[n], shapes[n]) for n in given}
        build.fill(self, {**self._packed.parameters, **new})
        return LoadResult(missing, unexpected)

    def to(self, dtype: Any) -> Self:
        """Return a new layer with the same parameters, its matrices in float32, bfloat16 or int8.

        The matrices are rounded from the dtype that this layer has: ``to`` does not bring back bits
        that an earlier rounding has lost.

        Raises
        ------
        ValueError
            For another dtype.

        Examples
        --------
        >>> import treadle
        >>> treadle.GRU(3, 4).to("int8")
        GRU(3, 4, dtype='int8')
        """
        return self._retyped(checks.dtype(f"{self._function}.to", "dtype", dtype))

    def _retyped(self, choice: Any) -> Self:
        """Return a new module with a dtype, or several, that the configuration's entries take."""
        other = build.retyped(self, choice)
        parameters = self._packed.parameters
        build.fill(other, {key: build.converted(other, key, v) for key, v in parameters.items()})
        return other

    # -- copies, files, looks ---------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        own = {k: v for k, v in self.__dict__.items() if k not in self._derived}
        return {
            "configuration": build.configuration(self),
            "parameters": {
                name: tuple(value) if isinstance(value, tuple) else value
                for name, value in self._packed.parameters.items()
            },
            "attributes": own,  # what a subclass or a user added
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._configure(state["configuration"])
        function, given, shapes = self._function, state["parameters"], self._shapes()
        if set(given) != set(shapes):
            raise ValueError(
                f"{function}: a copy has the parameters {_some(list(given))}, "
                f"expected {_some(list(shapes))}"
            )
        build.fill(
            self,
            {
                name: formats.checked(
                    *(function, name, given[name], shape),
                    self._stored_as(name, shape),
                    self._groups(name),
                )
                for name, shape in shapes.items()
            },
        )
        self.__dict__.update(state["attributes"])

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        if "_packed" in own and name in own["_packed"].parameters:
            value = own["_packed"].parameters[name]
            if formats.dtype_of(value) == "float32":
                return value
            decoded = formats.decode(value)
            decoded.flags.writeable = False
            return decoded
        if name in own.get("_configuration", ()):
            return own["_configuration"][name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: object) -> None:
        if name in self._schema.entries:
            raise AttributeError(
                f"{self._function}: {name} belongs to the configuration, which never changes; "
                "make a new module"
            )
        if "_packed" in self.__dict__ and name in self._packed.parameters:
            raise AttributeError(
                f"{self._function}: {name} was packed when it was loaded; "
                f'change it with load_state_dict({{"{name}": ...}}, strict=False)'
            )
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._configuration, *self._packed.parameters]

    def __repr__(self) -> str:
        return self._schema.written(type(self).__name__, self._configuration)


def _some(names: list[Any]) -> str:
    """Write out a few names of a list that may be long."""
    few = ", ".join(str(name)[:80] for name in names[:5])
    return f"[{few}{', ...' if len(names) > 5 else ''}]"
