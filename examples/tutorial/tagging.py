"""A bidirectional GRU tags the words of sentences: many words in, as many answers out.

    python examples/tutorial/tagging.py

Half of the words of this small grammar are nouns in one sentence and verbs in another ("they fish",
"the fish"), so that a tag depends on the words around. It is a Keras program in which one import
line is changed. Needs `pip install "treadle[keras,torch]"`.
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")  # treadle's layers run in Keras' torch backend

import keras
import numpy as np
from keras import Input
from keras.layers import Dense, Embedding, TimeDistributed
from keras.models import Sequential

# The changed line: it was `from keras.layers import GRU, Bidirectional`.
from treadle.keras.layers import GRU, Bidirectional

# These words are nouns and verbs.
BOTH = ["fish", "watch", "play", "water", "book", "cook", "drink", "run", "dance", "plant"]
LEXICON = {
    "DET": ["the", "a", "my", "your", "this"],
    "PRON": ["they", "we", "you", "i"],
    "ADJ": ["old", "green", "small", "quick", "plain"],
    "ADV": ["often", "never", "quickly", "here"],
    "NOUN": [*BOTH, "house", "child", "river", "night"],
    "VERB": [*BOTH, "see", "find", "like", "sell"],
    "PREP": ["in", "near", "with", "for"],
}
TAGS = ["", *LEXICON]  # 0 is no word
WORDS = sorted({word for words in LEXICON.values() for word in words})
NUMBERS = {word: number for number, word in enumerate(WORDS, 1)}
LENGTH = 16


def noun_phrase(rng: np.random.Generator) -> list[str]:
    """Draw the tags of a subject or an object."""
    if rng.random() < 0.25:
        return ["PRON"]
    return ["DET", *["ADJ"] * int(rng.integers(0, 3)), "NOUN"]


def sentence(rng: np.random.Generator) -> list[str]:
    """Draw the tags of a sentence: subject, verb, and perhaps more."""
    tags = [*noun_phrase(rng), *["ADV"] * int(rng.integers(0, 2)), "VERB"]
    tags += noun_phrase(rng) if rng.random() < 0.7 else []
    return tags + (["PREP", *noun_phrase(rng)] if rng.random() < 0.5 else [])


def sentences(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw sentences x [B, T] and their tags y [B, T], zeros behind the end."""
    rng = np.random.default_rng(seed)
    x, y = np.zeros((2, count, LENGTH), np.int32)
    for words, numbers in zip(x, y, strict=True):
        tags = sentence(rng)
        words[: len(tags)] = [NUMBERS[rng.choice(LEXICON[tag])] for tag in tags]
        numbers[: len(tags)] = [TAGS.index(tag) for tag in tags]
    return x, y


def commonest_tags(x: np.ndarray, y: np.ndarray, x_new: np.ndarray) -> np.ndarray:
    """Give each word the tag that it has most often in x and y."""
    counts = np.zeros((len(WORDS) + 1, len(TAGS)), int)
    np.add.at(counts, (x, y), 1)
    return counts.argmax(1)[x_new]


def main() -> None:
    keras.utils.set_random_seed(0)
    x, y = sentences(seed=1, count=1500)
    x_new, y_new = sentences(seed=2, count=300)

    model = Sequential(
        [
            Input((LENGTH,), dtype="int32"),
            Embedding(len(NUMBERS) + 1, 16, mask_zero=True),
            Bidirectional(GRU(16, return_sequences=True)),
            TimeDistributed(Dense(len(TAGS), activation="softmax")),
        ]
    )
    model.compile(optimizer=keras.optimizers.Adam(0.005), loss="sparse_categorical_crossentropy")
    model.summary()
    model.fit(x, y, epochs=6, batch_size=32, verbose=2)

    there = x_new > 0
    predicted = model.predict(x_new, verbose=0).argmax(-1)
    print("share of the words of new sentences that have the right tag:")
    print(
        f"  each word's commonest tag  {np.mean((commonest_tags(x, y, x_new) == y_new)[there]):.1%}"
    )
    print(f"  the GRU                    {np.mean((predicted == y_new)[there]):.1%}")
    for words, tags in zip(x_new[:2], predicted[:2], strict=True):
        print(
            " ",
            " ".join(f"{WORDS[w - 1]}/{TAGS[t]}" for w, t in zip(words, tags, strict=True) if w),
        )


if __name__ == "__main__":
    main()
