"""`WeightCache`: what it packs, when it packs again, what it forgets, and what it does not keep."""

import gc
import threading
import time
import weakref

import pytest

torch = pytest.importorskip("torch")

from support import samples
from support.tolerance import assert_same_bits
from treadle._inputs.sequence import SequenceInputs
from treadle.layers.recurrent_spec import RecurrentSpec
from treadle.torch import tensors, weight_cache

LAYER = weight_cache.RecurrentLayer("treadle.torch.GRU", "gru", 3, 4, 0, True, 2, "tanh")


def weights():
    """Return the tensors of both directions, and their arrays."""
    shapes = [(12, 3), (12, 4), (12,), (12,)] * 2
    own = [torch.ones(shape) for shape in shapes]
    return own, weight_cache.LayerWeights(LAYER, own)


def test_the_same_values_are_packed_once():
    cache = weight_cache.WeightCache()
    first = cache.get("key", LAYER, weights()[1])
    assert cache.get("key", LAYER, weights()[1]) is first  # other memory, the same bits
    assert cache.get("other", LAYER, weights()[1]) is not first


def test_a_changed_value_is_packed_again():
    cache = weight_cache.WeightCache()
    own, arrays = weights()
    first = cache.get("key", LAYER, arrays)
    own[5].data[2, 1] += 1  # PyTorch's version counter does not see this
    second = cache.get("key", LAYER, arrays)
    assert second is not first
    assert cache.get("key", LAYER, arrays) is second


def test_values_that_change_while_they_are_packed(monkeypatch):
    """The values that are kept with a native layer are those that were packed, whatever the tensors
    held for a while."""
    own, arrays = weights()
    expected = weight_cache.PackedLayer(LAYER, arrays)
    pack = RecurrentSpec.pack

    def disturbed(spec, function, named):
        for tensor in own:
            tensor.neg_()
        native = pack(spec, function, named)
        for tensor in own:
            tensor.neg_()
        return native

    cache = weight_cache.WeightCache()
    with monkeypatch.context() as patched:
        patched.setattr(RecurrentSpec, "pack", disturbed)
        first = cache.get("key", LAYER, arrays)
    assert cache.get("key", LAYER, arrays) is first
    inputs = SequenceInputs(samples.normal(0, 5, 2, 3), None, None)
    assert_same_bits(first.native.run(inputs)[:2], expected.native.run(inputs)[:2])


def test_values_that_change_while_they_are_packed_again():
    own, arrays = weights()
    first = weight_cache.PackedLayer(LAYER, arrays)
    own[0].add_(1)
    expected = weight_cache.PackedLayer(LAYER, arrays)

    class Disturbed:
        def renewed(self, named):
            own[0].neg_()
            native = native_of_first.renewed(named)
            own[0].neg_()
            return native

    native_of_first, first.native = first.native, Disturbed()
    second = weight_cache.PackedLayer(LAYER, arrays, first)
    assert second.has_packed(LAYER, arrays)
    inputs = SequenceInputs(samples.normal(0, 5, 2, 3), None, None)
    assert_same_bits(second.native.run(inputs)[:2], expected.native.run(inputs)[:2])


def test_another_form_is_packed_again():
    cache = weight_cache.WeightCache()
    _, arrays = weights()
    first = cache.get("key", LAYER, arrays)
    renamed = LAYER._replace(function="treadle.torch.GRUCell")
    assert cache.get("key", renamed, arrays) is not first


def test_the_layer_packed_first_is_forgotten_first():
    cache = weight_cache.WeightCache(most=2)
    packed = {key: cache.get(key, LAYER, weights()[1]) for key in "abc"}
    assert cache.get("b", LAYER, weights()[1]) is packed["b"]
    assert cache.get("c", LAYER, weights()[1]) is packed["c"]
    assert cache.get("a", LAYER, weights()[1]) is not packed["a"]


def test_a_cache_keeps_no_tensor():
    cache = weight_cache.WeightCache()
    own, arrays = weights()
    cache.get("key", LAYER, arrays)
    gone = weakref.ref(own[0])
    memory = weakref.ref(arrays.arrays[0])
    del own, arrays
    gc.collect()
    assert gone() is None
    assert memory() is None


def test_names_are_those_of_pytorch():
    for directions in (1, 2):
        for bias in (False, True):
            for proj_size in (0, 2):
                module = torch.nn.LSTM(
                    3, 4, bias=bias, proj_size=proj_size, bidirectional=directions == 2
                )
                layer = weight_cache.RecurrentLayer(
                    "", "lstm", 3, 4, proj_size, bias, directions, "tanh"
                )
                ends = ("_l0", "_l0_reverse")[:directions]
                expected = [name + end for end in ends for name in layer.names]
                assert expected == [name for name, _ in module.named_parameters()]


def test_tensors_are_tensor_like():
    """Every member of `TensorLike` is one of PyTorch's tensors: mypy would believe any other, and
    it would fail at run time."""
    members = {
        name
        for name, value in vars(tensors.TensorLike).items()
        if callable(value) or isinstance(value, property)
    }
    assert len(members) > 40
    for name in members:
        assert hasattr(torch.Tensor, name) or hasattr(torch.zeros(1), name), name


def test_threads_that_make_room_at_the_same_time(monkeypatch):
    """A key that one thread drops may be the oldest for another one, too."""
    _, arrays = weights()
    packed = weight_cache.PackedLayer(LAYER, arrays)
    monkeypatch.setattr(weight_cache, "PackedLayer", lambda *_: packed)
    cache, errors = weight_cache.WeightCache(most=4), []

    class Key:
        def __hash__(self):
            time.sleep(0)  # lets another thread run
            return id(self)

    def fill():
        try:
            for _ in range(1000):
                cache.get(Key(), LAYER, arrays)
        except KeyError as error:
            errors.append(error)

    threads = [threading.Thread(target=fill) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    cache.get("last", LAYER, arrays)
    assert len(cache._layers) == 4
