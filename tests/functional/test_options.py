"""The TypedDicts of options list what the functions take, no more and no less."""

import inspect

import pytest

from treadle import functional
from treadle.functional.options import OPTIONS

ARRAYS = {"weight_hr", "peepholes"}


@pytest.mark.parametrize("mode", OPTIONS)
def test_options_are_those_of_the_function(mode):
    parameters = inspect.signature(getattr(functional, mode)).parameters.values()
    options = {p.name: p.annotation for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert options.keys() - ARRAYS == OPTIONS[mode].__annotations__.keys()
    for name, annotation in OPTIONS[mode].__annotations__.items():
        assert annotation.__forward_arg__ == options[name]


@pytest.mark.parametrize("mode", OPTIONS)
def test_help_names_every_option(mode):
    forward = getattr(functional, f"{mode}_forward")
    for name in OPTIONS[mode].__annotations__:
        assert name in forward.__doc__
