"""BlockSpec: a layer's description is checked before anything is made of it."""

import pytest

from treadle.layers.block_spec import BlockSpec, Relative, Rotary

GOOD = {
    "hidden": 32,
    "heads": 4,
    "kv_heads": 2,
    "head_size": 8,
    "feed_forward": 64,
    "activation": "silu",
}


def test_defaults():
    spec = BlockSpec(**GOOD)
    assert (spec.norm, spec.norm_place, spec.causal, spec.cross_attention) == (
        *("layer", "before"),
        *(True, False),
    )


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"hidden": 0}, ValueError, "hidden is 0"),
        ({"hidden": 2**40}, ValueError, "hidden is"),
        ({"heads": 3}, ValueError, "multiple of kv_heads"),
        ({"heads": 2**28, "kv_heads": 1}, ValueError, "heads \\* head_size"),
        ({"head_size": 257}, ValueError, "head_size is 257"),
        ({"heads": True}, TypeError, "heads is True"),
        ({"activation": "swoosh"}, ValueError, "activation"),
        ({"norm": "batch"}, ValueError, "norm is 'batch'"),
        ({"norm_place": []}, ValueError, "norm_place"),
        ({"gated": 1}, TypeError, "gated"),
        ({"eps": -1.0}, ValueError, "eps"),
        ({"eps": float("nan")}, ValueError, "eps"),
        ({"scale": float("inf")}, ValueError, "scale"),
        ({"softcap": 0.0}, ValueError, "softcap"),
        ({"window": 0}, ValueError, "window"),
        ({"rotary": (1.0,)}, TypeError, "rotary"),
        ({"rotary": Rotary((1.0,) * 5)}, ValueError, "at most half of head_size"),
        ({"relative": {}}, TypeError, "relative"),
        ({"relative": Relative(8, 20, True)}, ValueError, "bidirectional"),
        ({"parallel": True, "norm_place": "after"}, ValueError, "parallel"),
        ({"parallel": True, "cross_attention": True}, ValueError, "parallel"),
    ],
)
def test_refused(changes, error, text):
    with pytest.raises(error, match=text):
        BlockSpec(**{**GOOD, **changes})


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (((),), ValueError),
        (((1.0,) * 129,), ValueError),
        ((3,), TypeError),
        (("12",), TypeError),
        ((("a",),), TypeError),
        (((float("nan"),),), ValueError),
        (((1.0,), float("inf")), ValueError),
        (((1.0,), 1.0, 1), TypeError),
    ],
)
def test_rotary_refused(arguments, error):
    with pytest.raises(error, match="Rotary: "):
        Rotary(*arguments)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((1, 20), ValueError),
        ((32, 16), ValueError),
        ((32, 8, True), ValueError),
        ((5, 20, True), ValueError),
        ((2**20, 2**21), ValueError),
        ((32, 2**40), ValueError),
        ((32, 128, 0), TypeError),
    ],
)
def test_relative_refused(arguments, error):
    with pytest.raises(error, match="Relative: "):
        Relative(*arguments)
