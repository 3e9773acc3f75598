"""A test of an installed package that needs nothing else: no test framework and no source tree.

Each wheel runs it in an environment of its own: ``python tests/support/installed.py``. With the
argument ``--release`` the package must also have what `pip install .` does not make: the bill of
materials of its wheel.
"""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import treadle


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, parameters):
    """The LSTM of the documentation, in float64."""
    w_ih, w_hh, b_ih, b_hh = (p.astype(np.float64) for p in parameters)
    h = c = np.zeros((x.shape[1], w_hh.shape[1]))
    outputs = []
    for frame in x.astype(np.float64):
        i, f, g, o = np.split(frame @ w_ih.T + b_ih + h @ w_hh.T + b_hh, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


def check_numbers():
    module = treadle.LSTM(24, 37, seed=0)
    x = np.random.default_rng(0).standard_normal((9, 5, 24)).astype(np.float32)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    y, _ = module(x)
    assert np.abs(y - lstm(x, [getattr(module, name) for name in names])).max() < 1e-5
    stream = module.stream(batch_size=5)
    assert np.array_equal(np.stack([stream.step(frame) for frame in x]), y)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "lstm.safetensors")
        treadle.save(module, path)
        assert np.array_equal(treadle.load(path)(x)[0], y)


def check_files():
    """The files that the wheel listed are there, types, stubs and license among them."""
    package = importlib.metadata.distribution("treadle")
    assert package.version == treadle.__version__
    assert package.metadata["License-Expression"] == "MIT"
    listed = {file.as_posix(): Path(file.locate()) for file in package.files}
    absent = [name for name, path in listed.items() if not path.is_file()]
    assert absent == [], absent
    folder = Path(treadle.__file__).parent
    stubs = {f"treadle/_core{part}.pyi" for part in ("", "_graph", "_streams", "_transformer")}
    assert {"treadle/py.typed", "treadle/_version.pyi", *stubs} <= listed.keys(), sorted(listed)
    assert listed["treadle/__init__.py"].samefile(folder / "__init__.py")
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in listed)
    sources = [name for name in listed if name.endswith((".cpp", ".h", ".o", ".a"))]
    assert sources == [], sources


def check_bill_of_materials():
    """The bill of materials names what is compiled into the module, and nothing else."""
    package = importlib.metadata.distribution("treadle")
    (file,) = [file for file in package.files if file.name == "treadle.cdx.json"]
    assert file.parent.as_posix() == f"treadle-{treadle.__version__}.dist-info/sboms"
    bill = json.loads(file.read_text(encoding="utf-8"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    subject = bill["metadata"]["component"]
    assert (subject["name"], subject["version"]) == ("treadle", treadle.__version__)
    versions = {component["name"]: component["version"] for component in bill["components"]}
    assert re.fullmatch(r"3(\.\d+)+", versions.pop("pybind11")), bill
    if sys.platform == "linux":  # the C++ library is shared, or compiled in and named
        module = Path(treadle._core.__file__).read_bytes()
        shared = re.search(rb"\0lib(std)?c\+\+[-\w.]*\.so\.\d", module) is not None
        assert len(versions) == (0 if shared else 1), (versions, shared)
        assert versions.keys() <= {"libstdc++", "libc++"}, versions
    else:
        assert versions == {}, versions
    parts = [component["bom-ref"] for component in bill["components"]]
    assert bill["dependencies"] == [{"ref": subject["bom-ref"], "dependsOn": parts}]


def main():
    if sys.argv[1:] == ["numbers"]:  # a child, on the instruction set of its environment
        check_numbers()
        return
    check_files()
    if sys.argv[1:] == ["--release"]:
        check_bill_of_materials()
    elif sys.argv[1:]:
        sys.exit(f"usage: {sys.argv[0]} [--release]")
    for isa in treadle.available_isas():
        environment = os.environ | {"TREADLE_ISA": isa}
        subprocess.run([sys.executable, __file__, "numbers"], env=environment, check=True)
        print(f"treadle {treadle.__version__} computes what it should on {isa}")
    subprocess.run([sys.executable, "-m", "treadle", "info"], check=True)


if __name__ == "__main__":
    main()
