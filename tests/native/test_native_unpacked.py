"""Nets that read their weights where they lie, in every call, have the bits of packed ones."""

import numpy as np
import pytest

import treadle
from support import samples
from support.native_checks import F32
from support.native_recurrent import native_arguments
from support.tolerance import assert_same_bits
from treadle._inputs.sequence import SequenceInputs
from treadle.layers.recurrent_spec import RecurrentSpec

# Gates share vectors in a last panel (H = 1, 5, 17, 18, 50 and others, as the ISA has lanes); sums
# are cut into blocks of 256 (I = 300, H = 270).
SHAPES = [(1, 1), (3, 4), (4, 5), (7, 17), (16, 18), (40, 33), (5, 50), (300, 64), (33, 270)]
MODES = ["rnn", "lstm", "gru"]


def spec_of(mode, I, H, **options):
    return RecurrentSpec(mode, I, H, **options)


def weights_of(spec):
    """A dict of arrays for each direction."""
    return [
        {name: samples.normal(7 + d, *shape) * F32(0.3) for name, shape in spec.shapes().items()}
        for d in range(spec.directions)
    ]


def inputs_of(spec, T, B, *, states=True):
    h = samples.normal(1, spec.directions, B, spec.state_size)
    c = samples.normal(2, spec.directions, B, spec.hidden_size) if spec.mode == "lstm" else None
    x = samples.normal(0, T, B, spec.input_size)
    return SequenceInputs(x, h, c) if states else SequenceInputs(x, None, None)


def run(native, inputs, **options):
    """The arrays that a call returns, without those that a mode does not have."""
    return [array for array in native.run(inputs, **options) if array is not None]


def both(spec, weights):
    """The packed net, and the one that is not packed."""
    return spec.pack("f", weights), spec.pack("f", weights, packed=False)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("I", "H"), SHAPES)
def test_bits_of_a_call(isa, mode, I, H):
    """Without and with hoisted input parts (T > 1), one row, and rows that share the weights."""
    spec = spec_of(mode, I, H)
    packed, unpacked = both(spec, weights_of(spec))
    assert packed.weight_bytes > unpacked.weight_bytes == 0
    for T, B in ((1, 1), (1, 7), (3, 2), (2, 17)):
        inputs = inputs_of(spec, T, B)
        assert_same_bits(run(unpacked, inputs, save=True), run(packed, inputs, save=True))


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("lstm", {"proj_size": 5}),
        ("lstm", {"proj_size": 20, "direction": "bidirectional"}),
        ("gru", {"direction": "reverse", "bias": False}),
        ("lstm", {"direction": "bidirectional", "bias": False}),
        ("rnn", {"activation": "relu"}),
        ("gru", {"clip": 0.5, "recurrent_activation": "hard_sigmoid"}),
        ("lstm", {"input_forget": True, "activation": "softsign"}),
    ],
)
def test_bits_with_options(isa, threads, mode, options):
    spec = spec_of(mode, 20, 33, **options)
    packed, unpacked = both(spec, weights_of(spec))
    for T, B in ((1, 1), (4, 3)):
        inputs = inputs_of(spec, T, B, states=B > 1)
        assert_same_bits(run(unpacked, inputs, save=True), run(packed, inputs, save=True))


def test_bits_with_two_threads(threads):
    """So much work that threads share the panels of a step."""
    spec = spec_of("gru", 300, 300)
    packed, unpacked = both(spec, weights_of(spec))
    inputs = inputs_of(spec, 20, 1)
    assert_same_bits(run(unpacked, inputs), run(packed, inputs))


def test_masks_lengths_and_resets():
    spec = spec_of("lstm", 6, 9)
    packed, unpacked = both(spec, weights_of(spec))
    x, h, c = samples.normal(0, 5, 3, 6), *(samples.normal(i, 1, 3, 9) for i in (1, 2))
    for rows in (
        {"lengths": np.array([2, 0, 5])},
        {"mask": np.arange(15).reshape(3, 5) % 3 > 0},
        {"resets": np.arange(15).reshape(5, 3) % 4 == 1},
    ):
        inputs = SequenceInputs(x, h, c, **rows)
        assert_same_bits(run(unpacked, inputs), run(packed, inputs))


