"""The ways to call a model of Keras with one sample on each backend; the result is waited for."""

from __future__ import annotations

import itertools
from typing import Any

import keras

from ...core.dtypes import Array
from .ways import GRAPH, JIT, NO_GRAD, PLAIN


class Run:
    """`model(x)`."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, x: Array) -> Any:
        """Return the result, which is there."""
        return self.model(x)

    def reset(self) -> None:
        """Take the states of the model, after they were set."""


class NoGrad(Run):
    """`model(x)` without what a backward pass would need."""

    def __init__(self, model: Any) -> None:
        import torch

        super().__init__(model)
        self.mode = torch.no_grad

    def __call__(self, x: Array) -> Any:
        """Return the result."""
        with self.mode():
            return self.model(x)


class Jitted(Run):
    """`model(x)` under jax.jit, as Keras' `stateless_call` does it, but with states of layers."""

    def __init__(self, model: Any) -> None:
        import jax

        super().__init__(model)
        states = [layer.states for layer in model.layers if getattr(layer, "stateful", False)]
        self.variables = [*model.variables, *itertools.chain(*states)]
        self.values: list[Any] = []
        self.step = jax.jit(self.traced)
        self.reset()

    def __call__(self, x: Array) -> Any:
        """Return the result, which is there."""
        y, self.values = self.step(self.values, x)
        return y.block_until_ready()

    def reset(self) -> None:
        """Take the values of all variables."""
        self.values = [variable.value for variable in self.variables]

    def traced(self, values: list[Any], x: Any) -> tuple[Any, list[Any]]:
        """Return the result and the values of the variables after it."""
        known = list(zip(self.variables, values, strict=True))
        with keras.StatelessScope(state_mapping=known) as scope:
            y = self.model(x)
        return y, [scope.get_current_value(variable) for variable in self.variables]


class Graph(Run):
    """`model(x)` in a graph of TensorFlow."""

    def __init__(self, model: Any) -> None:
        import tensorflow

        super().__init__(tensorflow.function(model))


RUNS = {PLAIN: Run, NO_GRAD: NoGrad, JIT: Jitted, GRAPH: Graph}


def run(model: Any, variant: str) -> Run:
    """Return the call of a model in one of the variants of `ways.variants`."""
    return RUNS[variant](model)
