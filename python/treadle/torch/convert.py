"""This module converts PyTorch's modules into treadle's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from importlib import import_module
from typing import TYPE_CHECKING, Any

from treadle._public import published
from treadle.layers.activation_layers import ReLU6, Softplus
from treadle.layers.attention import MultiheadAttention
from treadle.layers.batch_norm import BatchNorm1d, BatchNorm2d
from treadle.layers.build import arguments, build
from treadle.layers.cells import GRUCell, LSTMCell, RNNCell
from treadle.layers.conv import Conv1d, Conv2d
from treadle.layers.conv_transpose import ConvTranspose1d, ConvTranspose2d
from treadle.layers.elementwise import Elementwise, Identity, Transpose
from treadle.layers.embedding import Embedding
from treadle.layers.group_norm import GroupNorm
from treadle.layers.instance_norm import InstanceNorm1d, InstanceNorm2d
from treadle.layers.linear import Linear, Product
from treadle.layers.module import Module, known_layers
from treadle.layers.norm import LayerNorm
from treadle.layers.recurrent import GRU, LSTM, RNN
from treadle.layers.recurrent_base import RecurrentBase
from treadle.layers.sequential import Sequential
from treadle.layers.transformer import TransformerEncoder, TransformerEncoderLayer

if TYPE_CHECKING:
    from types import ModuleType

    from torch import nn

    from treadle.layers.activation import Activation
    from treadle.torch.tensors import TensorLike

_CLASSES: tuple[type[Module], ...] = (
    LSTM,
    GRU,
    RNN,
    LSTMCell,
    GRUCell,
    RNNCell,
    MultiheadAttention,
    TransformerEncoderLayer,
    TransformerEncoder,
    LayerNorm,
    Linear,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    ConvTranspose2d,
    Embedding,
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    Sequential,
    ReLU6,  # before Hardtanh, from which PyTorch derives it
    *(c for c in known_layers().values() if issubclass(c, Elementwise) and c is not Transpose),
)


# Modules of this package that torch.nn has nothing like, and what converts them: a function of the
# module, the conversion of its parts (argument, module) and the name that errors give it.
OWN: dict[type, Callable[[Any, Callable[[str, Any], Module], str], Module]] = {}

# The arguments of PyTorch's recurrent modules.
_RECURRENT = (
    "input_size",
    "hidden_size",
    "num_layers",
    "nonlinearity",
    "bias",
    "batch_first",
    "bidirectional",
    "proj_size",
)


@published("treadle.torch")
def from_torch(module: nn.Module) -> Module:
    """Make a treadle module with the configuration and the weights of a PyTorch module.

    The module is a ``torch.nn.LSTM``, ``GRU``, ``RNN``, ``LSTMCell``, ``GRUCell``, ``RNNCell``,
    ``MultiheadAttention``, ``TransformerEncoderLayer``, ``TransformerEncoder``, ``LayerNorm``,
    ``Linear``, ``Conv1d``, ``Conv2d``, ``ConvTranspose1d``, ``ConvTranspose2d``, ``Embedding``,
    ``BatchNorm1d``, ``BatchNorm2d``, ``GroupNorm``, ``InstanceNorm1d``, ``InstanceNorm2d``, a pool
    in one or two dimensions (``MaxPool2d``, ``AvgPool2d``, ``AdaptiveAvgPool2d``,
    ``AdaptiveMaxPool2d``, ...), ``Upsample``, ``ZeroPad1d``, ``ZeroPad2d``, an activation,
    ``Softmax``, ``LogSoftmax``, ``Flatten``, ``Identity``, a dropout, a ``Sequential`` of them, or
    a `treadle.torch.Seq2Seq`, on the CPU in float32 or bfloat16. The weights are copied to float32
    as they are now; a dropout becomes `treadle.Identity`, since treadle runs inference.
    Reparametrized weights (such as weight_norm) are taken at their present value.

    Raises
    ------
    ImportError
        Without PyTorch.
    TypeError
        For another class of module, a subclass with its own ``forward``, an activation that treadle
        does not have, layers of one encoder that differ, another dtype (cast with
        ``module.float()``) or device (``module.cpu()``).

    Examples
    --------
    >>> import torch, treadle
    >>> treadle.from_torch(torch.nn.GRU(8, 16, bidirectional=True))
    GRU(8, 16, bidirectional=True)
    >>> treadle.from_torch(torch.nn.TransformerEncoderLayer(8, 2, 32, activation="gelu"))
    TransformerEncoderLayer(8, 2, dim_feedforward=32, activation='gelu')
    """
    try:
        torch: ModuleType = import_module("torch")
    except ImportError as error:
        raise ImportError(
            f"treadle.from_torch: PyTorch cannot be imported ({error}); pip install treadle[torch]"
        ) from error
    return _converted(torch, "module", module, {})


def _converted(
    torch: ModuleType, argument: str, module: nn.Module, known: dict[int, Module]
) -> Module:
    """Return a converted module; ``known`` has those of this call by the number of PyTorch's, so
    that a module which stands in several places of a sequence is converted once.
    """
    if id(module) not in known:
        own = OWN.get(type(module))
        if own is not None:
            known[id(module)] = own(module, partial(_converted, torch, known=known), argument)
            return known[id(module)]
        if type(module) in _dropouts(torch.nn):  # a subclass may do anything
            known[id(module)] = Identity()
            return known[id(module)]
        cls = _class(torch, argument, module, _CLASSES)
        if cls is Sequential:
            known[id(module)] = Sequential(
                {
                    name: _converted(torch, f"{argument}.{name}", child, known)
                    for name, child in module._modules.items()
                }
            )
        else:
            configuration = _configuration(torch, cls, argument, module)
            known[id(module)] = build(
                cls, configuration, partial(_part, module), "treadle.from_torch"
            )
    return known[id(module)]


def _dropouts(nn: Any) -> tuple[type[Any], ...]:
    """Return PyTorch's classes that do nothing in inference."""
    return (
        nn.Dropout,
        nn.Dropout1d,
        nn.Dropout2d,
        nn.Dropout3d,
        nn.AlphaDropout,
        nn.FeatureAlphaDropout,
    )


