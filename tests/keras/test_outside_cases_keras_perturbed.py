"""Files of Keras with something changed by chance are read or refused, and nothing else happens.

Bytes of archives and of HDF5 files are changed, and values of configurations. What is drawn is the
same in every run; HYPOTHESIS_PROFILE=explore draws other changes, and more of them.
"""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import treadle.keras
from support import keras_configs, keras_files, keras_mutations
from treadle.keras.files.config import read_config
from treadle.keras.files.hdf5 import File

MOST = 1 << 25  # bytes of memory: a good file, its JSON and its model take a tenth


def cheaply(function, *arguments):
    """Call a function that may raise ValueError with the file's name, and take little memory."""
    tracemalloc.start()
    try:
        function(*arguments)
    except ValueError as error:
        assert str(error).startswith("treadle.keras.load: ")  # noqa: PT017
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < MOST


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("perturbed") / "model"


@pytest.mark.parametrize("name", keras_files.MODELS)
@given(seed=st.integers(0, 2**32 - 1))
def test_files(name, path, seed):
    path.write_bytes(keras_mutations.drawn(name, np.random.default_rng(seed)))
    cheaply(treadle.keras.load, path)


@pytest.mark.parametrize("make", [keras_configs.sequential, keras_configs.functional])
@given(seed=st.integers(0, 2**32 - 1))
def test_configurations(make, seed):
    config = keras_mutations.changed_values(make(), np.random.default_rng(seed))
    cheaply(read_config, config, "treadle.keras.load: file")


def visit(data):
    """Read all of an HDF5 file that can be found: what a layer would, and more."""
    file = File(data, "treadle.keras.load: file")
    paths = [""]
    for path in paths:
        if len(paths) > 300 or path.count("/") > 9:
            break
        for name in ("model_config", "dtype", "name", "keras_version"):
            file.text(path, name)
        for name in ("layer_names", "weight_names"):
            file.texts(path, name)
        names = file.names(path) if path == "" or is_group(file, path) else []
        paths += [f"{path}/{name}".lstrip("/") for name in names]


def test_all_layouts_are_visited():
    """The file that is changed below is read whole where nothing is changed."""
    visit(image(0))


def is_group(file, path):
    """Return whether a path leads to a group; an array is read."""
    try:
        file.array(path).read()
    except ValueError as error:
        if "is no array" not in str(error):
            raise
        return True
    return False


@given(seed=st.integers(0, 2**32 - 1))
def test_hdf5(seed):
    """Also of forms that Keras does not write: chunks, filters, later headers."""
    cheaply(visit, keras_mutations.changed(image(seed % 4), np.random.default_rng(seed)))


def image(which, made={}):  # noqa: B006
    """Return one of four HDF5 files, made once."""
    h5 = pytest.importorskip("support.hdf5_files")
    if which not in made:
        made[which] = h5.image(h5.everything, libver=["earliest", "v108", "v110", "latest"][which])
    return made[which]
