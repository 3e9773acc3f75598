"""The activations, their parameters and defaults.

An activation is written as its name, or as a tuple ``(name, alpha)`` or ``(name, alpha, beta)``:

====================  =========================================  =====================
name                  value                                      defaults
====================  =========================================  =====================
``tanh``              tanh(x)
``sigmoid``           1 / (1 + exp(-x))
``relu``              max(0, x)
``linear``, None      x
``softsign``          x / (1 + abs(x))
``softplus``          log(1 + exp(x))
``hard_sigmoid``      min(1, max(0, alpha x + beta))             alpha 1/6, beta 1/2
``elu``               x if x >= 0 else alpha (exp(x) - 1)        alpha 1
``leaky_relu``        x if x >= 0 else alpha x                   alpha 0.01
``thresholded_relu``  x if x > alpha else 0                      alpha 1
``affine``            alpha x + beta                             alpha 1, beta 0
``scaled_tanh``       alpha tanh(beta x)                         alpha 1, beta 1
``gelu``              x (1 + erf(x / sqrt(2))) / 2
``gelu_tanh``         x (1 + tanh(sqrt(2 / pi)
                      (x + 0.044715 x^3))) / 2
``silu``              x / (1 + exp(-x))
``hard_swish``        x min(1, max(0, x / 6 + 1 / 2))
``clip``              min(beta, max(alpha, x))                   alpha 0, beta 6
====================  =========================================  =====================

The list is that of the ONNX operators RNN, GRU and LSTM (ONNX operator specification), with those
of transformers and convolutional nets added (GELU: Hendrycks and Gimpel, arXiv:1606.08415; hard
swish: Howard et al., arXiv:1905.02244; clip with its defaults is ReLU6). The default
``hard_sigmoid`` is PyTorch's and Keras 3's; ONNX's is ``("hard_sigmoid", 0.2, 0.5)``.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from treadle._inputs.checks import number, shown

Activation: TypeAlias = str | tuple[str, float] | tuple[str, float, float] | None

# Each activation's name, and the defaults of the parameters that it takes.
_PARAMETERS: dict[str, tuple[float, ...]] = {
    "tanh": (),
    "sigmoid": (),
    "relu": (),
    "linear": (),
    "softsign": (),
    "softplus": (),
    "hard_sigmoid": (1 / 6, 1 / 2),
    "elu": (1.0,),
    "leaky_relu": (0.01,),
    "thresholded_relu": (1.0,),
    "affine": (1.0, 0.0),
    "scaled_tanh": (1.0, 1.0),
    "gelu": (),
    "gelu_tanh": (),
    "silu": (),
    "hard_swish": (),
    "clip": (0.0, 6.0),
}


def canonical(function: str, argument: str, value: object) -> str | tuple[Any, ...]:
    """Return the shortest form of an activation: its name alone if its parameters are the defaults.

    Raises TypeError for anything but a name, a tuple (name, alpha[, beta]) or None, ValueError for
    an unknown name, a parameter that the activation does not have or one that is not finite.

    >>> canonical("treadle.GRU", "activation", ("elu", 1))
    'elu'
    >>> canonical("treadle.GRU", "activation", ("hard_sigmoid", 0.2))
    ('hard_sigmoid', 0.2, 0.5)
    """
    if type(value) is str and value in _PARAMETERS:  # the usual case has to be fast
        return value
    name, *given = ("linear",) if value is None else _as_tuple(function, argument, value)
    if not isinstance(name, str):
        raise TypeError(f"{function}: {argument} is {shown(value)}, expected a name in the tuple")
    defaults = _PARAMETERS.get(name)
    if defaults is None:
        raise ValueError(
            f"{function}: {argument} is {shown(name)}, expected one of {', '.join(_PARAMETERS)}"
        )
    if len(given) > len(defaults):
        raise ValueError(
            f"{function}: {argument} gives {len(given)} parameters to {name}, "
            f"expected at most {len(defaults)}"
        )
    parameters = tuple(_parameter(function, argument, number) for number in given)
    parameters += defaults[len(parameters) :]
    return name if parameters == defaults else (name, *parameters)


def parse(function: str, argument: str, value: object) -> tuple[str, float, float]:
    """Return an activation as (name, alpha, beta); a parameter that it does not have is zero.

    >>> parse("treadle.GRU", "recurrent_activation", "hard_sigmoid")
    ('hard_sigmoid', 0.16666666666666666, 0.5)
    >>> parse("treadle.GRU", "activation", None)
    ('linear', 0.0, 0.0)
    """
    short = canonical(function, argument, value)
    name = short if isinstance(short, str) else short[0]
    parameters: tuple[float, ...] = _PARAMETERS[name] if isinstance(short, str) else short[1:]
    alpha, beta, *_ = (*parameters, 0.0, 0.0)
    return name, alpha, beta


def _as_tuple(function: str, argument: str, value: object) -> tuple[object, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple) and value:  # JSON has lists only
        return tuple(value)
    raise TypeError(
        f"{function}: {argument} is {shown(value)}, expected a name, "
        "a tuple (name, alpha[, beta]) or None"
    )


def _parameter(function: str, argument: str, value: object) -> float:
    return number(function, f"{argument} has a parameter that", value)
