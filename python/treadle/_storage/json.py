"""JSON from files that are not trusted."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: bytes, where: str) -> dict[str, Any]:
    """A JSON object in strict UTF-8, without NaN and without doubled names. Raises ValueError."""
    try:
        content = json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not valid JSON: {str(error)[:200]}") from None
    if isinstance(content, dict):
        return content
    raise ValueError(f"{where} is {short(content)}, expected a JSON object")


def short(value: object) -> str:
    """A value from a file, for a message."""
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name occurs twice in an object")
    return content


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")
