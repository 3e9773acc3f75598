"""Embedding: rows of a table, ids that are checked."""

import numpy as np
import pytest
import torch

import treadle
from support.tolerance import assert_same_bits

TABLE = treadle.Embedding(10, 3, padding_idx=2, seed=0)


@pytest.mark.parametrize(
    "ids",
    [3, [1, 2], [[0, 9], [5, 5]], np.zeros((2, 0), np.int32), np.uint8(7), torch.tensor([4]),
     np.arange(10, dtype=np.int16)[::2], []],
    ids=str,
)  # fmt: skip
def test_rows(isa, threads, ids):
    y = TABLE(ids)
    expected = TABLE.weight[np.asarray(ids, np.int64)]
    assert_same_bits(y, np.ascontiguousarray(expected))
    assert y.flags.writeable


def test_padding():
    assert not TABLE.weight[2].any()
    assert TABLE.weight.any(axis=1).sum() == 9
    negative = treadle.Embedding(10, 3, -8, seed=0)
    assert repr(negative) == repr(TABLE)
    assert_same_bits(negative.weight, TABLE.weight)
    # As in PyTorch, a loaded row is a row.
    TABLE.to("float32").load_state_dict({"weight": np.ones((10, 3), np.float32)})
    other = treadle.Embedding(10, 3, padding_idx=2)
    other.load_state_dict({"weight": np.ones((10, 3), np.float32)})
    assert other([2]).all()


def test_low_precision_leaves_the_table():
    assert repr(TABLE.to("int8")) == repr(TABLE)
    with pytest.raises(
        ValueError, match=r"^treadle\.Embedding: dtype is 'int8', expected 'float32'"
    ):
        treadle.Embedding(3, 4, dtype="int8")


@pytest.mark.parametrize(
    "ids", [[10], [-1], [[0, 2**40]], [2**63 - 1], np.array([2**64 - 1], np.uint64)]
)
def test_ids_that_are_no_rows(threads, ids):
    with pytest.raises(ValueError, match=r"^treadle\.Embedding: ids"):
        TABLE(ids)


@pytest.mark.parametrize(
    "ids", [[1.0], None, "1", [True], np.zeros(2, np.float32), [[1], [1, 2]]], ids=str
)
def test_ids_that_are_no_integers(ids):
    with pytest.raises((TypeError, ValueError), match=r"^treadle\.Embedding: ids "):
        TABLE(ids)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((0, 3), "num_embeddings"), ((3, 0), "embedding_dim"), ((3, 3, 3), "padding_idx"),
     ((3, 3, -4), "padding_idx"), ((3, 3, 1.0), "padding_idx"), ((3, 3, True), "padding_idx"),
     ((2**31 - 1, 2**31 - 1), "sizes")],
)  # fmt: skip
def test_wrong_arguments(arguments, name):
    with pytest.raises(
        (TypeError, ValueError, MemoryError), match=rf"^treadle\.Embedding: .*{name}"
    ):
        treadle.Embedding(*arguments)
