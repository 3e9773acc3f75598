"""layer_norm, softmax, gelu, silu, relu, embedding_sum, LayerNorm, on every ISA."""

import signal
import time

import numpy as np
import pytest
import torch

import treadle
from reference import attention as reference_attention
from reference import recurrent as reference
from support import samples
from support.sizes import around_powers
from support.tolerance import assert_same_bits, assert_sequence

F = treadle.functional
SIZES = [n for n in around_powers(70) if n] + [127, 384, 768, 1000]


@pytest.mark.parametrize("n", SIZES, ids=lambda n: f"N{n}")
def test_layer_norm(isa, n):
    weight, bias = samples.normal(1, n), samples.normal(2, n)
    for m in (1, 2, 7):
        x, residual = samples.normal([m, 3], m, n) + 3, samples.normal([m, 4], m, n)
        for more in ({}, {"residual": residual}):
            y = F.layer_norm(x, n, weight, bias, **more)
            assert_sequence(y, reference_attention.layer_norm, x, weight, bias, **more)
        assert_same_bits(
            F.layer_norm(x, n, weight, residual=residual), F.layer_norm(x + residual, n, weight)
        )
        assert_sequence(F.layer_norm(x, n, eps=0.1), reference_attention.layer_norm, x, eps=0.1)


def test_layer_norm_of_a_large_mean(isa):
    """Two passes: the mean is taken off before squares are summed."""
    x = samples.normal(0, 5, 100) + 1000
    y = F.layer_norm(x, 100)
    assert_sequence(y, reference_attention.layer_norm, x)


def test_layer_norm_of_several_axes(isa):
    x, weight, bias = (
        samples.normal(0, 2, 3, 4, 5),
        samples.normal(1, 4, 5),
        samples.normal(2, 4, 5),
    )
    for shape in ((4, 5), [4, 5], (np.int64(4), 5)):
        y = F.layer_norm(x, shape, weight, bias)
        expected = torch.nn.functional.layer_norm(
            *map(torch.from_numpy, (x,)), (4, 5), *map(torch.from_numpy, (weight, bias))
        )
        np.testing.assert_allclose(y, expected.numpy(), atol=1e-5)
    assert F.layer_norm(x, x.shape).shape == x.shape


@pytest.mark.parametrize(
    "shape", [0, -1, (), (0,), 1.0, "5", None, True, (5, "4"), 2**40, [[5]], 65 * (1,)], ids=repr
)
def test_wrong_normalized_shapes(shape):
    with pytest.raises(
        (ValueError, TypeError), match=r"^treadle\.functional\.layer_norm: normalized_shape "
    ):
        F.layer_norm(np.ones((2, 5), np.float32), shape)


def test_layer_norm_of_nothing(isa):
    assert F.layer_norm(np.ones((0, 5), np.float32), 5).shape == (0, 5)
    assert F.layer_norm(np.ones((3, 0, 5), np.float32), 5).shape == (3, 0, 5)


def test_layer_norm_special_values(isa):
    """NaN and infinity reach their row only."""
    x = samples.normal(0, 5, 33)
    clean = F.layer_norm(x, 33)
    x[1, 3], x[3, 0] = np.nan, np.inf
    y = F.layer_norm(x, 33)
    assert np.isnan(y[[1, 3]]).all()
    assert_same_bits(y[[0, 2, 4]], clean[[0, 2, 4]])
    assert not F.layer_norm(np.full((2, 33), 7, np.float32), 33).any()


@pytest.mark.parametrize("n", SIZES, ids=lambda n: f"N{n}")
def test_softmax(isa, n):
    for m in (1, 3):
        x = 5 * samples.normal([m, n], m, n)
        y = F.softmax(x)
        assert_sequence(y, reference_attention.softmax, x)
        assert (y >= 0).all()


def test_softmax_axes(isa):
    x = samples.normal(0, 3, 4, 5)
    for dim in range(-3, 3):
        np.testing.assert_allclose(
            F.softmax(x, dim), torch.softmax(torch.from_numpy(x), dim), atol=1e-6
        )
    assert F.softmax(np.zeros((3, 0), np.float32)).shape == (3, 0)
    assert F.softmax(np.zeros((0, 3), np.float32), 0).shape == (0, 3)
    with pytest.raises(ValueError, match="x has shape"):
        F.softmax(np.float32(1))


def test_softmax_special_values(isa):
    for n in (1, 5, 16, 40):
        x = samples.normal(0, 6, n)
        clean = F.softmax(x)
        x[0] = -np.inf
        x[1, 0] = np.nan
        x[2, -1] = np.inf
        x[3] += 1e30
        y = F.softmax(x)
        assert not y[0].any()
        assert np.isnan(y[1:3]).all()
        np.testing.assert_allclose(y[3], 1 / n, rtol=1e-6)
        assert_same_bits(y[4:], clean[4:])


@pytest.mark.parametrize(
    ("name", "options"),
    [("gelu", {}), ("gelu", {"approximate": "tanh"}), ("silu", {}), ("relu", {})],
)
def test_activations(isa, name, options):
    """Activations take any shape; test_activation.py tests the numbers."""
    key = name + "_tanh" * bool(options)
    for shape in ((), (0,), (7,), (3, 0, 2), (3, 4, 5)):
        x = samples.normal(0, *shape) * np.float32(3)
        y = getattr(F, name)(x, **options)
        assert y.shape == shape
        np.testing.assert_allclose(
            y, reference.activation(key, np.asarray(x, np.float64)), atol=1e-6
        )
        theirs = getattr(torch.nn.functional, name)(torch.from_numpy(np.asarray(x)), **options)
        np.testing.assert_allclose(y, theirs.numpy(), atol=1e-6)
    assert_same_bits(getattr(F, name)(np.asfortranarray(x), **options), y)