@pytest.mark.parametrize("mode", MODES)
def test_a_call_reads_the_weights_of_that_moment(mode):
    spec = spec_of(mode, 6, 9)
    weights = weights_of(spec)
    unpacked, inputs = spec.pack("f", weights, packed=False), inputs_of(spec, 1, 1)
    for name in weights[0]:
        weights[0][name][-1] += 1
        assert_same_bits(run(unpacked, inputs), run(spec.pack("f", weights), inputs))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("I", "H"), [(1, 1), (7, 17), (300, 64), (33, 270), (400, 20)])
def test_gradients_of_few_rows_have_the_bits_of_those_among_many(isa, mode, I, H):
    """The way back reads weights where they lie for a few rows and steps, and packs them for many:
    the gradients of x and h of a row are the same."""
    spec = spec_of(mode, I, H)
    weights = weights_of(spec)
    native = spec.pack("f", weights)
    many = inputs_of(spec, 2, 70)

    def backward(inputs):
        y, h_n, c_n, saved = native.run(inputs, save=True)
        grads = {"y": y, "h_n": h_n, "c_n": c_n}
        return native.backward(inputs, weights=weights, y=y, saved=saved, grads=grads)

    expected = backward(many)
    for rows in (slice(3, 4), slice(5, 8)):
        states = [None if s is None else s[:, rows].copy() for s in (many.h_0, many.c_0)]
        found = backward(SequenceInputs(many.x[:, rows].copy(), *states))
        assert_same_bits(found["x"], expected["x"][:, rows].copy())
        assert_same_bits(found["h_0"], expected["h_0"][:, rows].copy())


def test_the_gradient_of_the_first_state_is_left_out():
    spec = spec_of("gru", 3, 4)
    weights = weights_of(spec)
    native, inputs = spec.pack("f", weights), inputs_of(spec, 2, 2)
    y, h_n, _, saved = native.run(inputs, save=True)
    given = {"weights": weights, "y": y, "saved": saved, "grads": {"y": y, "h_n": h_n}}
    every, less = native.backward(inputs, **given), native.backward(inputs, **given, want_h=False)
    assert less["h_0"] is None
    assert_same_bits(less["x"], every["x"])
    for name, grad in less["weights"][0].items():
        assert_same_bits(grad, every["weights"][0][name])


@pytest.mark.parametrize(("T", "B"), [(0, 2), (2, 0), (2, 2)])
def test_gradients_of_weights_that_no_step_has_used_are_zero(T, B):
    spec = spec_of("lstm", 3, 4, proj_size=2)
    weights = weights_of(spec)
    native = spec.pack("f", weights)
    lengths = np.zeros(B, np.int64)
    inputs = SequenceInputs(samples.normal(0, T, B, 3), None, None, lengths)
    y, _, _, saved = native.run(inputs, save=True)
    found = native.backward(inputs, weights=weights, y=y, saved=saved, grads={"y": y})
    for name, grad in found["weights"][0].items():
        assert_same_bits(grad, np.zeros_like(weights[0][name]))


def test_what_has_to_be_packed_is_refused():
    good = native_arguments() | {"packed": False}
    treadle._core.RecurrentStack(**good)
    peepholes = [good["weights"][0] | {"peepholes": np.zeros(3 * good["hidden_size"], F32)}]
    low = [
        {name: a.astype(np.uint16) if a.ndim == 2 else a for name, a in good["weights"][0].items()}
    ]
    spec = spec_of("gru", 3, 4, reset_after=False)
    with pytest.raises(ValueError, match="packed is False, expected True"):
        spec.pack("f", weights_of(spec), packed=False)
    for wrong in ({"weights": peepholes}, {"weights": low, "dtype": "bfloat16"}):
        with pytest.raises(ValueError, match="packed is False, expected True"):
            treadle._core.RecurrentStack(**(good | wrong))
