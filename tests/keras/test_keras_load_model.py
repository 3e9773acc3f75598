"""Models of `treadle.keras.load`: files of Keras 2, streams, summaries, dtypes, saved models."""

import contextlib
import copy
import io
import os
import pickle

import keras
import numpy as np
import pytest

import treadle
from reference import graph as reference
from support import child, keras_files
from support.keras_checks import L, check, draw, ids, named, normal, quiet, saved, sequential
from support.keras_models import MODELS
from support.tolerance import assert_close, assert_same_bits
from treadle.keras import load

X, IDS = normal(1, 3, 12, 4), ids(2, 3, 12)


def words():
    return L.Embedding(5, 4, mask_zero=True)


@pytest.mark.parametrize("name", keras_files.MODELS)
def test_files_of_other_versions(isa, name, tmp_path):
    """treadle and the Keras that made the file err by rounding alone, each at most twice what the
    other does.
    """
    loaded = load(keras_files.unpacked(name, tmp_path))
    inputs, outputs, _ = keras_files.expected(name)
    given = {
        value.name: x.astype(value.dtype) for value, x in zip(loaded.inputs, inputs, strict=True)
    }
    exact = list(reference.run(loaded.graph, given).values())
    found = list(named(loaded(**given), range(len(outputs))).values())
    for ours, theirs, truth in zip(found, outputs, exact, strict=True):
        assert_close([ours], [truth], [theirs])
        assert_close([theirs], [truth], [ours])


@pytest.mark.parametrize(
    "name", ["keras2_convolutions_only.h5", "keras2_convolutions_only.weights.h5"]
)
def test_weights_beside_a_configuration(name, tmp_path):
    path = keras_files.unpacked(name, tmp_path)
    whole = load(keras_files.unpacked("keras2_convolutions.h5", tmp_path))
    inputs, _, _ = keras_files.expected(name)
    for config in (keras_files.CONFIG, keras_files.CONFIG.read_text(), keras_files.config()):
        loaded = load(path, config=config)
        found, wanted = loaded(*inputs), whole(*inputs)
        for one, other in zip(named(found, [0]).values(), named(wanted, [0]).values(), strict=True):
            assert_same_bits(one, other)


@pytest.mark.parametrize("name", MODELS)
def test_models_of_many_layers(name, tmp_path):
    """Every layer that files are read with has a meaning, in models of all of them."""
    with quiet():
        model = MODELS[name]()
    loaded = load(saved(model, tmp_path))
    random = np.random.default_rng(1)
    inputs = {}
    for value in loaded.inputs:
        shape = [size if isinstance(size, int) else 3 + i for i, size in enumerate(value.shape)]
        drawn = random.integers(1, 9, shape) if value.dtype == "int32" else random.random(shape)
        inputs[value.name] = drawn.astype(value.dtype)
    given = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    with quiet():
        theirs = [one.detach().numpy() for one in keras.tree.flatten(model(given))]
    found = list(named(loaded(**inputs), range(len(theirs))).values())
    assert [a.shape for a in sorted(found, key=np.sum)] == [
        a.shape for a in sorted(theirs, key=np.sum)
    ]


# -- streams --------------------------------------------------------------------------------------

CAUSAL = {
    "many to one": (X, lambda: [L.LSTM(6, activation="relu"), L.Dense(2)]),
    "many to many": (
        X, lambda: [L.LSTM(6, return_sequences=True), L.GRU(5, return_sequences=True), L.Dense(2)]
    ),
    "masking": (
        np.where(normal(3, 3, 12, 1) > 0, X, np.float32(0)),
        lambda: [L.Masking(), L.GRU(5, return_sequences=True), L.LSTM(3, return_sequences=True)],
    ),
    "words": (
        IDS, lambda: [words(), L.LSTM(6, return_sequences=True), L.LSTM(6, return_sequences=True)]
    ),
    "words to one": (IDS, lambda: [words(), L.SimpleRNN(6, return_sequences=True), L.GRU(6)]),
    "zeroed": (IDS, lambda: [words(), L.LSTM(6, return_sequences=True, zero_output_for_mask=True)]),
    "convolutions": (
        X,
        lambda: [
            L.Conv1D(5, 3, padding="causal", activation="relu"), L.BatchNormalization(),
            L.SeparableConv1D(4, 1), L.LayerNormalization(), L.LSTM(3, return_sequences=True),
        ],
    ),
    "each step": (
        X, lambda: [L.TimeDistributed(L.Dense(3, activation="softmax")), L.GRU(2, stateful=False)]
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CAUSAL)
@pytest.mark.parametrize("length", [12, None])
def test_streams_are_the_whole_sequence(case, length, tmp_path):
    """A stream takes chunks of any length, whatever length the file says."""
    given, layers = CAUSAL[case]
    shape, dtype = (length, *given.shape[2:]), "int32" if given is IDS else None
    with quiet():
        model = draw(keras.Sequential([keras.Input(shape, dtype=dtype), *layers()]))
    loaded = load(saved(model, tmp_path))
    whole = loaded(given)
    for again in (loaded, _saved_again(loaded, tmp_path)):
        for borders in ((1, 2, 3, 9), range(1, 12), ()):
            s = again.stream(3)
            parts = [s.step(part) for part in np.split(given, borders, 1)]
            found = np.concatenate(parts, 1) if whole.ndim == 3 else parts[-1]
            assert_same_bits(found, whole)


def _saved_again(loaded, folder):
    loaded.save(folder / "again.safetensors")
    return treadle.load(folder / "again.safetensors")


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (lambda: L.Bidirectional(L.LSTM(2)), "its direction is bidirectional"),
        (lambda: L.GRU(2, go_backwards=True), "its direction is reverse"),
        (lambda: L.Conv1D(2, 3, padding="same"), "it looks 1 frames ahead"),
        (lambda: L.GlobalAveragePooling1D(), "it is over all of time"),
        (lambda: L.Flatten(), "mixes time|not known where the frames go"),
        (lambda: L.Conv1D(2, 2, strides=2), "it makes a frame of several"),
    ],
)
def test_models_that_do_not_stream(layer, reason, tmp_path):
    with quiet():
        model = keras.Sequential([keras.Input((12, 4)), layer()])
    with pytest.raises(ValueError, match=reason):
        load(saved(model, tmp_path)).stream()


