"""Native recurrent nets, and their arguments by name."""

from dataclasses import fields

import treadle
from support import samples
from support.entries import INPUT, H
from treadle._inputs.sequence import SequenceInputs


def native_arguments():
    """The arguments of a constructor that do, by their names."""
    tanh, sigmoid = ("tanh", 0.0, 0.0), ("sigmoid", 0.0, 0.0)
    return {
        "function": "treadle.X", "weights": [named_layer("lstm", INPUT)],
        "mode": "lstm", "input_size": INPUT, "hidden_size": H, "proj_size": 0, "num_layers": 1,
        "direction": "forward", "activations": {"f": sigmoid, "g": tanh, "h": tanh},
        "clip": 0.0, "input_forget": False, "reset_after": True, "dtype": "float32",
    }  # fmt: skip


def named_layer(mode, inputs):
    """The weights of one layer and direction by their names."""
    return dict(zip(NAMES, samples.layer(mode, inputs, H)[0], strict=True))


NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
FIELDS = [field.name for field in fields(SequenceInputs)]


def inputs_of(named):
    """The arrays of a call, out of all its arguments by name."""
    return SequenceInputs(**{name: named[name] for name in FIELDS if name in named})


def net(mode, direction="forward", layers=1):
    """A native net, and the weights that it was packed from."""
    D = 1 + (direction == "bidirectional")
    weights = [named_layer(mode, H * D if i >= D else INPUT) for i in range(layers * D)]
    own = {"mode": mode, "num_layers": layers, "direction": direction, "weights": weights}
    return treadle._core.RecurrentStack(**native_arguments() | own), weights
