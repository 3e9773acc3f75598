"""This module refuses the models of Transformers that would never call treadle's attention.

Transformers asks a class whether it has "sdpa", but takes any registered name for every class.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from typing import Any

_NAMES: set[str] = set()
# A class of this kind computes attention itself, unless its file asks for the function by name.
_ATTENTION = re.compile(r"^class \w*Attention\w*\((torch\.)?nn\.Module\):", re.MULTILINE)
# Other files have a class for each name that they know.
_TABLE = re.compile(r"ATTENTION_CLASSES\[")
_INTERFACE = "ALL_ATTENTION_FUNCTIONS"


def refuse_other_classes(name: str) -> None:
    """Let a model raise ValueError where this name is asked for and its class cannot have it."""
    from transformers import PreTrainedModel

    if not _NAMES:
        _check_before(PreTrainedModel)
    _NAMES.add(name)


def _check_before(base: Any) -> None:
    """Let the method by which models accept the name of an attention check it for our names."""
    theirs = base.get_correct_attn_implementation

    @functools.wraps(theirs)
    def get_correct_attn_implementation(
        self: Any, requested_attention: Any, *arguments: Any, **options: Any
    ) -> Any:
        if requested_attention in _NAMES:
            kind: Any = type(self)
            reason = class_obstacle(kind)
            if reason is not None:
                raise ValueError(
                    f'{kind.__name__} does not support attn_implementation="'
                    f'{requested_attention}": {reason}. Load the model with '
                    'attn_implementation="eager". Of a model in parts, each can have its own: '
                    f'attn_implementation={{"text_config": "{requested_attention}", '
                    '"vision_config": "eager"}'
                )
        return theirs(self, requested_attention, *arguments, **options)

    base.get_correct_attn_implementation = get_correct_attn_implementation


@functools.cache
def class_obstacle(kind: Any) -> str | None:
    """Return why a model of this class would not run on a registered attention, or None.

    As in Transformers' own `_can_set_attn_implementation`, the sources tell: those of the class and
    of the model classes that it extends. A model without attention of its own has no obstacle.
    """
    from transformers import PreTrainedModel

    bases = (base for base in kind.__mro__ if issubclass(base, PreTrainedModel))
    sources = [_source(base.__module__) for base in bases if base is not PreTrainedModel]
    if any(_TABLE.search(source) for source in sources):
        return "it has a class for each attention that it knows"
    if any(_INTERFACE in source for source in sources):
        return None
    if any(_ATTENTION.search(source) for source in sources):
        return f"it computes attention itself and does not use Transformers' {_INTERFACE}"
    return None


@functools.cache
def _source(module: str) -> str:
    """Return the source of a module, or nothing where there is none (a notebook)."""
    try:
        return inspect.getsource(sys.modules[module])
    except (KeyError, OSError, TypeError):
        return ""
