"""Real model files with bytes of their structure changed: each is read or refused."""

import numpy as np
import pytest

from support import model_files, onnx_mutations

FILES = {n: p for n, p in model_files.found(".onnx").items() if p.stat().st_size < 5_000_000}


@pytest.mark.skipif(not FILES, reason="no model files (TREADLE_MODEL_FILES)")
@pytest.mark.parametrize("name", FILES or ["none"])
def test_mutations_of_files(name):
    """Nothing but the documented errors, when a changed file is loaded and run."""
    rng = np.random.default_rng([*name.encode()])
    data = FILES[name].read_bytes()
    places = onnx_mutations.structure(data)
    assert 0 < places.size < len(data) / 2
    for place in rng.choice(places, 25):
        onnx_mutations.use(onnx_mutations.mutated_near(data, int(place), rng))
