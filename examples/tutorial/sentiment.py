"""An LSTM tells whether a review praises: many words in, one answer out.

    python examples/tutorial/sentiment.py

The reviews come from a small grammar in which "not" and "never" turn an adjective around, so that
words by themselves do not tell: "the plot was not dull" praises. A review ends where its words do:
the embedding hides the zeros behind them by a mask. It is a Keras program in which one import line
is changed. Needs `pip install "treadle[keras,torch]"`.
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")  # treadle's layers run in Keras' torch backend

import keras
import numpy as np
from keras import Input
from keras.layers import Dense, Embedding
from keras.models import Sequential

from treadle.keras.layers import LSTM  # the changed line: it was `from keras.layers import LSTM`

GOOD = ["good", "great", "lovely", "funny", "clever", "moving", "bright"]
BAD = ["bad", "dull", "boring", "silly", "awful", "weak", "tired"]
THINGS = ["film", "story", "plot", "cast", "ending", "music"]
FILLERS = ["really", "quite", "so"]
TURNS = ["not", "never"]
WORDS = [*GOOD, *BAD, *THINGS, *FILLERS, *TURNS, "the", "was", "and"]
NUMBERS = {word: number for number, word in enumerate(WORDS, 1)}  # 0 is no word
LENGTH = 20


def review(rng: np.random.Generator, praises: bool) -> str:
    """Draw a review of one to three clauses, such as "the plot was not dull"."""
    clauses = []
    for _ in range(rng.integers(1, 4)):
        turned = rng.random() < 0.5
        words = ["the", rng.choice(THINGS), "was"]
        words += [rng.choice(TURNS)] if turned else []
        words += [rng.choice(FILLERS)] if rng.random() < 0.5 else []
        words += [rng.choice(GOOD if praises != turned else BAD)]
        clauses.append(" ".join(words))
    return " and ".join(clauses)


def encode(texts: list[str]) -> np.ndarray:
    """Return the numbers of the words, [B, T], zeros behind the end of a review."""
    x = np.zeros((len(texts), LENGTH), np.int32)
    for row, text in zip(x, texts, strict=True):
        numbers = [NUMBERS[word] for word in text.split()]
        row[: len(numbers)] = numbers
    return x


def reviews(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw reviews x [B, T] and whether they praise, y [B, 1]."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    return encode([review(rng, bool(label)) for label in labels]), labels[:, None]


def adjectives_alone(x: np.ndarray) -> np.ndarray:
    """Guess by counting good and bad words, as one would without an order of words."""
    good = np.isin(x, [NUMBERS[word] for word in GOOD]).sum(1)
    bad = np.isin(x, [NUMBERS[word] for word in BAD]).sum(1)
    return (good >= bad).astype(int)[:, None]


def main() -> None:
    keras.utils.set_random_seed(0)
    x, y = reviews(seed=1, count=2000)
    x_new, y_new = reviews(seed=2, count=500)

    model = Sequential(
        [
            Input((LENGTH,), dtype="int32"),
            Embedding(len(NUMBERS) + 1, 16, mask_zero=True),
            LSTM(32),
            Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer=keras.optimizers.Adam(0.003), loss="binary_crossentropy")
    model.summary()
    model.fit(x, y, epochs=6, batch_size=32, verbose=2)

    predicted = model.predict(x_new, verbose=0) > 0.5
    print("share of new reviews that are understood:")
    print(f"  good and bad words counted  {np.mean(adjectives_alone(x_new) == y_new):.1%}")
    print(f"  the LSTM                    {np.mean(predicted == y_new):.1%}")
    for text in ("the film was not boring", "the cast was so weak and the plot was never clever"):
        print(f"  {text!r}: {model.predict(encode([text]), verbose=0)[0, 0]:.0%} praise")


if __name__ == "__main__":
    main()
