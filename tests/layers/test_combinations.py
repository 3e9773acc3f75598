"""Any combination of options that may be combined, drawn by hypothesis, against the reference."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle
from support import samples
from support.checks import check_functional, check_module

SIZES = st.one_of(st.integers(1, 40), st.sampled_from([47, 48, 49, 63, 64, 65, 96, 127, 128, 129]))
PARAMETER = st.floats(0.125, 1, width=32)
ACTIVATIONS = st.one_of(
    st.sampled_from([None, "tanh", "sigmoid", "softsign", "softplus", "hard_sigmoid", "relu"]),
    st.tuples(st.sampled_from(["elu", "leaky_relu", "thresholded_relu"]), PARAMETER),
    st.tuples(st.sampled_from(["affine", "scaled_tanh", "hard_sigmoid"]), PARAMETER, PARAMETER),
)
# Gates in [0, 1]: with others the state may grow without bound, and its errors with it.
GATES = st.sampled_from(["sigmoid", "hard_sigmoid", ("hard_sigmoid", 0.2, 0.5)])


@st.composite
def machine(draw):
    return draw(st.sampled_from(treadle.available_isas())), draw(st.integers(1, 3))


@st.composite
def shapes(draw):
    """T, B, I, H: no step or no row, or at least 64 states.

    The bound is an error that float32 NumPy happens to make; of a few numbers it may be none.
    """
    t, b, h = draw(st.integers(0, 12)), draw(st.integers(0, 20)), draw(SIZES)
    b = draw(st.sampled_from([31, 33, 64, 127, 128, 129])) if b == 20 else b
    t = t * 5 if b < 3 else t
    return t, b and max(b, 64 // h), draw(SIZES), h


@st.composite
def calls(draw, mode, time, batch, leading, hidden, proj_size):
    """lengths or mask, resets, reset_state: each there or not."""
    seed, result = draw(st.integers(0, 2**16)), {}
    rng = np.random.default_rng(seed)
    kind = draw(st.sampled_from(["", "lengths", "mask"]))
    if kind == "lengths":
        result["lengths"] = rng.integers(0, time + 1, batch)
    if kind == "mask":
        result["mask"] = rng.random((batch, time)) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    if draw(st.booleans()):
        result["resets"] = rng.random((time, batch)) < draw(st.sampled_from([0.05, 0.3, 1]))
        if draw(st.booleans()):
            result["reset_state"] = samples.states(
                mode, leading, batch, hidden, proj_size=proj_size, seed=seed
            )
    return result


def on(where, work):
    """Run `work` with an ISA level and a number of threads."""
    isa, threads = treadle.isa(), treadle.get_num_threads()
    treadle._core.set_isa(where[0])
    treadle.set_num_threads(where[1])
    try:
        work()
    finally:
        treadle._core.set_isa(isa)
        treadle.set_num_threads(threads)


@settings(max_examples=250)
@given(st.data(), machine(), st.sampled_from(samples.MODES), shapes(), st.integers(0, 2**16))
def test_modules(data, where, mode, shape, seed):
    t, b, _, h = shape
    options = {
        "num_layers": data.draw(st.integers(1, 3)),
        "bidirectional": data.draw(st.booleans()),
        "batch_first": data.draw(st.booleans()),
        "bias": data.draw(st.booleans()),
    }
    proj_size = 0
    if mode == "rnn":
        options["nonlinearity"] = data.draw(
            st.sampled_from(["tanh", "relu", "softsign", "sigmoid"])
        )
    else:
        options["activation"] = data.draw(st.sampled_from(["tanh", "softsign", "hard_sigmoid"]))
        options["recurrent_activation"] = data.draw(GATES)
    if mode == "lstm" and h > 1:
        proj_size = options["proj_size"] = data.draw(st.sampled_from([0, 0, 1, h // 2]))
    if mode == "gru":
        options["reset_after"] = data.draw(st.booleans())
    leading = [options["num_layers"] * (1 + options["bidirectional"])]
    call = data.draw(calls(mode, t, b, leading, h, proj_size))
    state = data.draw(st.booleans())
    on(where, lambda: check_module(mode, shape, state=state, seed=seed, call=call, **options))


@settings(max_examples=250)
@given(st.data(), machine(), st.sampled_from(samples.MODES), shapes(), st.integers(0, 2**16))
def test_functions(data, where, mode, shape, seed):
    t, b, _, h = shape
    options = {
        "bias": data.draw(st.booleans()),
        "state": data.draw(st.booleans()),
        "reverse": data.draw(st.booleans()),
        "clip": data.draw(st.sampled_from([None, None, 0.25, 1.5])),
    }
    proj_size = 0
    if mode == "rnn":
        options["nonlinearity"] = data.draw(ACTIVATIONS)
    else:
        options["activation"] = data.draw(ACTIVATIONS)
        options["recurrent_activation"] = data.draw(GATES)
    if mode == "lstm":
        options["output_activation"] = data.draw(ACTIVATIONS)
        options["input_forget"] = data.draw(st.booleans())
        proj_size = options["proj_size"] = data.draw(st.sampled_from([0, 0, 1, h]))
        if data.draw(st.booleans()):
            options["peepholes"] = samples.normal(seed, 3 * h)
    if mode == "gru":
        options["reset_after"] = data.draw(st.booleans())
    options |= data.draw(calls(mode, t, b, [], h, proj_size))
    on(where, lambda: check_functional(mode, shape, seed=seed, **options))
