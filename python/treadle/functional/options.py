"""The options of the recurrent functions: one TypedDict for each mode.

`lstm_forward` takes every option that `lstm` takes, and so for the other modes. Each of these types
lists them for type checkers and readers; tests compare it with the signature of its function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike
    from treadle.layers.activation import Activation


class SequenceOptions(TypedDict, total=False):
    """The options that all modes have."""

    clip: float | None
    reverse: bool
    batch_first: bool
    lengths: ArrayLike | None
    mask: ArrayLike | None
    resets: ArrayLike | None


class RNNOptions(SequenceOptions, total=False):
    """The options of `treadle.functional.rnn`."""

    nonlinearity: Activation
    reset_state: ArrayLike | None


class LSTMOptions(SequenceOptions, total=False):
    """The options of `treadle.functional.lstm`, without the arrays weight_hr and peepholes."""

    activation: Activation
    recurrent_activation: Activation
    output_activation: Activation
    input_forget: bool
    reset_state: tuple[ArrayLike, ArrayLike] | None


class GRUOptions(SequenceOptions, total=False):
    """The options of `treadle.functional.gru`."""

    activation: Activation
    recurrent_activation: Activation
    reset_after: bool
    reset_state: ArrayLike | None


OPTIONS = {"rnn": RNNOptions, "lstm": LSTMOptions, "gru": GRUOptions}
"""Mode -> the type of its options."""
