"""Wrong configurations and options raise an error that names class and argument."""

import inspect
import math

import numpy as np
import pytest

import treadle
from support import samples
from support.checks import CELLS, MODULES
from support.entries import ENTRIES, INPUT, H
from support.ids import shown

F32 = np.float32

CLASSES = {f"treadle.{c.__name__}": c for c in (*MODULES.values(), *CELLS.values())}
every_class = pytest.mark.parametrize("name", CLASSES)
SIZES = [0, -1, -(2**31), 2**31, 2**62, 2**63, 2**64, 10**30]
NO_INTEGERS = [
    1.0,
    math.nan,
    math.inf,
    "3",
    b"3",
    None,
    [3],
    (3,),
    True,
    3j,
    {},
    object(),
    [],
    F32(3),
]


@pytest.mark.parametrize("size", [*SIZES, *NO_INTEGERS], ids=shown)
@every_class
def test_wrong_sizes(name, size):
    error = ValueError if type(size) is int else TypeError
    with pytest.raises(error, match=rf"^{name}: input_size "):
        CLASSES[name](size, 4)
    with pytest.raises(error, match=rf"^{name}: hidden_size "):
        CLASSES[name](4, size)
    if "Cell" not in name:
        with pytest.raises(error, match=rf"^{name}: num_layers "):
            CLASSES[name](4, 4, size)


def test_sizes_of_numpy_are_integers():
    module = treadle.LSTM(np.int64(3), np.uint8(4), np.int32(2), proj_size=np.int16(2))
    assert repr(module) == "LSTM(3, 4, num_layers=2, proj_size=2)"


@pytest.mark.parametrize(
    ("inputs", "hidden"),
    [(1, 2**31 - 1), (2**31 - 1, 2**31 - 1), (2**31 - 1, 2**20), (1, 2**24), (2**31 - 1, 2**17)],
)
@every_class
def test_sizes_beyond_memory(name, inputs, hidden):
    """The product of the sizes is petabytes, or does not fit into 64 bits."""
    with pytest.raises((MemoryError, ValueError)):
        CLASSES[name](inputs, hidden)


@pytest.mark.parametrize("proj_size", [4, 5, -1, 2**40, 1.0, "1", None, True])
def test_wrong_projection(proj_size):
    with pytest.raises((ValueError, TypeError), match=r"^treadle\.LSTM: proj_size "):
        treadle.LSTM(3, 4, proj_size=proj_size)


@pytest.mark.parametrize("value", [0, 1, None, "yes", 1.0, [], np.ones(2)], ids=repr)
@every_class
def test_wrong_flags(name, value):
    cls = CLASSES[name]
    flags = ["bias"]
    flags += [] if "Cell" in name else ["batch_first", "bidirectional"]
    flags += ["reset_after"] if "GRU" in name else []
    for flag in flags:
        with pytest.raises(TypeError, match=rf"^{name}: {flag} "):
            cls(3, 4, **{flag: value})


WRONG_ACTIVATIONS = [
    "nosuch", "TANH", "", 5, True, object(), (), ("tanh", 1.0), ("elu", 1.0, 2.0), ("elu", "1"),
    ("elu", None), ("elu", True), ("elu", math.nan), ("elu", math.inf), ("elu", 1e39), (1.0, "elu"),
    ("hard_sigmoid", 1, 2, 3), {"elu": 1.0}, b"tanh", ["nosuch"], [["elu"]], np.tanh,
    ("elu", 10**400),
]  # fmt: skip


@pytest.mark.parametrize("value", WRONG_ACTIVATIONS, ids=shown)
@every_class
def test_wrong_activations(name, value):
    options = ["nonlinearity"] if "RNN" in name else ["activation", "recurrent_activation"]
    for option in options:
        with pytest.raises((ValueError, TypeError), match=rf"^{name}: {option} "):
            CLASSES[name](3, 4, **{option: value})


@pytest.mark.parametrize(
    "value", ["float64", "float16", "int4", np.float64, None, 32, ""], ids=repr
)
@every_class
def test_other_dtypes(name, value):
    with pytest.raises(ValueError, match=rf"^{name}: dtype .*float32"):
        CLASSES[name](3, 4, dtype=value)


