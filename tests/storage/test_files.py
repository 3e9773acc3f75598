"""save and load: round trips and hostile files; test_save.py has the writing."""

import json
import os
import resource
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import treadle
from support import child, hostile, samples
from support.checks import CELLS, MODULES
from support.ids import shown
from support.systems import linux
from support.tolerance import assert_same_bits

DTYPES = ("float32", "bfloat16", "int8")
ROUND_TRIPS = [
    treadle.RNN(3, 4, seed=0),
    treadle.RNN(3, 4, 2, "relu", False, True, True, seed=0),
    treadle.LSTM(3, 4, seed=0),
    treadle.LSTM(3, 8, num_layers=2, bidirectional=True, proj_size=3, seed=0),
    treadle.LSTM(3, 4, bias=False, activation=("elu", 0.25), recurrent_activation=None, seed=0),
    treadle.GRU(3, 4, num_layers=3, batch_first=True, reset_after=False, seed=0),
    treadle.GRU(3, 4, recurrent_activation=("hard_sigmoid", 0.2, 0.5), seed=0),
    treadle.RNNCell(3, 4, nonlinearity="relu", seed=0),
    treadle.LSTMCell(3, 4, activation="softsign", seed=0),
    treadle.GRUCell(3, 4, False, reset_after=False, seed=0),
]
ROUND_TRIPS += [m.to(dtype) for m in ROUND_TRIPS[2:6] for dtype in ("bfloat16", "int8")]


@pytest.mark.parametrize("module", ROUND_TRIPS, ids=repr)
def test_round_trip(tmp_path, module):
    """A loaded module has the class, configuration and bits of the saved one."""
    path = tmp_path / "model.safetensors"
    treadle.save(module, path)
    loaded = treadle.load(path)
    assert type(loaded) is type(module)
    assert repr(loaded) == repr(module)
    assert loaded.state_dict().keys() == module.state_dict().keys()
    assert_same_bits(list(loaded.state_dict().values()), list(module.state_dict().values()))
    x = samples.normal(0, 3, 3) if type(module) in CELLS.values() else samples.normal(0, 5, 2, 3)
    assert_same_bits(loaded(x), module(x))


def test_extreme_weights(tmp_path):
    """NaN, infinity, -0.0 and denormals keep their bits."""
    module = treadle.GRU(3, 4)
    weights = module.state_dict()
    weights["weight_ih_l0"][:5, 0] = [np.nan, np.inf, -np.inf, -0.0, 1e-42]
    module.load_state_dict(weights)
    treadle.save(module, tmp_path / "m")
    assert_same_bits(
        treadle.load(tmp_path / "m").state_dict()["weight_ih_l0"], weights["weight_ih_l0"]
    )


@pytest.mark.parametrize("padding", range(0, 256, 8))
def test_headers_of_every_length(tmp_path, padding):
    """Safetensors pads headers to 8 bytes with spaces: no length looks like something else."""
    header, payload = hostile.split(good_file(tmp_path))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 256 + padding)
    path = tmp_path / "padded"
    path.write_bytes(hostile.join(text, payload))
    assert repr(treadle.load(path)) == repr(good_module())


def test_others_can_read_it(tmp_path):
    module = treadle.LSTM(3, 4, seed=0)
    treadle.save(module, tmp_path / "m")
    tensors = safetensors.numpy.load_file(tmp_path / "m")
    assert tensors.keys() == module.state_dict().keys()
    assert_same_bits(tensors["weight_ih_l0"], module.state_dict()["weight_ih_l0"])


