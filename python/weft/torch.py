"""PyTorch's modules as weft's. PyTorch is a guest: nothing else in the package imports it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from weft.cells import GRUCell, LSTMCell, RNNCell
from weft.module import Module
from weft.recurrent import GRU, LSTM, RNN

_CLASSES: tuple[type[Module], ...] = (LSTM, GRU, RNN, LSTMCell, GRUCell, RNNCell)


def from_torch(module: Any) -> Module:
    """A weft module with the configuration and the weights of a PyTorch module.

    Takes ``torch.nn.LSTM``, ``GRU``, ``RNN``, ``LSTMCell``, ``GRUCell`` and ``RNNCell`` on the CPU
    in float32. The weights are copied as they are now; dropout is left out, since weft runs
    inference. Reparametrized weights (such as weight_norm) are taken at their present value.

    Raises ImportError without PyTorch; TypeError for another class of module, a subclass with its
    own ``forward``, another dtype (cast with ``module.float()``) or device (``module.cpu()``).

    >>> import torch, weft
    >>> weft.from_torch(torch.nn.GRU(8, 16, bidirectional=True))
    GRU(8, 16, bidirectional=True)
    """
    try:
        nn = import_module("torch").nn
    except ImportError as error:
        raise ImportError(
            f"weft.from_torch: PyTorch cannot be imported ({error}); pip install weft[torch]"
        ) from error
    cls = next((c for c in _CLASSES if isinstance(module, getattr(nn, c.__name__))), None)
    if cls is None:
        expected = ", ".join(f"torch.nn.{c.__name__}" for c in _CLASSES)
        raise TypeError(
            f"weft.from_torch: module is of type {_name(type(module))}, expected one of {expected}"
        )
    if type(module).forward is not getattr(nn, cls.__name__).forward:
        raise TypeError(
            f"weft.from_torch: module is of type {_name(type(module))} with a forward of its own, "
            f"expected that of torch.nn.{cls.__name__}"
        )
    configuration = {name: getattr(module, name) for name in cls._defaults if hasattr(module, name)}
    configuration.pop("dtype", None)
    result = cls._restore(configuration)
    shapes = result._shapes()
    weights = {name: getattr(module, name) for name in shapes}
    result._set(cls._copies("weft.from_torch", weights, shapes))
    return result


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