@pytest.mark.parametrize("value", ["float32", np.float32, np.dtype("float32")], ids=repr)
def test_float32_by_any_name(value):
    assert repr(treadle.GRU(3, 4, dtype=value)) == "GRU(3, 4)"


@pytest.mark.parametrize("seed", [-1, 1.5, "x", object(), math.nan], ids=shown)
@every_class
def test_wrong_seeds(name, seed):
    with pytest.raises((ValueError, TypeError), match=rf"^{name}: seed "):
        CLASSES[name](3, 4, seed=seed)


@every_class
def test_unknown_and_missing_arguments(name):
    cls = CLASSES[name]
    for args, kwargs in (
        ((), {}),
        ((3,), {}),
        ((3, 4), {"nosuch": 1}),
        ((3, 4), {"hidden_size": 4}),
    ):
        with pytest.raises(TypeError):
            cls(*args, **kwargs)


# Options of the functional forms.

FUNCTIONS = {f"treadle.functional.{m}{c}": (m, c) for m in samples.MODES for c in ("", "_cell")}
WRONG_OPTIONS = {
    "clip": [0, 0.0, -1.0, math.nan, math.inf, 1e39, "1", True, [1.0], object(), 10**400],
    "reverse": [0, 1, None, "yes"],
    "batch_first": [0, 1, None, "yes"],
    "input_forget": [0, 1, None, "yes"],
    "reset_after": [0, 1, None, "yes"],
    "activation": WRONG_ACTIVATIONS,
    "recurrent_activation": WRONG_ACTIVATIONS,
    "output_activation": WRONG_ACTIVATIONS,
    "nonlinearity": WRONG_ACTIVATIONS,
}


@pytest.mark.parametrize(
    ("name", "option"),
    [(n, o) for n in FUNCTIONS for o in WRONG_OPTIONS if o in ENTRIES[n][0].__kwdefaults__],
)
def test_wrong_options(name, option):
    function, arguments = ENTRIES[name]
    for value in WRONG_OPTIONS[option]:
        with pytest.raises((ValueError, TypeError), match=rf"^{name}: {option} "):
            function(**arguments, **{option: value})


MODULE_OPTIONS = {**WRONG_OPTIONS, "use_peepholes": [0, 1, None, "yes", np.ones(12, F32)]}
# An output activation of None is that of the candidate, a clip of None is none.
OPTIONS_OF = [
    (n, o)
    for n, c in CLASSES.items()
    for o in MODULE_OPTIONS
    if o in inspect.signature(c).parameters
]


@pytest.mark.parametrize(("name", "option"), OPTIONS_OF)
def test_wrong_options_of_modules(name, option):
    """Every option of a function is one of its module's, too, which refuses the same values."""
    for value in MODULE_OPTIONS[option]:
        with pytest.raises((ValueError, TypeError), match=rf"^{name}: {option} "):
            CLASSES[name](3, 4, **{option: value})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_modules_have_the_options_of_functions(name):
    mode, cell = FUNCTIONS[name]
    ours = inspect.signature((CELLS if cell else MODULES)[mode]).parameters
    calls = {"lengths", "mask", "resets", "reset_state"}
    weights = {"weight_hr": "bias" if cell else "proj_size", "peepholes": "use_peepholes"}
    wanted = {weights.get(o, o) for o in ENTRIES[name][0].__kwdefaults__ if o not in calls}
    assert wanted <= set(ours)


def test_one_direction_or_both():
    with pytest.raises(ValueError, match=r"^treadle\.GRU: reverse is True with bidirectional=True"):
        treadle.GRU(3, 4, bidirectional=True, reverse=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_weights_that_hold_nothing(name):
    """Weights without inputs or without hidden units are refused."""
    function, _ = ENTRIES[name]
    mode, cell = FUNCTIONS[name]
    gates = samples.GATES[mode]
    x = np.zeros((2, INPUT)[:] if cell else (2, 2, INPUT), F32)
    for shapes in (((0, INPUT), (0, 0)), ((gates * H, 0), (gates * H, H))):
        with pytest.raises(ValueError, match=rf"^{name}: weight_ih "):
            function(x, *(np.zeros(shape, F32) for shape in shapes))
