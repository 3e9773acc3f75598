"""pickle, copy and deepcopy of modules: the same configuration, the same bits, nothing shared."""

import copy
import pickle

import numpy as np
import pytest

import treadle
from support import samples
from support.checks import CELLS
from support.tolerance import assert_same_bits

MODULES = [
    treadle.RNN(3, 4, 2, "relu", seed=0),
    treadle.LSTM(3, 8, num_layers=2, bidirectional=True, proj_size=3, batch_first=True, seed=0),
    treadle.GRU(3, 4, bias=False, reset_after=False, activation=("elu", 0.3), seed=0),
    treadle.RNNCell(3, 4, seed=0),
    treadle.LSTMCell(3, 4, recurrent_activation="hard_sigmoid", seed=0),
    treadle.GRUCell(3, 4, seed=0),
]
every_module = pytest.mark.parametrize("module", MODULES, ids=repr)


def call(module):
    return module(samples.normal(0, *((5, 3) if type(module) in CELLS.values() else (5, 2, 3))))


WAYS = {
    f"pickle-{p}": lambda m, p=p: pickle.loads(pickle.dumps(m, p))
    for p in range(2, pickle.HIGHEST_PROTOCOL + 1)
}
WAYS |= {"copy": copy.copy, "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@every_module
def test_copies(module, way):
    other = way(module)
    assert other is not module
    assert type(other) is type(module)
    assert repr(other) == repr(module)
    assert_same_bits(call(other), call(module))
    assert_same_bits(list(other.state_dict().values()), list(module.state_dict().values()))


@every_module
def test_a_copy_goes_its_own_way(module):
    for way in (copy.copy, copy.deepcopy):
        original = pickle.loads(pickle.dumps(module))
        before = call(original)
        other = way(original)
        other.load_state_dict({k: -v for k, v in other.state_dict().items()})
        assert_same_bits(call(original), before)
        assert not np.array_equal(call(other)[0], before[0])


@every_module
def test_attributes_of_the_users_are_kept(module):
    module = copy.deepcopy(module)
    module.note = {"trained": "yesterday"}
    assert pickle.loads(pickle.dumps(module)).note == {"trained": "yesterday"}


def test_shared_objects_stay_shared():
    pair = [MODULES[0], MODULES[0]]
    first, second = pickle.loads(pickle.dumps(pair))
    assert first is second


def test_a_stream_cannot_be_pickled():
    """The error of pickling a stream says what to do instead."""
    stream = treadle.LSTM(3, 4).stream()
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="export_state"):
            way(stream)


@pytest.mark.parametrize("edit", ["configuration", "parameters", "shape", "dtype"])
def test_a_wrong_pickle_is_an_error_and_not_a_crash(edit):
    """Unpickling is the user's risk; inconsistent contents must still not reach the kernels."""
    module = treadle.LSTM(3, 4, seed=0)
    state = module.__getstate__()
    if edit == "configuration":
        state["configuration"]["hidden_size"] = 400
    elif edit == "parameters":
        del state["parameters"]["weight_hh_l0"]
    elif edit == "shape":
        state["parameters"]["weight_hh_l0"] = np.zeros((16, 3), np.float32)
    else:
        state["parameters"]["weight_hh_l0"] = np.zeros((16, 4))
    other = treadle.LSTM.__new__(treadle.LSTM)
    with pytest.raises((ValueError, TypeError), match=r"treadle\.LSTM"):
        other.__setstate__(state)
