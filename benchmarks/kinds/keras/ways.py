"""The ways in which a worker can run programs: Keras on a backend, treadle in Keras, or a file."""

from __future__ import annotations

from ...core.kind import OURS
from .cases import CALL, FILE, KerasCase

REFERENCE = "reference"  # Keras on torch, also in float64
WITHOUT = "treadle.keras.load"  # and no Keras in the process
BACKENDS = {
    REFERENCE: "torch",
    OURS: "torch",
    "keras_torch": "torch",
    "keras_jax": "jax",
    "keras_tensorflow": "tensorflow",
}
PLAIN, NO_GRAD, JIT, GRAPH = "model(x)", "model(x) in no_grad", "jax.jit", "tf.function"
# JAX's own loop over time, not compiled, takes more than half a second for each call.
CALLS = {"torch": (PLAIN, NO_GRAD), "jax": (JIT,), "tensorflow": (PLAIN, GRAPH)}


def variants(case: KerasCase, way: str) -> tuple[str, ...]:
    """Return what a user can write: a call may be compiled, or without gradients."""
    if case.group not in (CALL, FILE):
        return (case.group,)
    return CALLS[BACKENDS[way]]
