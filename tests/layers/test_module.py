"""Modules as containers: parameters, state dicts, initialisation, attributes, repr."""

import numpy as np
import pytest
import torch

import treadle
from support import samples
from support.checks import CELLS, MODULES, make_module
from support.tolerance import assert_same_bits

CLASSES = {f"treadle.{c.__name__}": c for c in (*MODULES.values(), *CELLS.values())}
every_class = pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)

SHAPES = {
    "RNN": (treadle.RNN, {"num_layers": 2, "bidirectional": True}),
    "LSTM": (treadle.LSTM, {"num_layers": 2, "bidirectional": True}),
    "LSTM-P": (treadle.LSTM, {"num_layers": 3, "proj_size": 3}),
    "GRU": (treadle.GRU, {"num_layers": 2, "bias": False}),
    "RNNCell": (treadle.RNNCell, {}),
    "LSTMCell": (treadle.LSTMCell, {"bias": False}),
    "GRUCell": (treadle.GRUCell, {}),
}


@pytest.mark.parametrize("case", SHAPES)
def test_names_and_shapes_are_torchs(case):
    cls, options = SHAPES[case]
    ours = cls(5, 7, **options)
    theirs = getattr(torch.nn, cls.__name__)(5, 7, **options)
    expected = {name: tuple(value.shape) for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in ours.state_dict().items()} == expected
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.num_parameters == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize("case", SHAPES)
def test_state_dicts_of_torch_load(case):
    """Tensors as they are, in any order of names."""
    cls, options = SHAPES[case]
    theirs = getattr(torch.nn, cls.__name__)(5, 7, **options).state_dict()
    ours = cls(5, 7, **options)
    ours.load_state_dict(dict(reversed(theirs.items())))
    assert_same_bits(list(ours.state_dict().values()), [v.numpy() for v in theirs.values()])


@every_class
def test_initialisation(cls):
    """U(-1/sqrt(H), 1/sqrt(H)): in range, filling it, other for every seed, the same for one."""
    module = cls(60, 25, seed=1)
    values = np.concatenate([v.ravel() for v in module.state_dict().values()])
    bound = np.float32(0.2)
    assert values.min() >= -bound
    assert values.max() <= bound
    quarters = np.histogram(values, 4, (-0.2, 0.2))[0] / values.size
    np.testing.assert_allclose(quarters, 0.25, atol=4 * (0.25 * 0.75 / values.size) ** 0.5)
    again, other = cls(60, 25, seed=1), cls(60, 25, seed=2)
    name = next(iter(module.state_dict()))
    assert_same_bits(again.state_dict()[name], module.state_dict()[name])
    assert not np.array_equal(other.state_dict()[name], module.state_dict()[name])
    assert not np.array_equal(cls(60, 25).state_dict()[name], cls(60, 25).state_dict()[name])


@every_class
def test_parameters_are_read_only_attributes(cls):
    """The packed weights would not follow a change in place."""
    module = cls(5, 7, seed=0)
    for name, value in module.state_dict().items():
        assert_same_bits(getattr(module, name), value)
        with pytest.raises(ValueError, match="read-only"):
            getattr(module, name)[...] = 0
        with pytest.raises(AttributeError, match=name):
            setattr(module, name, value)
    with pytest.raises(AttributeError, match="hidden_size"):
        module.hidden_size = 8
    assert (module.input_size, module.hidden_size) == (5, 7)
    with pytest.raises(AttributeError, match="no_such_thing"):
        module.no_such_thing  # noqa: B018


@every_class
def test_state_dict_is_a_copy(cls):
    module = cls(5, 7, seed=0)
    x = samples.normal(0, 4, 5)
    before = module(x)
    state = module.state_dict()
    for value in state.values():
        value[:] = 99
    assert_same_bits(module(x), before)
    given = module.state_dict()
    module.load_state_dict(given)
    for value in given.values():
        value[:] = 99
    assert_same_bits(module(x), before)
    assert not any((value == 99).any() for value in module.state_dict().values())


@every_class
def test_loading_repacks(cls):
    module, other = cls(5, 7, seed=0), cls(5, 7, seed=1)
    x = samples.normal(0, 4, 5)
    assert not np.array_equal(module(x)[0], other(x)[0])
    result = other.load_state_dict(module.state_dict())
    assert_same_bits(other(x), module(x))
    assert tuple(result) == ([], [])