@pytest.mark.parametrize(("dtype", "kind"), [("bfloat16", "BF16"), ("int8", "I8")])
def test_others_can_read_what_is_not_float32(tmp_path, dtype, kind):
    """The tensors that the documentation of `treadle.save` names, aligned, and their numbers."""
    module = treadle.LSTM(300, 8, proj_size=3, seed=0, dtype=dtype)
    treadle.save(module, tmp_path / "m")
    assert os.path.getsize(tmp_path / "m") < module.num_parameters * {"BF16": 2.2, "I8": 1.3}[kind]
    header, _ = hostile.split((tmp_path / "m").read_bytes())
    with safetensors.safe_open(tmp_path / "m", "torch") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, value in module.state_dict().items():
        assert header[name]["dtype"] == (kind if value.ndim == 2 else "F32")
        found = tensors[name].float().numpy()
        if value.ndim == 2 and kind == "I8":
            scales = tensors[name + ".scale"].numpy()
            found = found * np.repeat(scales, 256, axis=1)[:, : value.shape[1]]
        assert_same_bits(found, value)
    sizes = {"F32": 4, "BF16": 2, "I8": 1}
    for name, entry in header.items():
        assert name == "__metadata__" or entry["data_offsets"][0] % sizes[entry["dtype"]] == 0


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_no_float32_copy(tmp_path, dtype):
    """Loading and saving take at most 1 MiB beside the arrays that stay."""
    module = treadle.GRU(512, 512, 4, dtype=dtype)
    stored = module.num_parameters * {"bfloat16": 2, "int8": 1.02}[dtype]
    tracemalloc.start()
    try:
        treadle.save(module, tmp_path / "m")
        assert tracemalloc.get_traced_memory()[1] < 2**20
        loaded = treadle.load(tmp_path / "m")
        assert tracemalloc.get_traced_memory()[1] < stored + 2**20
    finally:
        tracemalloc.stop()
    assert_same_bits(list(loaded.state_dict().values()), list(module.state_dict().values()))


def test_loaded_weights_are_the_modules_own(tmp_path):
    """The file may change or vanish afterwards: nothing is mapped."""
    path = tmp_path / "m"
    treadle.save(treadle.LSTM(3, 4, seed=0), path)
    loaded, x = treadle.load(path), samples.normal(0, 5, 2, 3)
    before = loaded(x)
    path.write_bytes(bytes(path.stat().st_size))
    path.unlink()
    assert_same_bits(loaded(x), before)
    assert loaded.state_dict()["bias_hh_l0"].any()


@pytest.mark.parametrize(
    "kind", [str, Path, lambda p: PathLike(str(p))], ids=["str", "Path", "like"]
)
def test_kinds_of_paths(tmp_path, kind):
    path = kind(tmp_path / "with space and ünïcode")
    treadle.save(treadle.GRU(3, 4), path)
    assert repr(treadle.load(path)) == "GRU(3, 4)"


class PathLike:
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


@pytest.mark.parametrize("path", [None, 0, 1.5, object(), [], {}], ids=shown)
def test_wrong_paths(path):
    with pytest.raises(TypeError, match=r"^treadle\.load: path "):
        treadle.load(path)
    with pytest.raises(TypeError, match=r"^treadle\.save: path "):
        treadle.save(treadle.GRU(3, 4), path)


