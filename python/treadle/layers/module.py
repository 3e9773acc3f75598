"""What all layers share: a configuration, named parameters, and their packed form.

A module is its configuration (what the constructor was called with) and its parameters (arrays
under PyTorch's names, the matrices in the dtype of the configuration, as `_storage.formats` stores
them). Both decide everything else: the packed weights are made from them once, and saving, pickling
and copying store nothing more.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from treadle._inputs import checks
from treadle._inputs.arrays import to_weight
from treadle._storage import formats
from treadle.layers import activation

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from treadle._inputs.types import ArrayLike, Float
    from treadle._storage.formats import Stored

    Shapes = dict[str, tuple[int, ...]]

_M = TypeVar("_M", bound="Module")

# The classes that a file may name. Nothing outside this table is ever looked up or imported.
LAYERS: dict[str, type[Module]] = {}

# How each entry of a configuration is checked, whichever class has it.
_ENTRIES: dict[str, Callable[[str, str, Any], Any]] = {
    "input_size": checks.integer,
    "hidden_size": checks.integer,
    "num_layers": lambda f, n, v: checks.integer(f, n, v, most=checks.MAX_LAYERS),
    "proj_size": lambda f, n, v: checks.integer(f, n, v, least=0),
    "embed_dim": checks.integer,
    "num_heads": checks.integer,
    "kdim": lambda f, n, v: None if v is None else checks.integer(f, n, v),
    "vdim": lambda f, n, v: None if v is None else checks.integer(f, n, v),
    "add_bias_kv": checks.flag,
    "add_zero_attn": checks.flag,
    "d_model": checks.integer,
    "nhead": checks.integer,
    "dim_feedforward": checks.integer,
    "dropout": lambda f, n, v: checks.number(f, n, v, least=0, most=1),
    "layer_norm_eps": lambda f, n, v: checks.number(f, n, v, least=0),
    "norm_first": checks.flag,
    "normalized_shape": checks.sizes,
    "eps": lambda f, n, v: checks.number(f, n, v, least=0),
    "elementwise_affine": checks.flag,
    "enable_nested_tensor": checks.flag,
    "mask_check": checks.flag,
    "bias": checks.flag,
    "batch_first": checks.flag,
    "bidirectional": checks.flag,
    "reset_after": checks.flag,
    "activation": activation.canonical,
    "recurrent_activation": activation.canonical,
    "nonlinearity": activation.canonical,
    "dtype": checks.dtype,
    "encoder_layer": lambda f, n, v: _nested(f, n, v),
    "norm": lambda f, n, v: None if v is None else _nested(f, n, v),
}

# The entries that are configurations of layers themselves.
_NESTED = {"encoder_layer": "TransformerEncoderLayer", "norm": "LayerNorm"}


def layer(cls: type[_M]) -> type[_M]:
    """Class decorator: give a layer its name in messages and files, and its configuration.

    The entries of the configuration and their defaults are the parameters of ``__init__``; ``seed``
    is none of them, for it has done its work when the parameters exist.
    """
    parameters = dict(inspect.signature(cls).parameters)
    parameters.pop("seed", None)
    cls._name = cls.__name__
    cls._function = f"treadle.{cls.__name__}"
    cls._defaults = {name: p.default for name, p in parameters.items()}
    LAYERS[cls.__name__] = cls
    return cls


class LoadResult(NamedTuple):
    """The names that ``load_state_dict(strict=False)`` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Packed:
    """Parameters and their packed form: immutable, replaced as one by loading new weights."""

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


