"""An LSTM learns to predict the next value of a noisy series: the program of many tutorials.

    python examples/tutorial/lstm.py

It is a Keras program in which one import line is changed: the layer comes from treadle, and all the
rest is Keras. ReLU has no upper end, so that the cell state of 100 steps can become large: the
series is made small. Needs `pip install "treadle[keras,torch]"`.
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")  # treadle's layers run in Keras' torch backend

import keras
from keras.layers import Dense
from keras.models import Sequential
from series import NOISE, error, waves, windows

from treadle.keras.layers import LSTM  # the changed line: it was `from keras.layers import LSTM`


def main() -> None:
    keras.utils.set_random_seed(0)
    x, y = windows(waves(1500, seed=1) / 10, 100)
    x_new, y_new = windows(waves(500, seed=2) / 10, 100)

    model = Sequential([LSTM(50, activation="relu", input_shape=(100, 1)), Dense(1)])
    model.compile(optimizer="adam", loss="mse")
    model.summary()
    model.fit(x, y, epochs=20, batch_size=32, verbose=2)

    predicted = model.predict(x_new, verbose=0)
    print("root of the mean square error on a series that the model has not seen:")
    print(f"  the value before    {error(x_new[:, -1], y_new):.4f}")
    print(f"  the LSTM            {error(predicted, y_new):.4f}")
    print(f"  the noise itself    {NOISE / 10:.4f}")


if __name__ == "__main__":
    main()
