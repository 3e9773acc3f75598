"""The formats that weights are multiplied in. float32 is what every kind of cases runs in."""

from __future__ import annotations

FLOAT32 = "float32"
BYTES = {FLOAT32: 4, "bfloat16": 2, "int8": 1}  # of a weight; scales are not counted
DTYPES = tuple(BYTES)


def parse(text: str) -> tuple[str, ...]:
    """A list separated by commas, each format once."""
    names = tuple(dict.fromkeys(filter(None, text.split(","))))
    if not names or set(names) - set(DTYPES):
        raise ValueError(f"treadle bench: --dtype {text}: expected some of {', '.join(DTYPES)}")
    return names


def suffix(dtype: str) -> str:
    """What the name of a case ends with."""
    return "" if dtype == FLOAT32 else f"/{dtype}"
