"""HDF5 files in memory, written by h5py."""

import io

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")


def image(write, **options):
    """Return the bytes of a file after ``write(file)``."""
    target = io.BytesIO()
    with h5py.File(target, "w", **options) as file:
        write(file)
    return target.getvalue()


def compact():
    """Return creation properties of an array that lies in its description."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    return properties


def virtual(file):
    """Write an array that is made of another file's."""
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "y", (2,))
    file.create_virtual_dataset("x", layout)


def committed(file):
    """Write an array whose type is an object of its own."""
    file["type"] = h5py.h5t.IEEE_F32LE.dtype
    file.create_dataset("x", (2,), file["type"])


def everything(file):
    """Write arrays of all layouts and attributes of all sorts."""
    file.attrs["model_config"] = "{}" * 300
    file.attrs["layer_names"] = ["a", "b", "c"]
    values = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    for name in ("a", "b", "c"):
        group = file.create_group(f"layers/{name}")
        group.attrs["weight_names"] = np.array([b"kernel:0", b"bias:0"])
        group.create_dataset("plain", data=values)
        group.create_dataset("compact", data=values, dcpl=compact())
    file.create_dataset("chunks", data=values, chunks=(2, 2))
    file.create_dataset("packed", data=values, chunks=(4, 4), compression=4, shuffle=True)
    file.create_dataset("empty", (0, 3), "f4")
    file.create_dataset("number", data=np.int64(3))
    halves = np.zeros(4, np.uint16).view("V2")
    file.create_dataset("half", data=halves).attrs["dtype"] = "bfloat16"
