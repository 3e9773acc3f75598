"""This script made tests/keras/files: models of Keras 2 and Keras 3.0, and what they compute.

    python3.11 -m venv old && old/bin/pip install "tensorflow-cpu==2.15.*"
    old/bin/python tests/support/make_keras_files.py tests/keras/files

writes the files whose names begin with "keras2_"; with "tensorflow-cpu==2.13.*" those that begin
with "keras213_", whose groups have other names; and

    python3.11 -m venv three && three/bin/pip install keras==3.0.5 "torch==2.2.*" "numpy<2" h5py
    KERAS_BACKEND=torch three/bin/python tests/support/make_keras_files.py tests/keras/files

those that begin with "keras3_". All are compressed, as HDF5 is mostly zeros. Beside each model is
an .npz file: arrays x0, x1, ... for the inputs, y0, y1, ... for the outputs, and w00, w01, ... for
the weights.
"""

import gzip
import importlib
import json
import pathlib
import sys
import tempfile

import numpy as np

try:
    from tensorflow import keras
except ImportError:
    import keras

layers = keras.layers


def lstm():
    """Return the tutorial's stack, whose first layer says the shape of the input."""
    return keras.Sequential(
        [
            layers.LSTM(5, activation="relu", input_shape=(7, 2), return_sequences=True),
            layers.Dropout(0.2),
            layers.LSTM(4, recurrent_activation="hard_sigmoid", go_backwards=True),
            layers.Dense(1),
        ],
        name="tutorial",
    )


def gru():
    """Return both sorts of GRU, one of which gives its state."""
    x = keras.Input((6, 3), name="x")
    y, state = layers.GRU(4, reset_after=True, return_sequences=True, return_state=True)(x)
    z = layers.GRU(4, reset_after=False, name="before")(y, initial_state=state)
    return keras.Model(x, [z, state], name="grus")


def tagger():
    """Return a masked, bidirectional net with an output a step."""
    return keras.Sequential(
        [
            layers.Embedding(11, 3, mask_zero=True, **({"input_length": 8} if is_two() else {})),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True), merge_mode="sum"),
            layers.Bidirectional(layers.GRU(2, return_sequences=True)),
            layers.TimeDistributed(layers.Dense(2, activation="softmax")),
        ],
        name="tagger",
    )


def masked():
    """Return a masked SimpleRNN."""
    return keras.Sequential(
        [
            keras.Input((5, 2)),
            layers.Masking(-1.0),
            layers.SimpleRNN(3, return_sequences=True),
            layers.SimpleRNN(2, use_bias=False),
        ],
        name="masked",
    )


def convolutions():
    """Return convolutions, pools and norms."""
    return keras.Sequential(
        [
            keras.Input((12, 3)),
            layers.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="swish"),
            layers.BatchNormalization(),
            layers.ReLU(max_value=6.0, negative_slope=0.1),
            layers.SeparableConv1D(5, 2),
            layers.MaxPooling1D(),
            layers.LayerNormalization(),
            layers.LeakyReLU(alpha=0.2) if is_two() else layers.LeakyReLU(negative_slope=0.2),
            layers.Flatten(),
            layers.Dense(2),
        ],
        name="convolutions",
    )


def functional():
    """Return a graph: two inputs, a shared layer, models in it, one of them partly frozen."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    features = keras.Input((4,), name="features")
    side = keras.Input((3,))
    inner = keras.Model(side, layers.Dense(3, activation="tanh", name="deep")(side), name="inner")
    frozen = layers.Dense(3, name="frozen")
    frozen.trainable = False
    outer = keras.Sequential(
        [
            keras.Input((4,)),
            frozen,
            layers.BatchNormalization(name="norm"),
            layers.Dense(3, name="free"),
        ],
        name="outer",
    )
    shared = layers.Dense(3, name="shared")
    states = [layers.Dense(3, name="h")(features), layers.Dense(3, name="c")(features)]
    x = layers.Embedding(9, 4, name="words")(tokens)
    x = layers.LSTM(3, name="reader")(x, initial_state=states)
    second = inner(shared(states[0]))
    joined = layers.Concatenate()([inner(shared(x)), second, outer(features)])
    outputs = [layers.Dense(2, name="out")(joined), second]
    return keras.Model([tokens, features], outputs, name="graph")


def is_two():
    """Return whether this is Keras 2."""
    return not hasattr(keras, "ops")


def inputs(model, random):
    """Return inputs that a model can take: tokens of 0 to 8, or numbers with masked steps."""
    found = []
    for tensor in model.inputs:
        shape = [size or 6 for size in (3, *tuple(tensor.shape)[1:])]
        if "int" in str(tensor.dtype) or model.name == "tagger":
            x = random.integers(0, 9, shape).astype(np.int32)
        else:
            x = random.normal(size=shape).astype(np.float32)
        if model.name == "masked":
            x[0, 3:] = x[1, 0] = -1.0
        found.append(x)
    return found


def save(model, target, weights=False):
    """Write a model, or its weights, into a compressed file."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / target.name
        if weights:
            model.save_weights(path)
        elif path.suffix == ".h5":
            model.save(path, include_optimizer=False)
        else:
            model.save(path)
        target.with_name(f"{target.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))


def main(folder):
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    old = is_two() and importlib.import_module("keras").__version__.startswith("2.13.")
    prefix = "keras213" if old else "keras2" if is_two() else "keras3"
    makers = [lstm, gru, tagger, masked, convolutions, functional]
    for make in [tagger] if old else makers if is_two() else [gru, tagger, functional]:
        model = make()
        if not model.built:
            model.build((None, 8))
        model.set_weights(
            [random.uniform(0.1, 0.9, w.shape).astype(w.dtype) * 0.5 for w in model.get_weights()]
        )
        x = inputs(model, random)
        y = model.predict(x if len(x) > 1 else x[0], verbose=0)
        y = y if isinstance(y, list | tuple) else [y]
        stem = folder / f"{prefix}_{make.__name__}"
        np.savez_compressed(
            f"{stem}.npz",
            **{f"x{i}": value for i, value in enumerate(x)},
            **{f"y{i}": value for i, value in enumerate(y)},
            **{f"w{i:02}": value for i, value in enumerate(model.get_weights())},
        )
        if is_two() and not old:
            save(model, stem.with_suffix(".h5"))
        if old or not is_two() or make is functional:
            save(model, stem.with_suffix(".keras"))
        if is_two() and make is convolutions:
            save(model, folder / f"{stem.name}_only.h5", weights=True)
            save(model, folder / f"{stem.name}_only.weights.h5", weights=True)
            stem.with_suffix(".json").write_text(json.dumps(json.loads(model.to_json())))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