def test_pools_of_streams(tmp_path):
    make = sequential(lambda: L.LSTM(5), lambda: L.Dense(1), shape=(12, 4))
    loaded = check(make, [X], tmp_path)
    pool = treadle.StreamPool(loaded, 3)
    streams = [pool.open() for _ in range(3)]
    for part in np.split(X, [4, 5], 1):
        last = pool.step({stream: part[row] for row, stream in enumerate(streams)})
    for row, stream in enumerate(streams):
        assert_same_bits(last[stream], loaded(X)[row])


# -- what a model says and keeps ------------------------------------------------------------------


def printed(model, **options):
    lines = []
    with quiet():
        model.summary(print_fn=lines.append, **options)
    return "".join(lines)


SUMMARIES = {
    **MODELS,
    "chain": lambda: keras.Sequential(
        [keras.Input((100, 1)), L.LSTM(50, activation="relu"), L.Dense(1)], name="chain"
    ),
    "batch": lambda: keras.Sequential(
        [keras.Input(batch_shape=(32, None, 3)), L.GRU(700, stateful=True), L.BatchNormalization()]
    ),
}


@pytest.mark.parametrize("case", SUMMARIES)
@pytest.mark.parametrize("options", [{}, {"line_length": 60}, {"line_length": 106}])
def test_summary_is_that_of_keras(case, options, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    with quiet():
        model = SUMMARIES[case]()
    wanted = printed(model, **options)
    loaded = load(saved(model, tmp_path))
    for one in (loaded, _saved_again(loaded, tmp_path), loaded.to("int8"), copy.deepcopy(loaded)):
        assert printed(one, **options) == wanted
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert loaded.summary(**options) is None
    assert shown.getvalue() == wanted


def test_summary_needs_layers(tmp_path):
    with quiet():
        model = keras.Sequential([keras.Input((3, 4)), L.LSTM(2)])
    loaded = load(saved(model, tmp_path))
    with pytest.raises(ValueError, match="line_length is 9, expected more for 3 columns"):
        loaded.summary(line_length=9)
    other = treadle.Model(loaded.graph, optimised=True)
    with pytest.raises(ValueError, match="no table of layers"):
        other.summary()


def test_copies_and_dtypes(tmp_path):
    make = sequential(lambda: L.LSTM(40), lambda: L.Dense(3), shape=(12, 4))
    loaded = check(make, [X], tmp_path)
    wanted = loaded(X)
    for one in (
        pickle.loads(pickle.dumps(loaded)),
        copy.copy(loaded),
        _saved_again(loaded, tmp_path),
    ):
        assert_same_bits(one(X), wanted)
        assert one.time == {loaded.inputs[0].name: 1}
    small = loaded.to("int8")
    assert small.weight_bytes < loaded.weight_bytes / 2
    assert 0 < np.abs(small(X) - wanted).max() < 0.05 * np.abs(wanted).max()
    assert loaded.products == ["lstm", "dense"]
    assert_same_bits(_saved_again(small, tmp_path)(X), small(X))


def test_neither_keras_nor_a_framework_is_needed(tmp_path):
    with quiet():
        model = draw(keras.Sequential([keras.Input((12, 4)), L.LSTM(5), L.Dense(1)]))
    path = saved(model, tmp_path)
    child.run(
        f"""
        import sys
        for name in ("keras", "torch", "tensorflow", "h5py"):
            sys.modules[name] = None
        import numpy as np, treadle.keras
        model = treadle.keras.load({os.fspath(path)!r})
        assert model(np.zeros((2, 12, 4), np.float32)).shape == (2, 1)
        """
    )


def test_what_is_refused(tmp_path):
    with quiet():
        x = keras.Input((12, 4))
        model = keras.Model(x, L.LSTM(5, activation="softmax", name="net")(x))
    with pytest.raises(ValueError, match=r"layer 'net' \(LSTM\) has the activation 'softmax'"):
        load(saved(model, tmp_path))
    with pytest.raises(TypeError, match="path"):
        load(3)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.keras")
