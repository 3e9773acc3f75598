"""Each module runs whole models on one peer."""

from __future__ import annotations

from ....core.kind import Unsupported
from ..cases import CAPTURED, ModelCase


def check_has_files(case: ModelCase) -> None:
    """Raise Unsupported for a captured module, which has no file."""
    if case.group == CAPTURED:
        raise Unsupported("there is no file of the captured module")
