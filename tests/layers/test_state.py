"""Export and import of a stream's state: the bytes are as untrusted as a file."""

import functools

import numpy as np
import pytest

import treadle
from support import hostile, samples
from support.checks import make_module
from support.ids import shown
from support.tolerance import assert_same_bits, flatten

CASES = {
    "rnn": ("rnn", {}),
    "lstm": ("lstm", {"num_layers": 2}),
    "lstm-P": ("lstm", {"proj_size": 5}),
    "gru": ("gru", {"num_layers": 2, "reset_after": False}),
}
every_case = pytest.mark.parametrize("case", CASES)


def make_stream(case, batch=3, **more):
    mode, options = CASES[case]
    module, _ = make_module(mode, 6, 20, **options, **more)
    stream = module.stream(batch)
    stream.run(samples.normal(3, 5, batch, 6))
    return module, stream


@every_case
def test_round_trip(case):
    """The imported stream goes on, bit for bit."""
    module, stream = make_stream(case)
    data = stream.export_state()
    assert type(data) is bytes
    other = module.stream(3)
    other.import_state(data)
    assert_same_bits(other.state, stream.state)
    x = samples.normal(4, 5, 3, 6)
    assert_same_bits(other.run(x), stream.run(x))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_kinds_of_bytes(kind):
    module, stream = make_stream("lstm")
    other = module.stream(3)
    other.import_state(kind(stream.export_state()))
    assert_same_bits(other.state, stream.state)


@every_case
def test_nan_and_infinity_are_states(case):
    module, stream = make_stream(case)
    state = stream.state
    flatten(state)[0][0, 0, :4] = [np.nan, np.inf, -np.inf, -0.0]
    stream.state = state
    other = module.stream(3)
    other.import_state(stream.export_state())
    assert_same_bits(other.state, stream.state)


def test_the_same_weights_elsewhere():
    """The fingerprint is of configuration and weights, not of the object."""
    _, stream = make_stream("lstm")
    twin, _ = make_stream("lstm")
    other = twin.stream(3)
    other.import_state(stream.export_state())
    assert_same_bits(other.state, stream.state)


STRANGERS = {
    "other weights": lambda: make_module("lstm", 6, 20, num_layers=2, seed=9)[0].stream(3),
    "other class": lambda: make_module("gru", 6, 20, num_layers=2)[0].stream(3),
    "other activation": lambda: make_module(
        "lstm", 6, 20, num_layers=2, activation="softsign"
    )[0].stream(3),
    "other batch": lambda: make_module("lstm", 6, 20, num_layers=2)[0].stream(4),
    "other hidden size": lambda: make_module("lstm", 6, 21, num_layers=2)[0].stream(3),
    "other layers": lambda: make_module("lstm", 6, 20, num_layers=3)[0].stream(3),
}  # fmt: skip


@pytest.mark.parametrize("make", STRANGERS.values(), ids=STRANGERS)
def test_the_state_of_a_stranger(make):
    _, stream = make_stream("lstm")
    other = make()
    before = other.state
    with pytest.raises(ValueError, match=r"^treadle\.(LSTM|GRU)\.[\w.]*import_state: "):
        other.import_state(stream.export_state())
    assert_same_bits(other.state, before)


def test_after_new_weights_old_states_are_strangers():
    module, stream = make_stream("lstm")
    data = stream.export_state()
    module.load_state_dict({k: -v for k, v in module.state_dict().items()})
    with pytest.raises(ValueError, match="import_state"):
        module.stream(3).import_state(data)
    stream.import_state(data)  # this one still has the old weights


@pytest.mark.parametrize("data", [None, "text", 5, [1, 2], object(), np.zeros(4)], ids=shown)
def test_not_bytes(data):
    _, stream = make_stream("lstm")
    before = stream.state
    with pytest.raises(TypeError, match=r"^treadle\.LSTM\.[\w.]*import_state: data "):
        stream.import_state(data)
    assert_same_bits(stream.state, before)


def fingerprints(data):
    wrong = ["", "0" * 64, None, 0, [], {"sha256": "0"}, True]
    return {
        f"fingerprint {value!r}": hostile.about_edited(
            data, lambda about, value=value: about.update(fingerprint=value)
        )
        for value in wrong
    }


@functools.cache
def hostile_states():
    data = make_stream("lstm")[1].export_state()
    return hostile.variants(data) | fingerprints(data)


@pytest.mark.parametrize("name", hostile_states())
def test_hostile_state(name):
    _, stream = make_stream("lstm")
    before = stream.state
    with pytest.raises(ValueError, match=r"^treadle\.LSTM\.[\w.]*import_state: data"):
        stream.import_state(hostile_states()[name])
    assert_same_bits(stream.state, before)


def test_the_state_of_a_file(tmp_path):
    """A saved model is no state and a state no model."""
    module, stream = make_stream("lstm")
    treadle.save(module, tmp_path / "m")
    with pytest.raises(ValueError, match="format"):
        stream.import_state((tmp_path / "m").read_bytes())
    (tmp_path / "s").write_bytes(stream.export_state())
    with pytest.raises(ValueError, match="format"):
        treadle.load(tmp_path / "s")
