"""The files in tests/keras/files, which `make_keras_files.py` made."""

import gzip
import json
import pathlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent.parent / "keras" / "files"
NAMES = sorted(path.name.removesuffix(".gz") for path in FOLDER.glob("*.gz"))
# Those that have a configuration of their own.
MODELS = [name for name in NAMES if "_only" not in name]
CONFIG = FOLDER / "keras2_convolutions.json"


def content(name):
    """Return the bytes of a file."""
    return gzip.decompress((FOLDER / f"{name}.gz").read_bytes())


def unpacked(name, folder):
    """Write a file into a folder and return its path."""
    path = folder / name
    path.write_bytes(content(name))
    return path


def expected(name):
    """Return the lists of a model's inputs, of the outputs that its Keras computed, and of its
    weights in Keras' order.
    """
    with np.load(FOLDER / f"{name.split('.')[0].removesuffix('_only')}.npz") as arrays:
        return tuple(
            [arrays[key] for key in sorted(arrays) if key.startswith(letter)] for letter in "xyw"
        )


def config():
    """Return the configuration that belongs to the files of weights only."""
    return json.loads(CONFIG.read_text())
