"""A recurrent net that the package has is one that the references and the tests have.

Beside it, test_activation.py, test_reference.py and the lists made from the package's tables.
"""

import re

import treadle
from reference import recurrent as reference
from reference import recurrent_torch
from support import samples
from support.bits import layers as bits
from support.checks import CELLS, MODULES
from treadle.layers import recurrent_spec
from treadle.layers.cells import Cell
from treadle.layers.module import LAYERS
from treadle.layers.recurrent import Recurrent


def test_every_cell_is_compared(source):
    """The package, the engine, the references and the tests name the same recurrent nets."""
    modes = set(samples.MODES)
    assert modes == set(recurrent_spec.GATES) == set(MODULES) == set(CELLS)
    text = (source / "cpp/engine/recurrent/cell_shape.h").read_text()
    enumerated = re.search(r"enum class Mode {(.*?)}", text)[1]
    assert modes == set(re.findall(r"\w+", enumerated))
    for base, classes in ((Recurrent, MODULES), (Cell, CELLS)):
        public = {
            value
            for value in (getattr(treadle, name) for name in treadle.__all__)
            if isinstance(value, type) and issubclass(value, base)
        }
        assert public == set(classes.values())
    for mode in modes:
        for definition in (reference, recurrent_torch):
            assert callable(getattr(definition, f"{mode}_cell"))
        # The test files of a net bear its name.
        assert (source / f"tests/layers/test_{mode}.py").is_file()


def test_every_layer_has_its_bits():
    """A new layer gets a case of `support.bits`, which runs on every ISA with one and two threads.
    Those named here have theirs among the recurrent nets and the models.
    """
    elsewhere = {cls.__name__ for cls in (*MODULES.values(), *CELLS.values())}
    elsewhere |= {
        "MultiheadAttention",
        "TransformerEncoder",
        "TransformerEncoderLayer",
        "LayerNorm",
    }
    assert set(LAYERS) == elsewhere | set(bits.LAYERS) | {"Sequential", "Seq2Seq"}
