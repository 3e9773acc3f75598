"""Backward passes of rnn, lstm, gru: every option, against autograd, differences and bits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle
from reference import recurrent as reference
from reference import recurrent_torch as reference_torch
from support import activations, samples
from support.tolerance import EPS, assert_same_bits, flatten

F = treadle.functional
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class Case:
    """This class holds one layer, everything that it is given, and the gradients of its results."""

    def __init__(
        self, mode, *, T=6, B=5, I=4, H=7, proj_size=0, peepholes=False, bias=True, rows=(),
        seeds="yhc", seed=0, **options,
    ):  # fmt: skip
        weights, weight_hr = samples.layer(mode, I, H, proj_size=proj_size, bias=bias, seed=seed)
        self.mode, self.options = mode, options
        self.arrays = {"x": samples.normal([seed, 3], T, B, I)}
        self.arrays |= {n: w for n, w in zip(NAMES, weights, strict=True) if w is not None}
        if weight_hr is not None:
            self.arrays["weight_hr"] = weight_hr
        if peepholes:
            self.arrays["peepholes"] = samples.normal([seed, 4], 3 * H) / 2
        state = flatten(samples.states(mode, [], B, H, proj_size=proj_size, seed=[seed, 5]))
        self.arrays |= dict(zip(("h_0", "c_0"), state, strict=False))
        if "lengths" in rows:
            options["lengths"] = samples.lengths(T, B, seed)
        if "mask" in rows:
            options["mask"] = samples.mask(T, B, seed)
        self.reset_state = None
        if "resets" in rows:
            options["resets"] = samples.resets(T, B, seed)
            fresh = samples.states(mode, [], B, H, proj_size=proj_size, seed=[seed, 6])
            self.reset_state = flatten(fresh)
        P = proj_size or H
        shapes = {"y": (T, B, P), "h": (B, P), "c": (B, H)}
        self.seeds = [
            samples.normal([seed, 7, i], *shapes[k]) if k in seeds else None
            for i, k in enumerate("yhc" if mode == "lstm" else "yh")
        ]

    def forward(self, **changed):
        arrays = self.arrays | changed
        options = dict(self.options)
        if self.reset_state is not None:
            pair = tuple(self.reset_state)
            options["reset_state"] = pair if self.mode == "lstm" else pair[0]
        *results, saved = getattr(F, f"{self.mode}_forward")(**arrays, **options)
        return results, saved

    def ours(self):
        _, saved = self.forward()
        return getattr(F, f"{self.mode}_backward")(saved, *self.seeds)

    def theirs(self, dtype):
        return reference_torch.gradients(
            self.mode, self.arrays, self.seeds, dtype, reset_state=self.reset_state, **self.options
        )

    def check(self):
        """The error is at most twice that of PyTorch's float32 gradients, plus 4 eps of the largest
        (the rule for sequences), plus that of the sum over time and batch (the rule for products):
        see tolerance.py."""
        exact, sizes = self.theirs(torch.float64)
        rounded, _ = self.theirs(torch.float32)
        actual = self.ours()
        assert set(actual) == set(exact)
        for name, truth in exact.items():
            ours, truth, other = (
                np.concatenate([np.ravel(p) for p in flatten(g)])
                for g in (actual[name], truth, rounded[name])
            )
            assert ours.dtype == np.float32
            error, allowed = np.abs(ours - truth).max(), np.abs(other - truth).max()
            bound = 2 * allowed + 4 * EPS * max(1, np.abs(truth).max())
            if name in sizes:
                terms = self.arrays["x"].shape[0] * self.arrays["x"].shape[1]
                bound += min((terms + 1) / 2, 3) * EPS * sizes[name].max()
            assert error <= bound, f"{name}: error {error:.3g}, allowed {bound:.3g}"


OPTIONS = {
    "rnn": {"mode": "rnn"},
    "rnn-relu": {"mode": "rnn", "nonlinearity": "relu"},
    "rnn-clip": {"mode": "rnn", "clip": 0.7},
    "lstm": {"mode": "lstm"},
    "lstm-no-bias": {"mode": "lstm", "bias": False},
    "lstm-P": {"mode": "lstm", "proj_size": 3},
    "lstm-peepholes": {"mode": "lstm", "peepholes": True},
    "lstm-peepholes-P-clip": {"mode": "lstm", "peepholes": True, "proj_size": 3, "clip": 0.9},
    "lstm-input-forget": {"mode": "lstm", "input_forget": True, "peepholes": True},
    "lstm-output": {"mode": "lstm", "output_activation": "softsign"},
    "gru": {"mode": "gru"},
    "gru-no-bias": {"mode": "gru", "bias": False},
    "gru-clip": {"mode": "gru", "clip": 0.8},
    "gru-before": {"mode": "gru", "reset_after": False},
    "gru-before-no-bias": {"mode": "gru", "reset_after": False, "bias": False},
}
ROWS = {"all": (), "lengths": ("lengths",), "mask": ("mask",), "resets": ("resets",),
        "lengths-resets": ("lengths", "resets"), "mask-resets": ("mask", "resets")}  # fmt: skip


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("case", OPTIONS)
def test_every_option(isa, case, rows, reverse):
    Case(**OPTIONS[case], rows=ROWS[rows], reverse=reverse).check()


@pytest.mark.parametrize("case", ["rnn", "lstm", "lstm-P", "gru", "gru-before"])
@pytest.mark.parametrize(("H", "I"), [(1, 1), (16, 8), (31, 33), (64, 5), (65, 130)])
@pytest.mark.parametrize(("T", "B"), [(1, 1), (3, 1), (2, 40), (60, 9)])
def test_sizes(isa, threads, case, H, I, T, B):
    options = dict(OPTIONS[case])
    if options.get("proj_size", 0) >= H:
        options = {"mode": "lstm"}
    Case(**options, T=T, B=B, I=I, H=H).check()


def check_recomputed(own):
    """The gradients with and without `recompute` have the same bits, and the steps save as little
    as they promise."""
    results, saved = own.forward()
    again, less = own.forward(recompute=True)
    assert_same_bits(tuple(again), tuple(results))
    T, B, _ = own.arrays["x"].shape
    H = own.arrays["weight_hh"].shape[0] // {"rnn": 1, "lstm": 4, "gru": 3}[own.mode]
    assert less.nbytes == (4 * T * B * H if own.mode == "lstm" else 0)
    assert less.nbytes == saved.nbytes / 5 if own.mode == "lstm" else less.nbytes <= saved.nbytes
    backward = getattr(F, f"{own.mode}_backward")
    expected = backward(saved, *own.seeds)
    for _ in range(2):  # what the first one computes is not left behind for the second
        actual = backward(less, *own.seeds)
        assert actual.keys() == expected.keys()
        for name, gradient in actual.items():
            for a, b in zip(flatten(gradient), flatten(expected[name]), strict=True):
                assert_same_bits(a, b)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("case", OPTIONS)
def test_recomputed_gates_have_the_same_bits(isa, threads, case, rows, reverse):
    check_recomputed(Case(**OPTIONS[case], rows=ROWS[rows], reverse=reverse))


@pytest.mark.parametrize("case", ["rnn-clip", "lstm", "lstm-P", "gru", "gru-before"])
@pytest.mark.parametrize(("H", "I"), [(1, 1), (16, 8), (50, 33), (65, 130)])
@pytest.mark.parametrize(("T", "B"), [(1, 1), (0, 2), (3, 1), (2, 40), (60, 9)])
def test_recomputed_gates_of_every_size(isa, threads, case, H, I, T, B):
    """The gates are computed again for steps that the forward pass did one by one, and for those
    that came after the input part of a chunk."""
    options = dict(OPTIONS[case])
    if options.get("proj_size", 0) >= H:
        options = {"mode": "lstm"}
    check_recomputed(Case(**options, T=T, B=B, I=I, H=H))


@pytest.mark.parametrize("spec", activations.NAMES)
@pytest.mark.parametrize("mode", samples.MODES)
def test_activations(isa, mode, spec):
    """Every activation works in every place. PyTorch's float32 gradients have their hard corners
    where ours have them. There are two steps only, since gates without a bound make more of them
    chaotic."""
    if mode == "rnn":
        Case("rnn", nonlinearity=spec, T=2).check()
        return
    Case(mode, activation=spec, T=2).check()
    Case(mode, recurrent_activation=spec, T=2).check()
    if mode == "gru":
        Case(mode, activation=spec, recurrent_activation=spec, reset_after=False, T=2).check()


@st.composite
def cases(draw):
    mode = draw(st.sampled_from(samples.MODES))
    options = {
        "mode": mode,
        "T": draw(st.integers(1, 9)),
        "B": draw(st.integers(1, 20)),
        "I": draw(st.integers(1, 20)),
        "H": draw(st.integers(2, 40)),
        "bias": draw(st.booleans()),
        "reverse": draw(st.booleans()),
        "rows": draw(st.sampled_from(list(ROWS.values()))),
        "seeds": draw(st.sampled_from(["yhc", "y", "h", "c", "hc"] if mode == "lstm" else
                                      ["yh", "y", "h"])),
        "seed": draw(st.integers(0, 9)),
    }  # fmt: skip
    if draw(st.booleans()):
        options["clip"] = draw(st.sampled_from([0.5, 1.25]))
    smooth = st.sampled_from(["tanh", "sigmoid", "softsign", "silu", "softplus"])
    bounded = st.sampled_from(["tanh", "sigmoid", "softsign"])  # gates: else states explode
    if mode == "rnn":
        options["nonlinearity"] = draw(smooth)
    elif draw(st.booleans()):
        options |= {"activation": draw(smooth), "recurrent_activation": draw(bounded)}
    if mode == "lstm":
        options |= {"input_forget": draw(st.booleans()), "peepholes": draw(st.booleans())}
        options["proj_size"] = draw(st.sampled_from([0, 1, options["H"] - 1]))
    if mode == "gru":
        options["reset_after"] = draw(st.booleans())
    return options


@settings(max_examples=150)
@given(cases())
def test_random_configurations(options):
    own = Case(**options)
    own.check()
    check_recomputed(own)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("case", OPTIONS)
def test_autograd_agrees_with_finite_differences(case, rows):
    """Autograd, the reference of the gradients, agrees with finite differences of the float64
    definition along random directions."""
    own = Case(**OPTIONS[case], rows=ROWS[rows], T=4, B=3, H=4, I=3)
    gradients, _ = own.theirs(torch.float64)
    rng = np.random.default_rng(0)
    exact = {k: v.astype(np.float64) for k, v in own.arrays.items()}
    options = dict(own.options)
    if own.reset_state is not None:
        pair = tuple(own.reset_state)
        options["reset_state"] = pair if own.mode == "lstm" else pair[0]
    for name in own.arrays:
        direction = rng.standard_normal(exact[name].shape)

        def loss(step, name=name, direction=direction):
            moved = exact | {name: exact[name] + step * direction}
            results = flatten(getattr(reference, own.mode)(**moved, **options))
            return sum((r * s).sum() for r, s in zip(results, own.seeds, strict=True))

        slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
        np.testing.assert_allclose(
            (gradients[name] * direction).sum(), slope, rtol=1e-5, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("case", OPTIONS)
def test_same_bits_for_any_number_of_threads(isa, case):
    for size in ({"B": 3}, {"B": 40}, {"B": 3, "H": 130, "I": 70, "T": 300}):
        own = Case(**OPTIONS[case] | size, rows=("lengths", "resets"))
        results = []
        for n in (1, 2, 3):
            treadle.set_num_threads(n)
            try:
                results.append(own.ours())
            finally:
                treadle.set_num_threads(1)
        for other in results[1:]:
            for name, gradient in results[0].items():
                assert_same_bits(other[name], gradient)


@pytest.mark.parametrize("mode", samples.MODES)
def test_forward_gives_the_bits_of_the_plain_function(isa, threads, mode):
    own = Case(mode, rows=("lengths", "resets"), T=9, B=17, H=33)
    results, _ = own.forward()
    options = dict(own.options)
    pair = tuple(own.reset_state)
    options["reset_state"] = pair if mode == "lstm" else pair[0]
    assert_same_bits(tuple(results), getattr(F, mode)(**own.arrays, **options))


@pytest.mark.parametrize("mode", samples.MODES)
def test_gradients_beyond_the_length_are_zero(isa, mode):
    own = Case(mode, rows=("lengths",), T=8, B=9)
    dx = own.ours()["x"]
    for row, length in enumerate(own.options["lengths"]):
        assert (dx[length:, row] == 0).all()
        assert length == 0 or (dx[:length, row] != 0).any()


@pytest.mark.parametrize("mode", samples.MODES)
def test_layouts(isa, mode):
    """batch_first and an unbatched sequence are the same numbers in other places."""
    own = Case(mode, B=1)
    expected = own.ours()
    backward = getattr(F, f"{mode}_backward")
    flipped = {"x": own.arrays["x"].swapaxes(0, 1)}
    own.options["batch_first"] = True
    _, saved = own.forward(**flipped)
    actual = backward(saved, own.seeds[0].swapaxes(0, 1), *own.seeds[1:])
    assert_same_bits(actual.pop("x").swapaxes(0, 1), expected["x"])
    own.options["batch_first"] = False
    single = {k: own.arrays[k][0] for k in ("h_0", "c_0") if k in own.arrays}
    _, saved = own.forward(x=own.arrays["x"][:, 0], **single)
    alone = backward(saved, own.seeds[0][:, 0], *(s[0] for s in own.seeds[1:]))
    assert_same_bits(alone.pop("x"), expected["x"][:, 0])
    for name, gradient in actual.items():
        assert_same_bits(gradient, expected[name])
        row = expected[name][0] if name in ("h_0", "c_0") else expected[name]
        assert_same_bits(alone[name], row)


ODD = {
    "backwards": lambda a: np.flip(np.ascontiguousarray(np.flip(a))),
    "backwards but for the last axis": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "Fortran": np.asfortranarray,
    "every other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "other byte order": lambda a: a.astype(">f4"),
    "misaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), np.float32, offset=1).reshape(
        a.shape
    ),
    "tensor": torch.from_numpy,
    "list": np.ndarray.tolist,
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("mode", samples.MODES)
def test_odd_arrays(mode, odd):
    """The arguments may have any layout, and the call writes to none of them."""
    own = Case(mode, rows=("resets",))
    expected = own.ours()
    before = own.arrays, own.seeds
    own.arrays = {name: ODD[odd](a) for name, a in own.arrays.items()}
    own.seeds = [ODD[odd](a) for a in own.seeds]
    for name, gradient in own.ours().items():
        assert_same_bits(gradient, expected[name])
    for a, b in zip(
        [*before[0].values(), *before[1]], [*own.arrays.values(), *own.seeds], strict=True
    ):
        np.testing.assert_array_equal(a, np.asarray(b, np.float32))


@pytest.mark.parametrize("mode", samples.MODES)
def test_truncated_back_propagation(isa, mode):
    """Two pieces give what the whole gives if the gradient of the second's first state is handed
    back to the first."""
    own = Case(mode, T=8)
    whole = own.ours()
    names = ("h_0", "c_0")[: len(own.seeds) - 1]
    x, dy = own.arrays["x"], own.seeds[0]
    forward, backward = (getattr(F, f"{mode}_{way}") for way in ("forward", "backward"))
    *first, saved = forward(**own.arrays | {"x": x[:5]})
    state = dict(zip(names, flatten(first)[1:], strict=True))
    *_, later = forward(**own.arrays | {"x": x[5:]} | state)
    end = backward(later, dy[5:], *own.seeds[1:])
    start = backward(saved, dy[:5], *(end[name] for name in names))
    dx = np.concatenate([start["x"], end["x"]])
    np.testing.assert_allclose(dx, whole["x"], rtol=1e-5, atol=1e-6)  # a sum in another order
    np.testing.assert_allclose(
        start["weight_hh"] + end["weight_hh"], whole["weight_hh"], 1e-4, 1e-5
    )


@pytest.mark.parametrize("mode", samples.MODES)
def test_empty(isa, threads, mode):
    for T, B in ((0, 3), (4, 0), (0, 0)):
        own = Case(mode, T=T, B=B)
        gradients = own.ours()
        assert gradients["x"].shape == (T, B, 4)
        assert not gradients["weight_hh"].any()
        if B:
            assert_same_bits(gradients["h_0"], own.seeds[1])


@pytest.mark.parametrize("mode", samples.MODES)
def test_not_a_number_stays_in_its_row(isa, mode):
    """NaN spreads as in the formula: a row of NaN makes its own gradients and the weights' NaN, and
    no other row's."""
    own = Case(mode)
    own.arrays["x"][2, 1] = np.nan
    gradients = own.ours()
    assert np.isnan(gradients["x"][0, 1]).all()
    assert np.isfinite(gradients["x"][:, [0, 2, 3, 4]]).all()
    assert np.isnan(gradients["weight_hh"]).all()


