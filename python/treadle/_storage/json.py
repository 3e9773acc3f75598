"""This module reads JSON from files that are not trusted."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object: strict UTF-8, no NaN, no name twice. Raises ValueError."""
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
    """Show a value from a file in a message."""
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name occurs twice in an object")
    return content


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")
