"""A test of an installed package that needs nothing else: no test framework and no source tree.

Each wheel runs it in an environment of its own: ``python tests/support/installed.py``.
"""

import importlib.metadata
import os
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
    folder = Path(treadle.__file__).parent
    present = {path.name for path in folder.iterdir()}
    assert {"py.typed", "_core.pyi"} <= present, sorted(present)
    assert importlib.metadata.version("treadle") == treadle.__version__


def main():
    if len(sys.argv) > 1:  # a child, on the instruction set of its environment
        check_numbers()
        return
    check_files()
    for isa in treadle.available_isas():
        environment = os.environ | {"TREADLE_ISA": isa}
        subprocess.run([sys.executable, __file__, "numbers"], env=environment, check=True)
        print(f"treadle {treadle.__version__} computes what it should on {isa}")
    subprocess.run([sys.executable, "-m", "treadle", "info"], check=True)


if __name__ == "__main__":
    main()
