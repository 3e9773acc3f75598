"""Streams of a whole Sequential: bit for bit its result, alone and in a pool; or refused."""

import numpy as np
import pytest

import treadle
from support import samples
from support.tolerance import assert_same_bits

B, T = 3, 19


def tagger():
    return treadle.Sequential(
        treadle.Embedding(50, 8, seed=0),
        treadle.LSTM(8, 12, num_layers=2, batch_first=True, seed=0),
        treadle.LayerNorm(12),
        treadle.Linear(12, 5, seed=0),
        treadle.GELU(),
        treadle.Softmax(),
    )


def dense_net():
    return treadle.Sequential(
        treadle.Linear(6, 9, seed=0), treadle.ReLU(),
        treadle.Sequential(treadle.GRU(9, 7, seed=0), treadle.RNN(7, 4, seed=0)),
        treadle.Linear(4, 2, seed=0),
    )  # fmt: skip


def crnn(**options):
    return treadle.Sequential(
        treadle.Conv1d(6, 10, 3, dilation=2, seed=0, **options),
        treadle.ReLU(),
        treadle.BatchNorm1d(10),
        treadle.Conv1d(10, 8, 2, seed=0),
        treadle.Transpose(1, 2),
        treadle.GRU(8, 7, batch_first=True, seed=0),
        treadle.Linear(7, 3, seed=0),
    )


def pointwise_conv():
    return treadle.Sequential(
        treadle.Conv1d(6, 10, 1, seed=0), treadle.Transpose(1, 2),
        treadle.LSTM(10, 4, batch_first=True, proj_size=2, dtype="int8", seed=0),
    )  # fmt: skip


CASES = {
    "tagger": (tagger, "BT", "BTF"),
    "dense": (dense_net, "TBF", "TBF"),
    "crnn": (crnn, "BFT", "BTF"),
    "crnn-stride": (lambda: crnn(stride=2), "BFT", "BTF"),
    "crnn-long-stride": (lambda: crnn(stride=7), "BFT", "BTF"),
    "pointwise": (pointwise_conv, "BFT", "BTF"),
}


def frames(axes, seed=0, time=T):
    sizes = {"B": B, "T": time, "F": 6}
    shape = [sizes[axis] for axis in axes]
    if "F" not in axes:
        return np.random.default_rng(seed).integers(0, 50, shape)
    return samples.normal(seed, *shape)


@pytest.mark.parametrize("case", CASES)
def test_chunks_are_the_whole_sequence(isa, threads, case):
    make, axes, out = CASES[case]
    model, x = make(), frames(axes)
    whole = model(x)
    for borders in ((1, 2, 3, 9, 9, 17), range(1, T), ()):
        stream = model.stream(B)
        parts = [stream.run(part) for part in np.split(x, borders, axes.index("T"))]
        assert_same_bits(np.concatenate(parts, out.index("T")), whole)


@pytest.mark.parametrize("case", ["tagger", "dense", "pointwise"])
def test_steps_resets_and_pools(isa, case):
    make, axes, out = CASES[case]
    model, x = make(), frames(axes)
    whole = np.moveaxis(model(x), out.index("T"), 0)
    by_time = np.moveaxis(x, axes.index("T"), 0)
    stream = model.stream(B)
    found = [stream.step(x_t) for x_t in by_time]
    assert_same_bits(np.stack(found), whole)
    before = stream.state
    stream.reset(rows=[1])
    for name, array in stream.state.items():
        assert_same_bits(array[[0, 2]], before[name][[0, 2]])
        assert not array[1].any()
    stream.reset()
    assert_same_bits(stream.step(by_time[0]), whole[0])
    pool = treadle.StreamPool(model, 4)
    ids = [pool.open() for _ in range(B)]
    rows = np.ascontiguousarray(np.moveaxis(by_time, axes.replace("T", "").index("B") + 1, 0))
    parts = [pool.step(ids, rows[:, 0])[:, None], pool.step(ids, rows[:, 1:4])]
    ragged = pool.step({ids[0]: rows[0, 4:6], ids[2]: rows[2, 4:9], ids[1]: rows[1, 4]})
    for row in range(B):
        joined = [part[row] for part in parts] + [np.atleast_2d(ragged[ids[row]])]
        assert_same_bits(np.concatenate(joined), whole[: len(np.concatenate(joined)), row])
    moved = treadle.StreamPool(make(), 1).open(state=ids[1].export())
    assert_same_bits(moved.push(rows[1, 5]), whole[5, row - 1])
    ids[2].state = ids[0].state
    assert ids[2].export() == ids[0].export()


def test_a_call_that_raises_changes_nothing():
    model, x = dense_net(), frames("TBF")
    stream = model.stream(B)
    stream.run(x[:4])
    before = stream.state
    for wrong, kind in (
        (x[:, :2], ValueError), (x[:, :, :3], ValueError), (x.astype(np.float64), TypeError),
        (x[0], ValueError),
    ):  # fmt: skip
        with pytest.raises(kind, match="treadle"):
            stream.run(wrong)
    for rows in ([3], [[0]], [True]):
        with pytest.raises(ValueError, match="rows"):
            stream.reset(rows)
    with pytest.raises(ValueError, match="expected"):
        stream.step(x)
    assert_same_bits(list(stream.state.values()), list(before.values()))


def test_weights_are_those_of_the_beginning():
    model, x = dense_net(), frames("TBF")
    stream, expected = model.stream(B), model(x)
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})
    assert_same_bits(stream.run(x), expected)


class Own(treadle.Linear):
    """A layer of a user, which may do anything."""


REFUSED = {
    "both directions": ([treadle.GRU(4, 4, bidirectional=True)], "0: the layer has bidirectional"),
    "padding": ([treadle.Conv1d(4, 4, 3, padding=1)], "0: the Conv1d pads both ends"),
    "attention": (
        [treadle.LSTM(4, 4), treadle.TransformerEncoderLayer(4, 2, 8)],
        "1: a TransformerEncoderLayer is not known",
    ),
    "over time": ([treadle.LSTM(4, 4), treadle.Softmax(0)], "1: the softmax is over another axis"),
    "flat": ([treadle.LSTM(4, 4), treadle.Flatten()], "1: a Flatten is not known"),
    "cell": ([treadle.LSTMCell(4, 4)], "0: a LSTMCell is not known"),
    "own": ([Own(4, 4)], "0: a Own is no layer of treadle"),
    "axes": ([treadle.Conv1d(4, 4, 1), treadle.GRU(4, 4)], r"1: the layer takes \[T, B, F\]"),
    "nothing": ([], "a sequence of no layers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_stream(case):
    layers, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        treadle.Sequential(*layers).stream()


def test_convolutions_over_frames_have_no_steps_and_no_pools():
    stream = crnn().stream(B)
    with pytest.raises(ValueError, match=r"0 is a Conv1d over several frames.*use run"):
        stream.step(frames("BF"))
    with pytest.raises(ValueError, match="reset all rows"):
        stream.reset(rows=[0])
    with pytest.raises(ValueError, match=r"Sequential\.stream"):
        treadle.StreamPool(crnn(), 3)
    with pytest.raises(ValueError, match="state is given"):
        treadle.StreamPool(tagger(), 3, state={})
