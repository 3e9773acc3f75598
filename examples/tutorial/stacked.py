"""Two stacked GRU layers learn to predict a noisy series ten steps ahead.

    python examples/tutorial/stacked.py

The first layer returns its output of every step, which is the sequence that the second one reads.
It is a Keras program in which one import line is changed. Needs
`pip install "treadle[keras,torch]"`.
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")  # treadle's layers run in Keras' torch backend

import keras
from keras import Input
from keras.layers import Dense
from keras.models import Sequential
from series import NOISE, error, waves, windows

from treadle.keras.layers import GRU  # the changed line: it was `from keras.layers import GRU`

AHEAD = 10


def main() -> None:
    keras.utils.set_random_seed(0)
    x, y = windows(waves(1500, seed=1), 50, AHEAD)
    x_new, y_new = windows(waves(500, seed=2), 50, AHEAD)

    model = Sequential([Input((50, 1)), GRU(32, return_sequences=True), GRU(32), Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(0.003), loss="mse")
    model.summary()
    model.fit(x, y, epochs=15, batch_size=32, verbose=2)

    predicted = model.predict(x_new, verbose=0)
    print(f"root of the mean square error {AHEAD} steps ahead, on a series not seen before:")
    print(f"  the last value known  {error(x_new[:, -1], y_new):.3f}")
    print(f"  two GRU layers        {error(predicted, y_new):.3f}")
    print(f"  the noise itself      {NOISE:.3f}")


if __name__ == "__main__":
    main()