@pytest.mark.parametrize("approximate", ["erf", None, 0, True, ["none"], ""], ids=repr)
def test_wrong_approximations(approximate):
    with pytest.raises(ValueError, match=r"^treadle\.functional\.gelu: approximate "):
        F.gelu(np.ones(3, np.float32), approximate)


def embeddings(seed, h, *sizes):
    return [samples.normal([seed, i], n, h) for i, n in enumerate(sizes)]


@pytest.mark.parametrize("h", [1, 7, 16, 33, 384], ids=lambda h: f"H{h}")
def test_embedding_sum(isa, h):
    """One after the other, in their order."""
    rng = np.random.default_rng(0)
    for count in (1, 2, 3):
        tables = embeddings(count, h, 11, 5, 2)[:count]
        ids = [rng.integers(0, len(t), (3, 4)) for t in tables]
        expected = tables[0][ids[0]]
        for table, rows in zip(tables[1:], ids[1:], strict=True):
            expected = expected + table[rows]
        assert_same_bits(F.embedding_sum(ids, tables), expected)
        other = [i.astype(np.uint8) for i in ids[:1]] + [i.tolist() for i in ids[1:]]
        assert_same_bits(F.embedding_sum(tuple(other), iter(tables)), expected)


def test_embedding_sum_broadcasts(isa):
    words, positions = embeddings(0, 8, 11, 4)
    ids = np.array([[1, 2, 3, 4], [10, 0, 0, 1]])
    assert_same_bits(
        F.embedding_sum([ids, np.arange(4)], [words, positions]), words[ids] + positions
    )
    assert F.embedding_sum([np.zeros((0, 3), int)], [words]).shape == (0, 3, 8)


TABLES = embeddings(0, 4, 5, 3)
WRONG_SUMS = {
    "beyond": ([[5], [0]], TABLES),
    "negative": ([[0], [-1]], TABLES),
    "far beyond": ([[2**62], [0]], TABLES),
    "floats": ([[1.0], [0]], TABLES),
    "bools": ([[True], [0]], TABLES),
    "more ids": ([[0], [0], [0]], TABLES),
    "more tables": ([[0]], TABLES),
    "none": ([], []),
    "sizes": ([[0], [0]], [TABLES[0], samples.normal(0, 3, 5)]),
    "rank": ([[0], [0]], [TABLES[0], TABLES[1][0]]),
    "float64": ([[0], [0]], [TABLES[0], TABLES[1].astype(np.float64)]),
    "shapes": ([[0, 1], [0, 1, 2]], TABLES),
    "a number": (0, TABLES),
    "text": ("01", TABLES),
    "no tables": ([[0]], None),
    "empty table": ([[0]], [np.zeros((0, 4), np.float32)]),
    "scalar table": ([[0]], [np.float32(1)]),
}


@pytest.mark.parametrize("case", WRONG_SUMS)
def test_wrong_sums(case):
    with pytest.raises(
        (ValueError, TypeError), match=r"^treadle\.functional\.embedding_sum: .*(ids|tables)"
    ):
        F.embedding_sum(*WRONG_SUMS[case])


def test_a_row_does_not_see_its_neighbours(isa, threads):
    x, residual = samples.normal(0, 50, 70), samples.normal(1, 50, 70)
    norm = lambda rows: F.layer_norm(x[rows], 70, residual=residual[rows])
    for rows in (slice(0, 1), slice(49, 50), slice(3, 20)):
        assert_same_bits(norm(rows), norm(slice(None))[rows])
        assert_same_bits(F.softmax(x[rows]), F.softmax(x)[rows])


@pytest.mark.parametrize(
    "options", [{}, {"bias": False}, {"elementwise_affine": False}, {"eps": 0.1}]
)
def test_layer_norm_module(options):
    theirs = torch.nn.LayerNorm((4, 5), **options)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter)
    ours, x = treadle.from_torch(theirs), samples.normal(0, 3, 4, 5)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    np.testing.assert_allclose(ours(x), theirs(torch.from_numpy(x)).detach().numpy(), atol=1e-5)
    fresh = treadle.LayerNorm((4, 5), **options)
    assert repr(fresh) == repr(ours)
    assert all((v == (k == "weight")).all() for k, v in fresh.state_dict().items())


class Alarm(Exception):
    pass


@pytest.mark.parametrize("call", [F.softmax, F.gelu], ids=["rows", "elements"])
def test_interrupt(call):
    """A signal is seen within long rows and arrays, too."""
    x = np.ones((32, 2**22), np.float32)  # portable code takes a quarter of a second or more

    def ring(*_):
        raise Alarm

    level, before = treadle.isa(), signal.signal(signal.SIGALRM, ring)
    treadle._core.set_isa("portable")
    try:
        call(x)  # memory is warm from here on
        start = time.perf_counter()
        call(x)
        whole = time.perf_counter() - start
        for number in range(4):  # a busy machine gets another try
            start = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, whole / 10)
            with pytest.raises(Alarm):
                call(x)
            if time.perf_counter() - start < whole * 0.7:
                break
            assert number < 3
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        treadle._core.set_isa(level)
