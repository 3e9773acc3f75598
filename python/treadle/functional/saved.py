"""A forward pass of a recurrent layer that saves what its backward pass needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from treadle._inputs import checks
from treadle._inputs.arrays import to_dense, to_float32, to_pair
from treadle._inputs.checks import flag
from treadle._inputs.sequence import SequenceInputs, Sizes, prepare, results, trimmed
from treadle._public import published
from treadle.functional.options import OPTIONS
from treadle.functional.packing import packed
from treadle.layers.activation import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle import _core
    from treadle._inputs.types import ArrayLike, Float


@published("treadle.functional")
class Saved:
    """The values that a forward pass saves for the backward pass.

    ``nbytes`` is the size of these values: per step and row 5 H floats for LSTM, 4 H for GRU
    (3 H with the reset before the product), none for an RNN of tanh or relu without ``clip``, and
    H for another RNN. With ``recompute`` it is H for LSTM, a fifth, and none for the others. The
    packed weights are kept, too; arguments and results are only referred to.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> x, w, r = (np.ones(s, np.float32) for s in ((5, 2, 3), (16, 3), (16, 4)))
    >>> y, state, saved = treadle.functional.lstm_forward(x, w, r)
    >>> saved
    <saved by treadle.functional.lstm_forward: 800 bytes>
    """

    def __init__(
        self,
        mode: str,
        sizes: Sizes,
        native: _core.RecurrentStack,
        weights: dict[str, Float | None],
        inputs: SequenceInputs,
        unbatched: bool,
        recompute: bool,
    ) -> None:
        self._mode, self._sizes, self._native, self._weights = mode, sizes, native, weights
        self._inputs, self._unbatched = inputs, unbatched
        self._y, self._h_n, self._c_n, self._kept = native.run(
            inputs, save=True, recompute=recompute
        )

    @property
    def nbytes(self) -> int:
        """The number of bytes that the steps of the forward pass have saved."""
        return int(self._kept.nbytes)

    def __repr__(self) -> str:
        return f"<saved by {self._sizes.function}: {self.nbytes} bytes>"

    def results(self) -> tuple[Float, Float, Any]:
        """Return (y, h_n, c_n or None) in the caller's shapes."""
        return results(self._sizes, self._unbatched, self._y, self._h_n, self._c_n)

    def backward(
        self, mode: str, dy: ArrayLike | None, dh_n: ArrayLike | None, dc_n: ArrayLike | None
    ) -> dict[str, Any]:
        """Return the gradients by the names of the forward pass's arguments."""
        function = f"treadle.functional.{mode}_backward"
        if mode != self._mode:
            raise ValueError(f"{function}: saved comes from {self._mode}_forward")
        d_y = None if dy is None else self._output(function, dy)
        d_h = self._final(function, "dh_n", dh_n, self._h_n)
        d_c = self._final(function, "dc_n", dc_n, self._c_n)
        found = self._native.backward(
            self._inputs,
            weights=[self._weights],
            y=self._y,
            saved=self._kept,
            grads={"y": d_y, "h_n": d_h, "c_n": d_c},
        )
        dx = found["x"]
        gradients: dict[str, Any] = {"x": dx[:, 0] if self._unbatched else dx}
        gradients |= found["weights"][0]
        h_0, c_0, reset_h, reset_c = (
            trimmed(self._sizes, found[name], self._unbatched)
            for name in ("h_0", "c_0", "reset_h", "reset_c")
        )
        gradients["h_0"] = h_0
        if c_0 is not None:
            gradients["c_0"] = c_0
        if reset_h is not None:
            gradients["reset_state"] = reset_h if reset_c is None else (reset_h, reset_c)
        return gradients

    def _output(self, function: str, dy: ArrayLike) -> Float:
        """Check dy and return it with all three axes."""
        expected = self.results()[0].shape
        array = to_float32(function, "dy", dy, checks.fits(function, "dy", expected))
        return array[:, None] if self._unbatched else array

    def _final(self, function: str, name: str, given: ArrayLike | None, state: Any) -> Float | None:
        """Check the gradient of a final state and return it with all three axes."""
        if given is None:
            return None
        expected = state.shape[2:] if self._unbatched else state.shape[1:]
        array = to_dense(function, name, given, checks.fits(function, name, expected))
        return array.reshape(state.shape)


def run_saving(
    mode: str,
    weights: tuple[ArrayLike | None, ...],
    arrays: tuple[ArrayLike, ArrayLike | None, ArrayLike | None],
    given: Mapping[str, object],
    recompute: bool,
) -> Saved:
    """Run a forward pass that saves.

    ``arrays`` is x with the initial states, ``given`` are the options.
    """
    name = f"{mode}_forward"
    function = f"treadle.functional.{name}"
    recompute = flag(function, "recompute", recompute)
    options: dict[str, Any] = dict(given)
    known = OPTIONS[mode].__annotations__
    for option in options:
        if option not in known:
            raise TypeError(
                f"{function}: got {option!r}, expected options of treadle.functional.{mode}: "
                + ", ".join(sorted(known))
            )
    lengths, mask, resets, reset = (
        options.pop(k, None) for k in ("lengths", "mask", "resets", "reset_state")
    )
    if mode == "rnn":
        nonlinearity = options.pop("nonlinearity", "tanh")
        options["activation"] = canonical(function, "nonlinearity", nonlinearity)
    sizes, native, dense = packed(name, mode, weights, **options)
    reset_c = None
    if mode == "lstm" and reset is not None:
        reset, reset_c = to_pair(function, "reset_state", reset)
    x, h_0, c_0 = arrays
    inputs, unbatched = prepare(sizes, x, (h_0, c_0), lengths, mask, resets, (reset, reset_c))
    for name in ("lengths", "mask", "resets"):  # the caller may use these arrays again
        flags = getattr(inputs, name)
        if flags is not None:
            setattr(inputs, name, flags.copy())
    return Saved(mode, sizes, native, dense, inputs, unbatched, recompute)