def wrong_state_dicts(module):
    good = module.state_dict()
    first, *_, last = good
    nested = good | {last: good[last][None]}
    return {
        "empty": ({}, first),
        "missing": ({k: v for k, v in good.items() if k != last}, last),
        "extra": (good | {"weight_xx_l0": good[first]}, "weight_xx_l0"),
        "renamed": ({k + "0": v for k, v in good.items()}, first),
        "key of another type": (good | {5: good[first]}, "5"),
        "shape": (good | {last: good[last][:-1]}, last),
        "transposed": (good | {first: good[first].T}, first),
        "rank": (nested, last),
        "scalar": (good | {last: np.float32(1)}, last),
        "float64": (good | {last: good[last].astype(np.float64)}, last),
        "float16": (good | {last: good[last].astype(np.float16)}, last),
        "integers": (good | {last: good[last].astype(np.int32)}, last),
        "complex": (good | {last: good[last].astype(np.complex64)}, last),
        "objects": (good | {last: good[last].astype(object)}, last),
        "None": (good | {last: None}, last),
        "text": (good | {last: "weights"}, last),
        "ragged": (good | {last: [[1.0], [1.0, 2.0]]}, last),
        "torch double": (good | {last: torch.from_numpy(good[last]).double()}, last),
        "torch half": (good | {last: torch.from_numpy(good[last]).half()}, last),
        "torch meta": (good | {last: torch.from_numpy(good[last]).to("meta")}, last),
    }


WRONG = list(wrong_state_dicts(treadle.GRU(5, 7)))


@pytest.mark.parametrize("wrong", WRONG)
@every_class
def test_wrong_state_dicts_change_nothing(cls, wrong):
    """The error names the function and the culprit; not one parameter has changed."""
    module = cls(5, 7, seed=0)
    x = samples.normal(0, 4, 5)
    before, weights = module(x), module.state_dict()
    mapping, culprit = wrong_state_dicts(module)[wrong]
    with pytest.raises((ValueError, TypeError)) as caught:
        module.load_state_dict(mapping)
    assert str(caught.value).startswith(f"treadle.{cls.__name__}.load_state_dict: ")
    assert culprit in str(caught.value)
    assert_same_bits(module(x), before)
    assert_same_bits(list(module.state_dict().values()), list(weights.values()))


@pytest.mark.parametrize("mapping", [None, 5, [], "weights", np.zeros(3), treadle.GRU], ids=repr)
@every_class
def test_state_dicts_that_are_none(cls, mapping):
    with pytest.raises(TypeError, match=r"load_state_dict: mapping "):
        cls(5, 7).load_state_dict(mapping)


@every_class
def test_not_strict(cls):
    """Entries of the state dict are loaded, other parameters are kept, and the result names the
    missing and the unexpected.
    """
    module = cls(5, 7, seed=0)
    names = list(module.state_dict())
    bias = np.arange(module.state_dict()["bias_hh" + names[-1][7:]].size, dtype=np.float32)
    result = module.load_state_dict({names[-1]: bias, "strange": None}, strict=False)
    assert result.missing_keys == names[:-1]
    assert result.unexpected_keys == ["strange"]
    assert_same_bits(module.state_dict()[names[-1]], bias)
    expected = cls(5, 7, seed=0)
    expected.load_state_dict(expected.state_dict() | {names[-1]: bias})
    x = samples.normal(0, 4, 5)
    assert_same_bits(module(x), expected(x))


def test_layouts_of_weights(isa):
    """Weights in any layout in memory are packed the same."""
    module, parameters = make_module("lstm", 12, 17)
    x = samples.normal(0, 4, 2, 12)
    expected = module(x)
    changes = {
        "fortran": np.asfortranarray,
        "backwards": lambda v: np.ascontiguousarray(v[::-1])[::-1],
        "gaps": lambda v: np.repeat(v, 2, axis=-1)[..., ::2],
        "swapped": lambda v: v.astype(">f4"),
        "list": lambda v: v.tolist(),
        "torch": lambda v: torch.from_numpy(v).requires_grad_(),
    }
    for change in changes.values():
        module, _ = make_module("lstm", 12, 17, seed=5)
        module.load_state_dict({name: change(value) for name, value in parameters.items()})
        assert_same_bits(module(x), expected)


REPRS = {
    "LSTM(5, 7)": treadle.LSTM(5, 7),
    "LSTM(5, 7, num_layers=2, batch_first=True, bidirectional=True, proj_size=3)": treadle.LSTM(
        5, 7, 2, True, True, True, 3
    ),
    "GRU(5, 7, bias=False, reset_after=False)": treadle.GRU(5, 7, bias=False, reset_after=False),
    "RNN(5, 7, nonlinearity='relu')": treadle.RNN(5, 7, 1, "relu"),
    "GRUCell(5, 7, activation=('elu', 0.5))": treadle.GRUCell(5, 7, activation=("elu", 0.5)),
}


@pytest.mark.parametrize("text", REPRS)
def test_repr(text):
    assert repr(REPRS[text]) == text


@pytest.mark.parametrize("text", REPRS)
def test_repr_makes_the_module_again(text):
    assert repr(eval(text, vars(treadle))) == text


def test_names_of_the_default_activations_are_the_defaults():
    explicit = treadle.LSTM(5, 7, activation=("elu", 1.0), recurrent_activation=("hard_sigmoid",))
    assert repr(explicit) == "LSTM(5, 7, activation='elu', recurrent_activation='hard_sigmoid')"
