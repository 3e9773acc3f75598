"""Limits by hand: bytes, multiply-adds, the chain of dependent steps and the call bound a case."""

import dataclasses

import numpy as np
import pytest

from treadle.benchmarks.core import limits
from treadle.benchmarks.core.limits import FMA, Limit, Pass, Rates, limit_of
from treadle.benchmarks.core.models.recurrent import work
from treadle.benchmarks.core.models.recurrent.case import NetCase
from treadle.benchmarks.kinds import training
from treadle.benchmarks.kinds.training.cases import TrainingCase

# 1000 FLOP/s, 1000 bytes/s; a step of an LSTM waits 0.4 s, of an RNN with relu 0.1 s; a call 0.3 s.
CHAINS = {("lstm", "tanh"): 0.4, ("rnn", "relu"): 0.1}
RATES = Rates(1000, lambda _: 1000, lambda *cell: CHAINS[cell], 0.3)
# LSTM, I = 2, H = 3: 24 input weights and 36 recurrent ones, of 4 bytes.
NET = NetCase("lstm", "sequence", 5, 1, 2, 3, "by hand")


def test_a_small_sequence_is_bound_by_its_chain():
    """The products take 0.24 s (FLOPs of the input) and 5 x 0.144 s (bytes of the others)."""
    found = work.limit(NET, RATES)
    assert found.products == {FMA: pytest.approx(0.24), 144: pytest.approx(0.72)}
    assert found.chain == 5 * 0.4
    assert found.bound_by == "chain"
    assert found.seconds == pytest.approx(0.3 + 2.0)


def test_a_batch_is_bound_by_multiply_adds():
    """20 rows: 20 x 5 x 48 FLOPs of the input, 5 x 20 x 72 of the state."""
    found = work.limit(dataclasses.replace(NET, B=20), RATES)
    assert found.bound_by == FMA
    assert found.seconds == pytest.approx(0.3 + 4.8 + 7.2)


def test_large_weights_are_bound_by_their_bytes():
    """The chain and the call do not grow with H, and the weights do: 4 x 4 x 30 x 30 bytes."""
    found = work.limit(dataclasses.replace(NET, H=30), RATES)
    assert found.bound_by == 14400
    assert found.chain == 2.0
    assert found.seconds == pytest.approx(0.3 + 0.24 * 10 + 5 * 14.4)


def test_a_step_is_bound_by_the_call():
    """240 bytes take 0.24 s, the step waits 0.2 s for the one before, and the call takes 0.3 s."""
    step = dataclasses.replace(NET, T=1)
    found = work.limit(step, dataclasses.replace(RATES, chain=lambda *_: 0.2))
    assert (found.work, found.chain, found.call) == (pytest.approx(0.24), 0.2, 0.3)
    assert found.bound_by == "call"
    assert found.seconds == pytest.approx(0.54)


@pytest.mark.parametrize(
    ("case", "steps"),
    [
        (NET, 5),
        (dataclasses.replace(NET, L=3), 7),  # a layer follows a step behind the one below
        (dataclasses.replace(NET, D=2), 5),  # directions run side by side
        (dataclasses.replace(NET, L=3, D=2), 15),  # a layer needs both directions of the one below
        (dataclasses.replace(NET, B=2, lengths=(5, 2)), 5),
        (dataclasses.replace(NET, T=1, L=3), 3),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_dependent_steps(case, steps):
    assert work.dependent_steps(case) == steps
    assert work.limit(case, RATES).chain == pytest.approx(steps * 0.4)


def test_the_chain_is_that_of_the_cell_and_its_activation():
    relu = dataclasses.replace(NET, cell="rnn", nonlinearity="relu")
    assert work.limit(relu, RATES).chain == 5 * 0.1


def test_training_has_the_chain_of_the_forward_pass():
    """Products: twice those of the forward pass (0.96 s), and 5 x 120 FLOPs without weights."""
    case = TrainingCase("lstm", "train", 5, 1, 2, 3, "by hand")
    found = training.limit(case, RATES)
    assert found.products == {FMA: pytest.approx(0.48 + 0.6), 144: pytest.approx(1.44)}
    assert found.chain == 5 * 0.4
    assert (found.bound_by, found.seconds) == (144, pytest.approx(0.3 + 2.52))


def test_passes():
    """Each pass takes the longer of reading and multiplying, as many times as it is made."""
    passes = [Pass(2000, 8000, 1000, 3), Pass(0, 0, 5000)]
    assert limit_of(passes, RATES) == Limit({8000: 6.0, FMA: 5.0}, 0.0, 0.3)
    assert limit_of(limits.repeated(passes, 2), RATES).work == 22.0
    assert limits.both_ways(passes)[-1] == Pass(0, 0, 8000)


def test_meter_of_chain_and_call():
    class Core:
        chains = iter((4e-9, 9e-9, 3e-9, 5e-9, 9e-9))

        def step_chain(self, mode, activation, seconds, dtype):
            assert (mode, activation, dtype) == ("lstm", "relu", "int8")
            return next(self.chains)

        def turn(self, function, x, out):
            np.copyto(out, x)

    meter = limits.Meter(Core(), 2)  # one thread measures: a chain has no use for more
    assert meter.chain("lstm", "relu", dtype="int8") == 3e-9  # the least of five
    assert 0 < meter.call(0.001) < 1
