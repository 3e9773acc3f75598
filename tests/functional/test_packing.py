"""Recurrent functions keep the packing of read-only weights: packed once, with the same bits."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import treadle
from support import samples
from support.tolerance import assert_same_bits
from treadle.functional import packing
from treadle.layers.recurrent_spec import RecurrentSpec

INPUT, H = 5, 7
every_mode = pytest.mark.parametrize("mode", samples.MODES)


@pytest.fixture(autouse=True)
def cache(monkeypatch):
    fresh = packing.PackingCache()
    monkeypatch.setattr(packing, "CACHE", fresh)
    return fresh


@pytest.fixture
def packings(monkeypatch):
    """Return a list that grows by the mode of every net that is packed."""
    modes, pack = [], RecurrentSpec.pack

    def counting(spec, function, weights):
        modes.append(spec.mode)
        return pack(spec, function, weights)

    monkeypatch.setattr(RecurrentSpec, "pack", counting)
    return modes


def layer(mode, *, seed=0, read_only=True):
    weights, _ = samples.layer(mode, INPUT, H, seed=seed)
    for array in weights:
        array.flags.writeable = not read_only
    return weights


def run(mode, weights, x=None, **options):
    x = samples.normal(9, 4, 3, INPUT) if x is None else x
    return getattr(treadle.functional, mode)(x, *weights, **options)


def fresh(mode, weights, **options):
    """Return the result for copies of the weights, which nothing remembers."""
    return run(mode, [array.copy() for array in weights], **options)


@every_mode
def test_read_only_weights_are_packed_once(isa, mode, packings):
    weights = layer(mode)
    expected = fresh(mode, weights)
    packings.clear()
    for _ in range(3):
        assert_same_bits(run(mode, weights), expected)
    assert packings == [mode]


@every_mode
def test_weights_that_can_be_written_to_are_packed_every_time(mode, packings, cache):
    weights = layer(mode, read_only=False)
    run(mode, weights)
    weights[1][...] *= -1
    assert_same_bits(run(mode, weights), fresh(mode, weights))
    assert packings == [mode] * 3
    one = [*layer(mode)[:3], layer(mode, read_only=False)[3]]  # one of them is enough
    run(mode, one)
    run(mode, one)
    assert packings == [mode] * 5
    assert len(cache) == 0


@every_mode
@pytest.mark.parametrize("index", range(4))
def test_writing_through_a_base_is_noticed(mode, index, packings):
    """The view is read-only, its base is not."""
    bases = layer(mode, read_only=False)
    views = [base[:] for base in bases]
    for view in views:
        view.flags.writeable = False
    before = run(mode, views)
    bases[index].flat[-1] += 1
    after = run(mode, views)
    assert_same_bits(after, fresh(mode, bases))
    assert not np.array_equal(before[0], after[0])
    assert packings == [mode] * 3


@every_mode
def test_writing_between_two_flags_is_noticed(mode):
    weights = layer(mode)
    run(mode, weights)
    weights[0].flags.writeable = True
    weights[0][...] += 1
    weights[0].flags.writeable = False
    assert_same_bits(run(mode, weights), fresh(mode, weights))


def test_every_bit_counts(packings):
    """A zero of the other sign is another weight."""
    weights = [np.zeros_like(array) for array in layer("rnn")]
    for value in (0.0, -0.0, -0.0):
        for array in weights:
            array.flags.writeable = True
            array[...] = value
            array.flags.writeable = False
        run("rnn", weights)
    assert packings == ["rnn"] * 2


OPTIONS = [
    {}, {"reverse": True}, {"clip": 0.5}, {"activation": "relu"}, {"activation": ("elu", 0.5)},
    {"activation": ["elu", 0.5]}, {"recurrent_activation": "hard_sigmoid"}, {"input_forget": True},
    {"output_activation": "linear"}, {"output_activation": None}, {"activation": None},
    {"peepholes": np.ones(3 * H, np.float32)},
]  # fmt: skip


def test_options_are_told_apart():
    weights = layer("lstm")
    for _ in range(2):
        for options in OPTIONS:
            assert_same_bits(run("lstm", weights, **options), fresh("lstm", weights, **options))


def test_functions_are_told_apart():
    """A cell, a sequence and a forward pass name themselves in errors."""
    weights, x = layer("gru"), samples.normal(1, 4, 3, INPUT)
    run("gru", weights)
    treadle.functional.gru_forward(x, *weights)
    for function, wrong in (
        (treadle.functional.gru_cell, x[0][:, :-1]),
        (treadle.functional.gru, x[:, :, :-1]),
        (treadle.functional.gru_forward, x[:, :, :-1]),
    ):
        with pytest.raises(ValueError, match=rf"^treadle\.functional\.{function.__name__}: x "):
            function(wrong, *weights)


@every_mode
def test_backward(mode, packings):
    weights, x = layer(mode), samples.normal(1, 4, 3, INPUT)
    forward = getattr(treadle.functional, f"{mode}_forward")
    backward = getattr(treadle.functional, f"{mode}_backward")
    results = []
    for own in (weights, weights, [array.copy() for array in weights]):
        *_, saved = forward(x, *own)
        gradients = backward(saved, np.ones((4, 3, H), np.float32))
        results.append([gradients[name] for name in ("x", "weight_ih", "weight_hh", "bias_hh")])
    assert_same_bits(results[0], results[2])
    assert_same_bits(results[1], results[2])
    assert packings == [mode] * 2


def test_entries_leave_with_their_arrays(cache):
    weights = layer("lstm")
    run("lstm", weights)
    assert len(cache) == 1
    del weights[0]
    gc.collect()
    assert len(cache) == 0


def test_there_are_few_entries():
    cache = packing.PackingCache(most_nets=3, most_bytes=3000)
    spec = RecurrentSpec("rnn", INPUT, H)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    layers = [dict(zip(names, layer("rnn", seed=i), strict=True)) for i in range(5)]
    nets = [cache.get("f", spec, weights) for weights in layers]
    assert len(cache) == 3
    assert [cache.get("f", spec, layers[i]) is nets[i] for i in (2, 3, 4)] == [True] * 3
    assert cache.get("f", spec, layers[0]) is not nets[0]
    assert cache.get("f", spec, layers[2]) is not nets[2]  # that one was the oldest
    size = sum(array.nbytes for array in layers[0].values())
    for most_bytes, entries in ((size - 1, 0), (size, 1), (2 * size, 2)):
        cache = packing.PackingCache(most_nets=3, most_bytes=most_bytes)
        for weights in layers:
            cache.get("f", spec, weights)
        assert len(cache) == entries


def test_arrays_that_are_made_for_a_call_are_not_kept(cache):
    """Weights of another dtype or with gaps are copied for a call, and gone when it has ended."""
    weights = layer("gru")
    expected = fresh("gru", weights)
    big = [array.astype(">f4") for array in weights]
    for array in big:
        array.flags.writeable = False
    assert_same_bits(run("gru", big), expected)
    assert len(cache) == 0


def test_isas_are_told_apart(isa, cache):
    """A packed net belongs to the kernels that it was packed for."""
    weights = layer("lstm")
    present = treadle.isa()
    try:
        for name in treadle.available_isas():
            treadle._core.set_isa(name)
            assert_same_bits(run("lstm", weights), fresh("lstm", weights))
    finally:
        treadle._core.set_isa(present)
    assert len(cache) == len(treadle.available_isas())


@every_mode
def test_weights_that_change_while_they_are_packed(mode, monkeypatch, cache):
    """The values that are kept with a packed net are those that were packed, even if the arrays
    held others for a while."""
    memory = layer(mode, read_only=False)
    weights = [array.view() for array in memory]
    for array in weights:
        array.flags.writeable = False
    expected = fresh(mode, weights)
    pack = RecurrentSpec.pack

    def disturbed(spec, function, arrays):
        for array in memory:
            np.negative(array, out=array)
        native = pack(spec, function, arrays)
        for array in memory:
            np.negative(array, out=array)
        return native

    with monkeypatch.context() as patched:
        patched.setattr(RecurrentSpec, "pack", disturbed)
        assert_same_bits(run(mode, weights), expected)
    assert len(cache) == 1
    assert_same_bits(run(mode, weights), expected)


def test_threads(cache):
    """Each thread gets the results of its own weights, whatever the others keep and forget."""
    layers = [layer("rnn", seed=i) for i in range(12)]
    expected = [fresh("rnn", weights) for weights in layers]

    def work(first):
        for i in range(60):
            at = (first + i) % len(layers)
            assert_same_bits(run("rnn", layers[at]), expected[at])
            if i % 7 == 0:
                own = layer("rnn", seed=at)  # the same numbers in arrays that are soon gone
                assert_same_bits(run("rnn", own), expected[at])
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(12)))
    assert len(cache) <= 8