def _class(
    torch: ModuleType, argument: str, module: nn.Module, classes: tuple[type[Module], ...]
) -> type[Module]:
    """Return treadle's class that computes the same as a module."""
    kind = type(module)
    cls = next((c for c in classes if issubclass(kind, getattr(torch.nn, c.__name__))), None)
    if cls is None:
        expected = ", ".join(f"torch.nn.{c.__name__}" for c in classes)
        raise TypeError(
            f"treadle.from_torch: {argument} is of type {_name(type(module))}, "
            f"expected {'one of ' if len(classes) > 1 else ''}{expected}"
        )
    # The classes of treadle.torch compute the same as PyTorch's from which they derive.
    owner = next(base for base in kind.__mro__ if "forward" in vars(base))
    ours = owner.__module__.partition(".")[0] == "treadle"
    if not ours and kind.forward is not getattr(torch.nn, cls.__name__).forward:
        raise TypeError(
            f"treadle.from_torch: {argument} is of type {_name(type(module))} "
            f"with a forward of its own, expected that of torch.nn.{cls.__name__}"
        )
    return cls


def _names(cls: type[Module]) -> list[str]:
    """Return the arguments that a class shares with PyTorch's. Others are not read: a subclass of
    PyTorch's class may have an unrelated attribute of the same name.
    """
    names = arguments(cls)
    return [n for n in names if n in _RECURRENT] if issubclass(cls, RecurrentBase) else names


def _configuration(
    torch: ModuleType, cls: type[Module], argument: str, module: nn.Module
) -> dict[str, Any]:
    """Return a module's constructor arguments, as far as its class in treadle takes them."""
    own = {name: getattr(module, name) for name in _names(cls) if hasattr(module, name)}
    own.pop("dtype", None)
    if cls in _LIMITS:
        _check_limits(cls, argument, module)
    if cls is MultiheadAttention:
        own["bias"] = module.in_proj_bias is not None
        own["add_bias_kv"] = module.bias_k is not None
        for name in ("kdim", "vdim"):
            own[name] = None if own[name] == module.embed_dim else own[name]
    elif issubclass(cls, Product):
        own["bias"] = module.bias is not None
    elif cls is LayerNorm:
        own["bias"] = not module.elementwise_affine or module.bias is not None
    elif cls in _NORMS:
        own["bias"] = not module.affine or module.bias is not None
    elif cls is TransformerEncoderLayer:
        own = _layer(torch, argument, module)
    elif cls is TransformerEncoder:
        layers = [
            _part_configuration(torch, TransformerEncoderLayer, f"{argument}.layers[{i}]", one)
            for i, one in enumerate(module.layers)
        ]
        for i, one in enumerate(layers):
            if one != layers[0]:
                raise TypeError(
                    f"treadle.from_torch: {argument}.layers[{i}] has the configuration {one}, "
                    f"expected that of the first, {layers[0]}"
                )
        own |= {"encoder_layer": layers[0] if layers else None, "num_layers": len(layers)}
        if module.norm is not None:
            own["norm"] = _part_configuration(torch, LayerNorm, f"{argument}.norm", module.norm)
    return own