WRONG = {
    "dy with another shape": (ValueError, lambda s, y, h: (s, y[:-1])),
    "dy of float64": (TypeError, lambda s, y, h: (s, y.astype(np.float64))),
    "dh_n with another shape": (ValueError, lambda s, y, h: (s, y, h[:-1])),
    "dh_n of integers": (TypeError, lambda s, y, h: (s, y, h.astype(int))),
    "saved is an array": (TypeError, lambda s, y, h: (y, y)),
    "saved is None": (TypeError, lambda s, y, h: (None, y)),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("mode", samples.MODES)
def test_wrong_arguments(mode, wrong):
    own = Case(mode)
    _, saved = own.forward()
    error, arguments = WRONG[wrong]
    backward = getattr(F, f"{mode}_backward")
    with pytest.raises(error, match=rf"^treadle\.functional\.{mode}_backward: (dy|dh_n|saved) "):
        backward(*arguments(saved, *own.seeds[:2]))


def test_saved_of_another_mode():
    _, saved = Case("gru").forward()
    with pytest.raises(
        ValueError, match=r"^treadle\.functional\.lstm_backward: saved comes from gru"
    ):
        F.lstm_backward(saved)


@pytest.mark.parametrize("mode", samples.MODES)
@pytest.mark.parametrize("option", ["activaton", "name", "mode", "function", "bias", "hidden_size"])
def test_unknown_option(mode, option):
    arrays = [Case(mode).arrays[k] for k in ("x", "weight_ih", "weight_hh")]
    with pytest.raises(TypeError, match=rf"^treadle\.functional\.{mode}_forward: got '{option}'"):
        getattr(F, f"{mode}_forward")(*arrays, **{option: 1})


@pytest.mark.parametrize("wrong", [None, 1, "yes"])
@pytest.mark.parametrize("mode", samples.MODES)
def test_recompute_that_is_no_flag(mode, wrong):
    with pytest.raises(TypeError, match=rf"^treadle\.functional\.{mode}_forward: recompute is"):
        Case(mode).forward(recompute=wrong)


OTHERS = [("rnn", "activation"), ("rnn", "peepholes"), ("gru", "peepholes"),
          ("gru", "nonlinearity"),
          ("gru", "c_0"), ("lstm", "reset_after"), ("rnn", "weight_hr")]  # fmt: skip


@pytest.mark.parametrize(("mode", "option"), OTHERS)
def test_options_of_other_modes(mode, option):
    arrays = [Case(mode).arrays[k] for k in ("x", "weight_ih", "weight_hh")]
    with pytest.raises(TypeError, match=option):
        getattr(F, f"{mode}_forward")(*arrays, **{option: "relu"})


@pytest.mark.parametrize("case", [{"proj_size": 30}, {"proj_size": 30, "rows": ("resets",)}])
def test_projection_that_widens(isa, case):
    """The layer has more outputs than hidden units, and no state is given."""
    own = Case("lstm", H=2, **case)
    for name in ("h_0", "c_0"):
        own.arrays[name][:] = 0
    expected = own.ours()
    del own.arrays["h_0"], own.arrays["c_0"]
    for name, gradient in own.ours().items():
        for a, b in zip(flatten(gradient), flatten(expected[name]), strict=True):
            assert_same_bits(a, b)


@pytest.mark.parametrize("case", ["rnn", "lstm", "gru", "gru-before"])
def test_an_infinite_weight_leaves_the_last_step_alone(isa, threads, case):
    """Zero times infinity is not computed where there is no next step."""
    own = Case(**OPTIONS[case], T=5, B=20)
    own.options["lengths"] = np.array([5, 1] * 10)
    own.arrays["weight_hh"][0, 0] = np.inf
    dx = own.ours()["x"]
    own.arrays["x"], own.seeds = own.arrays["x"][:1], [own.seeds[0][:1], *own.seeds[1:]]
    own.options["lengths"] = np.array([1] * 20)
    assert_same_bits(dx[:1, 1::2], own.ours()["x"][:, 1::2])


def test_saved_keeps_its_own_rows():
    """The mask and the resets of a call may be used for the next one before the backward pass."""
    own = Case("lstm", rows=("mask", "resets"))
    expected = own.ours()
    _, saved = own.forward()
    own.options["mask"][:] = ~own.options["mask"]
    own.options["resets"][:] = True
    for name, gradient in F.lstm_backward(saved, *own.seeds).items():
        for a, b in zip(flatten(gradient), flatten(expected[name]), strict=True):
            assert_same_bits(a, b)


def test_gelu_tanh_far_out(isa):
    own = Case("rnn", nonlinearity="gelu_tanh", T=1)
    own.arrays["weight_ih"] *= 1e20
    assert np.isfinite(own.ours()["x"]).all()


def test_backward_takes_the_kernels_of_the_forward_pass():
    """Packed weights belong to an instruction set, whichever is chosen meanwhile."""
    own = Case("lstm", H=40, peepholes=True)
    expected = own.ours()
    _, saved = own.forward()
    before = treadle.isa()
    try:
        for name in treadle.available_isas():
            treadle._core.set_isa(name)
            for key, gradient in F.lstm_backward(saved, *own.seeds).items():
                assert_same_bits(gradient, expected[key])
    finally:
        treadle._core.set_isa(before)