def test_nul_in_a_path(tmp_path):
    with pytest.raises(ValueError, match="null"):
        treadle.load(str(tmp_path / "a\0b"))
    with pytest.raises(ValueError, match="null"):
        treadle.save(treadle.GRU(3, 4), str(tmp_path / "a\0b"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", [None, {}, object(), treadle.GRU, "GRU"], ids=shown)
def test_save_of_something_else(tmp_path, module):
    with pytest.raises(TypeError, match=r"^treadle\.save: module "):
        treadle.save(module, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        treadle.load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        treadle.save(treadle.GRU(3, 4), tmp_path / "no folder" / "m")


def test_not_regular_files(tmp_path):
    """A folder, a pipe that nobody writes and an endless device: refused, not waited for."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match=r"^treadle\.load: .*regular file"):
            treadle.load(path)


# Hostile files.


def good_module(dtype="float32"):
    return treadle.LSTM(3, 5, num_layers=2, proj_size=2, seed=0, dtype=dtype)


def good_file(folder, dtype="float32"):
    path = folder / "good"
    treadle.save(good_module(dtype), path)
    return path.read_bytes()


def format_variants(data, dtype):
    """Return wrong files whose fault concerns matrices that are not float32."""
    header, payload = hostile.split(data)
    first, last = "weight_ih_l0", "weight_hr_l1"

    def with_entry(name, **changes):
        return hostile.edited(data, lambda h: h[name].update(changes))

    result = {
        f"{name} is {kind}": with_entry(name, dtype=kind)
        for name in (first, last)
        for kind in ("F32", "F16", "BF16", "I8", "U8", "I32", "F64", "F8_E4M3", "int8")
        if kind != header[name]["dtype"]
    }
    if dtype != "int8":
        # A scale too many, which takes the place of a bias.
        renamed = lambda h: h.update({first + ".scale": h.pop("bias_ih_l0")})
        return result | {"a scale too many": hostile.edited(data, renamed)}
    scale = first + ".scale"
    begin = header[scale]["data_offsets"][0]
    rows, columns = header[scale]["shape"]
    for value in (-1.0, np.inf, -np.inf, 1e-39, -0.5):
        wrong = bytearray(payload)
        wrong[begin + 8 : begin + 12] = np.float32(value).tobytes()
        result[f"scale of {value}"] = hostile.join(header, bytes(wrong))
    shapes = [[columns, rows], [rows], [rows * columns, 1, 1], [rows - 1, columns], [rows, 0], []]
    result |= {f"scales {shape}": with_entry(scale, shape=shape) for shape in shapes}
    half = [2 * rows, columns]
    result["scales are BF16"] = with_entry(scale, shape=half, dtype="BF16")
    result["scales are I8"] = with_entry(scale, shape=[4 * rows, columns], dtype="I8")
    result["no scales"] = hostile.edited(data, lambda h: h.update(more=h.pop(scale)))
    both = lambda h: h.update({first: h[last], last: h[first]})
    result["matrices exchanged"] = hostile.edited(data, both)
    return result


def configuration_variants(data, dtype):
    def configured(**changes):
        return hostile.about_edited(data, lambda a: a["configuration"].update(changes))

    wrong = {
        "hidden_size": [0, -1, 6, 2**31, 2**62, 2**63, 2**64, 10**30, 5.0, "5", True, None, [5]],
        "input_size": [0, -3, 4, 2**40, 3.0, None, {}],
        "num_layers": [0, -1, 1, 3, 4096, 10**6, 2**31, 2**63, 2.0, "2", None],
        "proj_size": [-2, 0, 1, 3, 5, 2**40, 2.0, None],
        "bidirectional": [True, 0, 1, "false", None],
        "bias": [False, 1, "yes", None],
        "batch_first": [0, None, "false"],
        "dtype": ["float64", "int4", "float16", "", None, 32, *{*DTYPES} - {dtype}],
        "activation": ["exec", "os.system", "", 1, [], ["tanh", 1], ["elu"] * 5, {"elu": 1}],
        "recurrent_activation": [["hard_sigmoid", "0.2"], ["elu", None], [["elu", 1]], True],
    }
    result = {
        f"{key} = {value!r}": configured(**{key: value})
        for key, values in wrong.items()
        for value in values
    }
    modules = ["GRU", "LSTMCell", "Module", "Stream", "os.system", "builtins.eval", "lstm", ""]
    for name in [*modules, None, 1, ["LSTM"], {"LSTM": 1}]:
        result[f"module = {name!r}"] = hostile.about_edited(
            data, lambda a, name=name: a.update(module=name)
        )
    for value in (None, [], "LSTM", 3, {}):
        result[f"configuration = {value!r}"] = hostile.about_edited(
            data, lambda a, value=value: a.update(configuration=value)
        )
    for key in ("seed", "function", "__class__", "_packed", "weights", ""):
        result[f"unknown entry {key!r}"] = configured(**{key: 1})
    for key in ("input_size", "hidden_size"):
        result[f"no {key}"] = hostile.about_edited(
            data, lambda a, key=key: a["configuration"].pop(key) and None
        )
    return result


def hostile_variants(folder):
    """Return the wrong files of all dtypes; some, such as an empty file, are the same."""
    names = {}
    for dtype in DTYPES:
        data = good_file(folder, dtype)
        variants = hostile.variants(data) | configuration_variants(data, dtype)
        variants |= format_variants(data, dtype)
        names |= {variant: f"{dtype}: {name}" for name, variant in variants.items()}
    return {name: variant for variant, name in names.items()}


@pytest.fixture(scope="module")
def hostile_files(tmp_path_factory):
    return hostile_variants(tmp_path_factory.mktemp("good"))


def names_of_hostile_files():
    with tempfile.TemporaryDirectory() as folder:
        return sorted(hostile_variants(Path(folder)))


@pytest.mark.parametrize("name", names_of_hostile_files())
def test_hostile_file(tmp_path, hostile_files, name):
    """ValueError that names the function and the file; memory in proportion to the file."""
    path, data = tmp_path / "hostile", hostile_files[name]
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"^treadle\.load: .*hostile"):
            treadle.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Parsed JSON takes up to some 100 bytes for each byte of text (a list of lists, a dict).
    assert peak < 2**20 + 100 * len(data), f"{peak} bytes for a file of {len(data)}"
    assert [p.name for p in tmp_path.iterdir()] == ["hostile"]
    assert path.read_bytes() == data


def test_there_are_enough_hostile_files(hostile_files):
    assert len(hostile_files) >= 40
    assert len(set(hostile_files.values())) == len(hostile_files)


LOAD_ALL = """
import gc, resource, sys, treadle
from pathlib import Path
folder = Path(sys.argv[1])
treadle.load(folder / "good")
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28,) * 2)
files = sorted(path for path in folder.iterdir() if path.name != "good")
for path in files:
    try:
        treadle.load(path)
    except ValueError:
        continue
    raise SystemExit(f"{path} was loaded")
gc.collect()
left = [o for o in gc.get_objects() if isinstance(o, treadle.LSTM)]
print(len(files), len(left), repr(treadle.load(folder / "good")))
"""


@linux
def test_hostile_files_in_little_address_space(tmp_path, hostile_files):
    """All of them in one process that may map 256 MiB more, native allocations included."""
    good_file(tmp_path)
    for index, data in enumerate(hostile_files.values()):
        (tmp_path / f"{index:03}").write_bytes(data)
    output = child.succeed(LOAD_ALL, tmp_path, timeout=300)
    assert output == f"{len(hostile_files)} 0 {good_module()!r}"


def test_big_sparse_files(tmp_path):
    """A terabyte of zeros on no disk, behind a good header or none: nothing is read or stored."""
    good = good_file(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, data in {"zeros": b"", "good": good}.items():
        path = tmp_path / f"sparse {name}"
        path.write_bytes(data)
        os.truncate(path, 2**40)
        with pytest.raises(ValueError, match=r"^treadle\.load: .*sparse"):
            treadle.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**15  # KiB


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits(tmp_path, seed, dtype):
    """A file with a few random bytes changed loads as a module or is a ValueError."""
    good, path = good_file(tmp_path, dtype), tmp_path / "flipped"
    rng = np.random.default_rng(seed)
    header_end = len(good) - len(hostile.split(good)[1])
    messages = []
    for _ in range(150):
        data = bytearray(good)
        for at in rng.integers(0, header_end, rng.integers(1, 4)):
            data[at] = rng.integers(256)
        path.write_bytes(data)
        message, module = outcome(path)
        if module is None:
            assert message.startswith("treadle.load: ")
            messages.append(message)
        else:
            assert module.num_parameters == good_module().num_parameters
    assert len(messages) > 100


def outcome(path):
    """The message of the ValueError, or the module."""
    try:
        return None, treadle.load(path)
    except ValueError as error:
        return str(error), None


def test_all_modules_are_covered():
    assert {type(module) for module in ROUND_TRIPS} == {*MODULES.values(), *CELLS.values()}