_NORMS = (BatchNorm1d, BatchNorm2d, GroupNorm, InstanceNorm1d, InstanceNorm2d)
# Arguments of PyTorch's classes that treadle's do not have, with the values at which they change
# nothing.
_LIMITS: dict[type[Module], dict[str, tuple[Any, ...]]] = {
    Embedding: {"max_norm": (None,)},
    BatchNorm1d: {"track_running_stats": (True,)},
    BatchNorm2d: {"track_running_stats": (True,)},
    # From the threshold on PyTorch returns x, which is softplus in float32 where x is 20 or more.
    Softplus: {"beta": (1,), "threshold": (20,)},
}


def _check_limits(cls: type[Module], argument: str, module: nn.Module) -> None:
    """Raise TypeError for an option of a module that treadle's class does not have."""
    for name, values in _LIMITS[cls].items():
        value = getattr(module, name)
        if value not in values:
            raise TypeError(
                f"treadle.from_torch: {argument}.{name} is {value!r}, "
                f"expected {values[0]!r}, the only one that treadle.{cls.__name__} has"
            )


def _part_configuration(
    torch: ModuleType, cls: type[Module], argument: str, module: nn.Module
) -> dict[str, Any]:
    """Return the configuration of a part of a module, which must be of the class ``cls``."""
    return _configuration(torch, _class(torch, argument, module, (cls,)), argument, module)


def _layer(torch: ModuleType, argument: str, module: nn.Module) -> dict[str, Any]:
    """Return the configuration of an encoder layer, which PyTorch keeps in the layer's parts."""
    attention = _part_configuration(
        torch, MultiheadAttention, f"{argument}.self_attn", module.self_attn
    )
    norms = [
        _part_configuration(torch, LayerNorm, f"{argument}.{name}", getattr(module, name))
        for name in ("norm1", "norm2")
    ]
    hidden, bias = attention["embed_dim"], attention["bias"]
    usual = {"embed_dim": hidden, "num_heads": attention["num_heads"], "bias": bias}
    usual |= {"add_bias_kv": False, "add_zero_attn": False, "kdim": None, "vdim": None}
    usual |= {"batch_first": attention["batch_first"], "dropout": attention["dropout"]}
    norm = {"normalized_shape": (hidden,), "eps": norms[0]["eps"], "bias": bias}
    norm["elementwise_affine"] = True
    for name, found, expected in (
        ("self_attn", attention, usual),
        ("norm1", norms[0], norm),
        ("norm2", norms[1], norm),
    ):
        if found != expected:
            raise TypeError(
                f"treadle.from_torch: {argument}.{name} has the configuration {found}, "
                f"expected {expected} as in the rest of the layer"
            )
    return {
        "d_model": hidden,
        "nhead": attention["num_heads"],
        "dim_feedforward": module.linear1.out_features,
        "dropout": module.dropout.p,
        "activation": _activation(torch, argument, module.activation),
        "layer_norm_eps": norm["eps"],
        "batch_first": attention["batch_first"],
        "norm_first": module.norm_first,
        "bias": bias,
    }


def _activation(torch: ModuleType, argument: str, function: nn.Module) -> Activation:
    """Return treadle's name of an activation that is a function or a module."""
    nn = torch.nn
    functions = {
        "relu": (nn.functional.relu, torch.relu),
        "gelu": (nn.functional.gelu,),
        "silu": (nn.functional.silu,),
        "clip": (nn.functional.relu6,),
        "hard_swish": (nn.functional.hardswish,),
        "tanh": (nn.functional.tanh, torch.tanh),
        "sigmoid": (nn.functional.sigmoid, torch.sigmoid),
    }
    for name, known in functions.items():
        if any(function is one for one in known):
            return name
    if type(function) is nn.GELU:
        return "gelu_tanh" if function.approximate == "tanh" else "gelu"
    modules = {
        nn.ReLU: "relu",
        nn.SiLU: "silu",
        nn.Tanh: "tanh",
        nn.Sigmoid: "sigmoid",
        nn.ReLU6: "clip",
        nn.Hardswish: "hard_swish",
    }
    if type(function) in modules:
        return modules[type(function)]
    if type(function) is nn.LeakyReLU:
        return "leaky_relu", function.negative_slope
    if type(function) is nn.ELU:
        return "elu", function.alpha
    raise TypeError(
        f"treadle.from_torch: {argument}.activation is {function!r:.100}, "
        "expected that of relu, gelu, silu, tanh, sigmoid, relu6, hardswish, LeakyReLU or ELU"
    )


def _part(module: nn.Module, name: str) -> TensorLike:
    """Return a parameter by its name, which may have dots."""
    return reduce(getattr, name.split("."), module)


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
