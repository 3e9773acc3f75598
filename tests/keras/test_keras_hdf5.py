"""treadle's reader of HDF5 finds what h5py wrote, and refuses what no file of Keras has."""

from itertools import product

import numpy as np
import pytest

from treadle.keras.files.hdf5 import File

h5py = pytest.importorskip("h5py")
h5 = pytest.importorskip("support.hdf5_files")


def opened(write, **options):
    """Return the file that a function writes."""
    return File(h5.image(write, **options), "test: file.h5")


@pytest.mark.parametrize("count", [0, 1, 8, 9, 17, 500, 3000])
def test_names(count):
    """A group's names lie in one node, in a tree of nodes, and in a tree of trees."""
    names = sorted(f"layer_{index}" for index in range(count))

    def write(file):
        for name in names:
            file.create_group(f"group/inner/{name}")
        file.create_group("group/other")

    file = opened(write)
    assert sorted(file.names("group/inner")) == names
    assert all(file.has(f"group/inner/{name}") for name in names)
    assert not file.has("group/inner/layer")
    assert not file.has("group/nowhere/layer")
    assert file.has("")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_numbers(kind, order):
    values = np.arange(24).reshape(2, 3, 4).astype(order + kind)
    if kind[0] in "fi":
        values -= values.dtype.type(7)
    file = opened(lambda f: f.create_dataset("a/b", data=values))
    dataset = file.array("a/b")
    found = dataset.read()
    assert dataset.shape == (2, 3, 4)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values.astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        *product([(), (0,), (3, 0)], ["contiguous", "compact"]),
        *product(
            [(1,), (5, 7), (1, 2, 3, 4, 1)], ["contiguous", "compact", "chunks", "gzip", "shuffle"]
        ),
    ],
)
def test_shapes_and_layouts(shape, layout):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    options = {
        "contiguous": {},
        "compact": {"dcpl": h5.compact()},
        "chunks": {"chunks": tuple(max(1, n // 2) for n in shape)},
        "gzip": {"chunks": True, "compression": "gzip"},
        "shuffle": {"chunks": shape, "compression": "gzip", "shuffle": True},
    }[layout]
    file = opened(lambda f: f.create_dataset("x", data=values, **options))
    np.testing.assert_array_equal(file.array("x").read(), values)


def test_many_chunks():
    values = np.random.default_rng(0).normal(size=(103, 31)).astype(np.float32)
    for options in ({}, {"compression": 4, "shuffle": True}):
        file = opened(lambda f, o=options: f.create_dataset("x", data=values, chunks=(2, 3), **o))
        np.testing.assert_array_equal(file.array("x").read(), values)


def test_bfloat16():
    values = np.float32([1.0, -2.5, 3e38, 0.0])
    halves = (values.view(np.uint32) >> 16).astype(np.uint16).view("V2")

    def write(file):
        file.create_dataset("noted", data=halves).attrs["dtype"] = "bfloat16"
        file.create_dataset("bare", data=halves)

    file = opened(write)
    expected = (values.view(np.uint32) & 0xFFFF0000).view(np.float32)
    np.testing.assert_array_equal(file.array("noted").read(), expected)
    with pytest.raises(ValueError, match=r"bare has numbers of 2 bytes and no type"):
        file.array("bare")


def test_texts():
    names = [f"layer_{index}/kernel:0" for index in range(300)]

    def write(file):
        group = file.create_group("g")
        group.attrs["one"] = "ein Tisch, drei Türen"
        group.attrs["bytes"] = b"plain"
        group.attrs["fixed"] = np.array([name.encode() for name in names])
        group.attrs["any"] = names
        group.attrs["none"] = []
        group.attrs["empty"] = ""
        group.attrs["pieces0"] = names[:200]
        group.attrs["pieces1"] = names[200:]
        group.attrs["long"] = "x" * 100_000
        group.attrs["number"] = 3
        group.create_dataset("array", data=np.zeros(3)).attrs["dtype"] = "bfloat16"

    file = opened(write)
    assert file.text("g", "one") == "ein Tisch, drei Türen"
    assert file.text("g", "bytes") == "plain"
    assert file.text("g", "empty") == ""
    assert file.text("g", "long") == "x" * 100_000
    assert file.text("g", "missing") is file.text("nowhere", "one") is None
    for name in ("fixed", "any", "pieces"):
        assert file.texts("g", name) == names
    assert file.texts("g", "none") == []
    assert file.text("g/array", "dtype") == "bfloat16"
    with pytest.raises(ValueError, match="attribute 'number' of g"):
        file.text("g", "number")
    with pytest.raises(ValueError, match="expected texts of 1 axes"):
        file.texts("g", "one")


def test_the_latest_form_of_small_files():
    """HDF5's newer headers and links are read as far as small files have them."""
    values = np.arange(6, dtype=np.float32).reshape(2, 3)

    def write(file):
        file.attrs["text"] = "here"
        for name in ("a", "b", "c"):
            file.create_dataset(f"g/{name}/x", data=values)

    for libver in ("v108", "v110", "latest"):
        file = opened(write, libver=libver)
        assert sorted(file.names("g")) == ["a", "b", "c"]
        assert file.text("", "text") == "here"
        np.testing.assert_array_equal(file.array("g/b/x").read(), values)


REFUSED = {
    "soft link": (lambda f: f.__setitem__("x", h5py.SoftLink("/y")), "link by name"),
    "external link": (
        lambda f: f.__setitem__("x", h5py.ExternalLink("/etc/passwd", "/y")),
        "link by name",
    ),
    "external storage": (
        lambda f: f.create_dataset("x", (2,), "f4", external=[("/etc/passwd", 0, 8)]),
        "lies in another file",
    ),
    "virtual": (h5.virtual, "virtual array"),
    "reference": (
        lambda f: f.create_dataset("x", data=f.ref, dtype=h5py.ref_dtype),
        "a reference to another object",
    ),
    "compound": (lambda f: f.create_dataset("x", (2,), [("a", "f4")]), "a compound"),
    "enumeration": (lambda f: f.create_dataset("x", data=[True]), "an enumeration"),
    "texts": (lambda f: f.create_dataset("x", data=["a"]), "no array of numbers"),
    "list of any length": (
        lambda f: f.create_dataset("x", (2,), h5py.vlen_dtype("f4")),
        "a list of any length",
    ),
    "lzf": (lambda f: f.create_dataset("x", (9,), "f4", compression="lzf"), "filter 32000"),
    "fletcher32": (lambda f: f.create_dataset("x", (9,), "f4", fletcher32=True), "filter 3"),
    "committed type": (h5.committed, "shares message 3"),
    "group": (lambda f: f.create_group("x"), "no array, expected one"),
    "nothing": (lambda f: None, "no array, expected one"),
    "no bytes": (lambda f: f.create_dataset("x", (2,), "f4"), r"bytes at 18446744073709551615"),
    "more than the file": (lambda f: f.create_dataset("x", (999, 99), "f4"), "than the file"),
    "shape bomb": (
        lambda f: f.create_dataset("x", (2**50,), "f4", chunks=(2**20,)),
        "expected at most 4294967296",
    ),
    "chunks of nothing": (
        lambda f: f.create_dataset("x", (2**28,), "f4", chunks=(2**20,), compression="gzip"),
        "expected within|has 0 chunks|expected them within",
    ),
    "too many axes": (lambda f: f.create_dataset("x", (1,) * 9, "f4"), "9 axes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    write, sentence = REFUSED[name]
    with pytest.raises(ValueError, match=sentence) as error:
        opened(write).array("x").read()
    assert str(error.value).startswith("test: file.h5")


def test_large_groups_of_the_latest_form_are_refused():
    def write(file):
        for index in range(20):
            file.create_group(f"g/{index}")

    with pytest.raises(ValueError, match=r"fractal heap.*save the file again without libver"):
        opened(write, libver="latest").names("g")


def test_circles():
    """A hard link upwards makes a path endless, and nothing else."""

    def write(file):
        file.create_group("a/b")
        file["a/b/up"] = file["a"]

    file = opened(write)
    assert file.names("a/b/up/b/up") == ["b"]
    assert file.has("/".join(["a", *["b/up"] * 50]))


def test_a_group_under_many_names():
    """Nor can it have its names and texts read over and over."""

    def write(file):
        group = file.create_group("x")
        group.attrs["names"] = ["a" * 60_000] * 200
        for index in range(300):
            group.create_group(f"inner{index}")
            file[f"x{index}"] = group

    file = opened(write)
    assert len(file.texts("x", "names")) == 200
    with pytest.raises(ValueError, match="leads to more than 2000000 nodes and entries"):
        [file.texts(f"x{index}", "names") for index in range(300)]
    with pytest.raises(ValueError, match="leads to more than"):
        [file.names(f"x{index}") for index in range(300)]


def test_texts_that_are_long_together():
    def write(file):
        file.attrs["names"] = ["a" * 60_000] * 300

    with pytest.raises(ValueError, match="more than 16777216 bytes of texts"):
        opened(write).texts("", "names")


def test_an_array_under_many_names():
    """A small file cannot ask for its bytes over and over."""

    def write(file):
        file.create_dataset("x0", data=np.zeros(10_000, np.float32))
        for index in range(1, 9):
            file[f"x{index}"] = file["x0"]

    file = opened(write)
    np.testing.assert_array_equal(file.array("x0").read(), 0)
    with pytest.raises(ValueError, match="the arrays have more bytes than the file"):
        file.array("x8")


def test_many_small_bombs():
    """Chunks of zeros are small, and many of them would be large."""

    def write(file):
        for index in range(9):
            file.create_dataset(
                f"x{index}", (1 << 21,), "f4", data=np.zeros(1 << 21), chunks=True, compression=9
            )

    file = opened(write)
    assert file.array("x0").read().shape == (1 << 21,)
    with pytest.raises(ValueError, match="the arrays have more bytes than the file"):
        [file.array(f"x{index}") for index in range(1, 9)]


def test_truncation():
    data = h5.image(lambda f: f.create_dataset("x", data=np.zeros(1000)))
    for size in (0, 8, 95, 96, len(data) // 2, len(data) - 1):
        with pytest.raises(ValueError, match=r"truncated|no HDF5"):
            File(data[:size], "test")
