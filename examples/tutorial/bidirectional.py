"""A bidirectional LSTM removes the noise of a signal: at every step it knows both sides.

    python examples/tutorial/bidirectional.py

It is a Keras program in which one import line is changed. Needs
`pip install "treadle[keras,torch]"`.
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")  # treadle's layers run in Keras' torch backend

import keras
import numpy as np
from keras import Input
from keras.layers import Dense, TimeDistributed
from keras.models import Sequential
from series import error

# The changed line: it was `from keras.layers import LSTM, Bidirectional`.
from treadle.keras.layers import LSTM, Bidirectional

LENGTH = 50


def pieces(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy pieces x [B, T, 1] of a slow random signal, and the signal itself.

    The signal is a mean of N(0, 1) over 15 steps, scaled to the variance 1; the noise has 0.5.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal((count, LENGTH + 14))
    signal = np.lib.stride_tricks.sliding_window_view(drawn, 15, axis=1).sum(-1) / np.sqrt(15)
    noisy = signal + np.sqrt(0.5) * rng.standard_normal(signal.shape)
    return noisy[..., None].astype(np.float32), signal[..., None].astype(np.float32)


def trained_error(layer: keras.Layer) -> float:
    """Train a model of one recurrent layer; return its error on pieces that it has not seen."""
    keras.utils.set_random_seed(0)
    model = Sequential([Input((None, 1)), layer, TimeDistributed(Dense(1))])
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
    x, y = pieces(seed=1, count=200)
    model.fit(x, y, epochs=25, batch_size=20, verbose=0)
    x_new, y_new = pieces(seed=2, count=50)
    return error(model.predict(x_new, verbose=0), y_new)


def main() -> None:
    x_new, y_new = pieces(seed=2, count=50)
    forward = trained_error(LSTM(32, return_sequences=True))
    both = trained_error(Bidirectional(LSTM(16, return_sequences=True)))
    print("root of the mean square error, on pieces not seen before:")
    print(f"  the noisy signal as it is     {error(x_new, y_new):.3f}")
    print(f"  an LSTM, 32 units             {forward:.3f}")
    print(f"  both directions, 16 units     {both:.3f}")


if __name__ == "__main__":
    main()