class Module:
    """Base of all layers. Its entries and parameters read as attributes: ``m.hidden_size``,
    ``m.weight_ih_l0``; the arrays are float32 and read-only, since the packed weights would not
    follow. Those of a layer in bfloat16 or int8 are decoded, anew each time.
    """

    _name: ClassVar[str]
    _function: ClassVar[str]
    _defaults: ClassVar[dict[str, Any]]
    _configuration: dict[str, Any]
    _packed: Packed

    # -- what a layer defines ---------------------------------------------------------------------

    def _count(self) -> tuple[int, int]:
        """The number of parameter arrays and of their elements. A layer whose file could ask for very
        many arrays counts without listing them.
        """
        shapes = self._shapes()
        return len(shapes), sum(map(prod, shapes.values()))

    def _shapes(self) -> Shapes:
        """The name and shape of every parameter, in PyTorch's order."""
        raise NotImplementedError

    def _pack(self, parameters: Mapping[str, Any]) -> Any:
        """The packed form of checked parameters."""
        raise NotImplementedError

    def _initial(self, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
        """How a parameter is drawn: (a, b) means uniformly from a - b to a + b."""
        raise NotImplementedError

    def _layout(self) -> dict[str, dict[str, tuple[str, tuple[int, ...]]]]:
        """For every parameter the arrays that it is stored as: their names, dtypes and shapes."""
        return {
            name: formats.layout(name, shape, formats.stored_as(shape, self._dtype))
            for name, shape in self._shapes().items()
        }

    @property
    def _dtype(self) -> str:
        """What the matrices are stored as."""
        dtype: str = self._configuration["dtype"]
        return dtype

    # -- construction -----------------------------------------------------------------------------

    def _initialize(self, seed: Any, **configuration: Any) -> None:
        """Construct with random parameters."""
        self._configure(configuration)
        self._set(_draw(self, seed))

    def _configure(self, configuration: Mapping[str, Any]) -> None:
        """Check a configuration and take it over; entries it does not have get their defaults."""
        function = self._function
        if not isinstance(configuration, Mapping):
            raise TypeError(
                f"{function}: configuration is {checks.shown(configuration)}, expected an object"
            )
        unknown = sorted(set(configuration) - set(self._defaults))
        if unknown:
            raise ValueError(
                f"{function}: configuration has the unknown entries {unknown}, "
                f"expected some of {list(self._defaults)}"
            )
        checked: dict[str, Any] = {}
        for name, default in self._defaults.items():
            value = configuration.get(name, default)
            if value is inspect.Parameter.empty:
                raise ValueError(f"{function}: configuration has no {name}, expected one")
            checked[name] = _ENTRIES[name](function, name, value)
        self.__dict__["_configuration"] = checked
        self._check_configuration()

    def _check_configuration(self) -> None:
        """Check what one entry alone does not tell."""
        elements = self._count()[1]
        if elements * 4 >= 2**63:
            raise ValueError(
                f"{self._function}: the sizes ask for {elements} parameters, "
                "expected less than 2**61 (float32, 64-bit addresses)"
            )

    def _set(self, parameters: dict[str, Stored]) -> None:
        """Take over parameters that have been checked; the arrays become ours."""
        native = self._pack(parameters)
        for value in parameters.values():
            formats.freeze(value)
        self.__dict__["_packed"] = Packed(parameters, native)

    @classmethod
    def _restore(cls, configuration: Mapping[str, Any]) -> Self:
        """An instance with a configuration and no parameters yet, to be given to ``_set``."""
        module = cls.__new__(cls)
        module._configure(configuration)
        return module

    # -- parameters -------------------------------------------------------------------------------

    @property
    def num_parameters(self) -> int:
        """The number of weights and biases."""
        return sum(value.size for value in self._packed.parameters.values())

    def state_dict(self) -> dict[str, Float]:
        """Copies of all parameters, under PyTorch's names: float32, whatever they are stored as.

        The numbers are those that the layer computes with: rounded, where it is bfloat16 or int8.

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
        ``strict=False`` missing names keep their values, and unknown ones are passed over; the
        result lists both. A stream made before keeps the weights it was made with.

        Raises ValueError for missing or unexpected names and wrong shapes, TypeError for a wrong
        dtype.

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
        unexpected = [name for name in mapping if name not in shapes]
        if strict and (missing or unexpected):
            raise ValueError(
                f"{function}: mapping lacks {_some(missing)} and has unexpected "
                f"{_some(unexpected)}, expected exactly the {len(shapes)} names of {self!r}"
            )
        given = (name for name in shapes if name in mapping)
        new = {name: self._stored(function, name, mapping[name], shapes[name]) for name in given}
        self._set({**self._packed.parameters, **new})
        return LoadResult(missing, unexpected)

    def to(self, dtype: Any) -> Self:
        """A new layer with the same parameters, its matrices in float32, bfloat16 or int8.

        They are rounded from the dtype that this layer has: what one rounding has lost, ``to`` does
        not bring back.

        Raises ValueError for another dtype.

        >>> import treadle
        >>> treadle.GRU(3, 4).to("int8")
        GRU(3, 4, dtype='int8')
        """
        name = checks.dtype(f"{self._function}.to", "dtype", dtype)
        other = self._with(name)
        other._set({key: other._own(value) for key, value in self._packed.parameters.items()})
        return other

    def _with(self, dtype: str) -> Self:
        """An instance with this configuration but for the dtype, and no parameters yet."""
        return type(self)._restore(_with_dtype(type(self), self._configuration, dtype))

    def _own(self, value: Stored) -> Stored:
        """A parameter in the form of this layer; itself, if it has that already."""
        dtype = formats.stored_as(value.shape, self._dtype)
        return value if formats.dtype_of(value) == dtype else formats.encode(value, dtype)

    def _stored(self, function: str, name: str, value: ArrayLike, shape: tuple[int, ...]) -> Stored:
        """A copy of a parameter that somebody gives, as it is stored, if it has the right shape."""
        array = to_weight(function, name, value)
        checks.shape(function, name, array, shape)
        return formats.encode(array, formats.stored_as(shape, self._dtype))

    # -- copies, files, looks ---------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        own = {k: v for k, v in self.__dict__.items() if k not in ("_configuration", "_packed")}
        return {
            "configuration": dict(self._configuration),
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
        self._set(
            {
                name: formats.checked(
                    function, name, given[name], shape, formats.stored_as(shape, self._dtype)
                )
                for name, shape in shapes.items()
            }
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
        if name in self._defaults:
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
        return _written(type(self), self._configuration)


def _draw(module: Module, seed: Any) -> dict[str, Stored]:
    """Uniform random parameters, each drawn in float32 and stored."""
    function = module._function
    try:
        generator = np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{function}: seed is {checks.shown(seed)}, expected None or an integer >= 0"
        ) from error
    forms = {
        name: (shape, formats.stored_as(shape, module._dtype))
        for name, shape in module._shapes().items()
    }
    size = sum(formats.nbytes(*form) for form in forms.values())
    parameters: dict[str, Stored] = {}
    try:
        # Sizes beyond memory fail here, at once, and not when most of it is taken.
        np.empty(size, np.uint8)
        for name, (shape, dtype) in forms.items():
            parameters[name] = _uniform(generator, shape, dtype, *module._initial(name, shape))
    except MemoryError:
        raise MemoryError(
            f"{function}: the sizes ask for {size} bytes of parameters, "
            "expected sizes that fit in memory"
        ) from None
    return parameters


def _uniform(
    generator: np.random.Generator, shape: tuple[int, ...], dtype: str, middle: float, reach: float
) -> Stored:
    values = generator.random(shape, dtype=np.float32)
    values *= 2 * np.float32(reach)
    values -= np.float32(reach) - np.float32(middle)
    return values if dtype == "float32" else formats.encode(values, dtype)


def _written(cls: type[Module], configuration: Mapping[str, Any]) -> str:
    """The call that constructs a module."""
    shown = []
    for name, value in configuration.items():
        default = cls._defaults[name]
        nested = _NESTED.get(name) if value is not None else None
        text = repr(value) if nested is None else _written(LAYERS[nested], value)
        if default is inspect.Parameter.empty:
            shown.append(text)
        elif value != default:
            shown.append(f"{name}={text}")
    return f"{cls.__name__}({', '.join(shown)})"


def _nested(function: str, name: str, value: Any) -> dict[str, Any]:
    """The configuration of a layer within a layer, given as a module or as a configuration."""
    cls = LAYERS[_NESTED[name]]
    if isinstance(value, cls):
        return dict(value._configuration)
    if not isinstance(value, Mapping):
        raise TypeError(f"{function}: {name} is {checks.shown(value)}, expected a {cls._function}")
    try:
        return cls._restore(value)._configuration
    except (TypeError, ValueError) as error:
        raise type(error)(f"{function}: {name}: {error}") from error


def _with_dtype(cls: type[Module], configuration: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """A configuration with another dtype of the products, those of nested layers among them."""
    changed = dict(configuration)
    if "dtype" in changed and not issubclass(cls, LAYERS["LayerNorm"]):
        changed["dtype"] = dtype
    for entry, name in _NESTED.items():
        if changed.get(entry) is not None:
            changed[entry] = _with_dtype(LAYERS[name], changed[entry], dtype)
    return changed


def _some(names: list[Any]) -> str:
    """A few names of a list that may be long."""
    few = ", ".join(str(name)[:80] for name in names[:5])
    return f"[{few}{', ...' if len(names) > 5 else ''}]"
