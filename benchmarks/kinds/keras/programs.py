"""The programs of Keras' tutorials, as a worker runs them on the backend of its process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ...core.dtypes import Array
from . import calls
from .cases import EMBEDDING, EMPTY, FIT, MASKING, PREDICT, WORDS, KerasCase
from .data import KerasInputs, Order
from .ways import PLAIN

LAYERS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}


def unchanged(model: Any) -> None:
    """Leave a model as it is."""


def build(order: Order, backend: str, change: Callable[[Any], None] = unchanged) -> Any:
    """Return the program of an order; `change` is done to its model before it is compiled."""
    set_dtype(order.floatx)
    case, inputs = order.case, order.inputs
    model = model_of(case, stateful_options(case, backend) if change is unchanged else {})
    model.set_weights(inputs.weights)
    change(model)
    if case.group == FIT:
        return _Fit(model, inputs, case.B)
    if case.group == PREDICT:
        return _Predict(model, inputs)
    run = calls.run(model, order.variant or PLAIN)
    return (_Step if case.T == 1 else _Call)(model, inputs, run)


def stateful_options(case: KerasCase, backend: str) -> dict[str, Any]:
    """Return what lets Keras fit a stateful LSTM or GRU on PyTorch.

    Keras 3.15 cannot otherwise (keras#23462): the loop that it has for them writes to the states
    that the backward pass needs, and the loop for any cell copies them.
    """
    return {"use_cudnn": False} if case.stateful and backend == "torch" else {}


def model_of(case: KerasCase, options: dict[str, Any]) -> Any:
    """Return the model as a learner writes it; `options` go to the recurrent layers."""
    shape = (case.T,) if case.mask == EMBEDDING else (case.T, case.I)
    rows = case.B if case.carried else None
    found: list[Any] = [keras.Input(batch_shape=(rows, *shape))]
    if case.mask == EMBEDDING:
        found.append(keras.layers.Embedding(WORDS, case.I, mask_zero=True))
    elif case.mask == MASKING:
        found.append(keras.layers.Masking())
    for layer in range(case.L):
        sequences = layer < case.L - 1
        found.append(_recurrent(case, options | {"return_sequences": sequences}))
    return keras.Sequential([*found, keras.layers.Dense(1)])


def _recurrent(case: KerasCase, options: dict[str, Any]) -> Any:
    if case.cell == EMPTY:
        return Empty(case.H)
    made = LAYERS[case.cell]
    layer = made(case.H, activation=case.activation, stateful=case.carried, **options)
    return keras.layers.Bidirectional(layer) if case.D == 2 else layer


class Empty(keras.layers.Layer):  # type: ignore[misc]  # a class of no known type
    """A layer with the weights of an LSTM that multiplies the last step, and nothing before."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = units

    def build(self, shape: tuple[int, ...]) -> None:
        outer = 4 * self.units
        self.kernel = self.add_weight(shape=(shape[-1], outer))
        self.recurrent_kernel = self.add_weight(shape=(self.units, outer))
        self.bias = self.add_weight(shape=(outer,))

    def call(self, x: Any) -> Any:
        gates = keras.ops.matmul(x[:, -1], self.kernel) + self.bias + self.recurrent_kernel[0]
        return gates[:, : self.units]


class _Program:
    """A program has a model and the samples that it sees."""

    def __init__(self, model: Any, inputs: KerasInputs) -> None:
        self.model, self.inputs = model, inputs
        self.one = inputs.x[:1].copy()
        self._floatx = keras.config.floatx()

    def restore(self) -> None:
        """Begin again, with states of zeros; programs of one process may differ in dtype."""
        set_dtype(self._floatx)
        for layer in self.model.layers:
            if getattr(layer, "stateful", False):
                layer.reset_state()


class _Fit(_Program):
    """One epoch, from the same weights each time."""

    def __init__(self, model: Any, inputs: KerasInputs, rows: int) -> None:
        super().__init__(model, inputs)
        self.rows = rows
        model.compile(optimizer="adam", loss="mse")
        model.optimizer.build(model.trainable_variables)
        variables = (*model.variables, *model.optimizer.variables)
        self._variables = list({id(variable): variable for variable in variables}.values())
        self._first = [array(variable) for variable in self._variables]

    def restore(self) -> None:
        """Give the model and its optimizer their first values."""
        super().restore()
        for variable, value in zip(self._variables, self._first, strict=True):
            variable.assign(value)

    def call(self) -> Any:
        """Fit for one epoch."""
        x, y = self.inputs.x, self.inputs.y
        return self.model.fit(x, y, batch_size=self.rows, shuffle=False, verbose=0)

    def answer(self) -> list[Array]:
        """Return the loss and what the weights become."""
        self.restore()
        loss = self.call().history["loss"]
        return [np.array(loss), *map(array, self.model.weights)]


class _Predict(_Program):
    """`model.predict` of one sample."""

    def call(self) -> Any:
        """Predict."""
        return self.model.predict(self.one, verbose=0)

    def answer(self) -> list[Array]:
        """Return the predictions for each sample alone."""
        self.restore()
        rows = [self.model.predict(row[None], verbose=0) for row in self.inputs.x]
        return [np.concatenate(rows)]


class _Call(_Program):
    """A call of the model with one sample."""

    def __init__(self, model: Any, inputs: KerasInputs, run: calls.Run) -> None:
        super().__init__(model, inputs)
        self.run = run

    def call(self) -> Any:
        """Make the call."""
        return self.run(self.one)

    def answer(self) -> list[Array]:
        """Return the results for each sample alone."""
        self.restore()
        return [np.concatenate([array(self.run(row[None])) for row in self.inputs.x])]


class _Step(_Program):
    """A call of a stateful model with one time step."""

    def __init__(self, model: Any, inputs: KerasInputs, run: calls.Run) -> None:
        super().__init__(model, inputs)
        self.run = run
        self.steps = self.one[0][:, None, None]  # [T, 1, 1, I]

    def restore(self) -> None:
        """Begin a new sequence."""
        super().restore()
        self.run.reset()

    def call(self) -> Any:
        """Make a step."""
        return self.run(self.steps[0])

    def answer(self) -> list[Array]:
        """Return the results after each step of one sample."""
        self.restore()
        return [np.stack([array(self.run(x)) for x in self.steps])]


def set_dtype(name: str) -> None:
    """Let Keras make variables, and compute losses, in a dtype."""
    keras.config.set_floatx(name)
    keras.config.set_dtype_policy(name)


def array(value: Any) -> Array:
    """Return a variable or a tensor as an array of its own."""
    return np.array(keras.ops.convert_to_numpy(value))
