"""What bfloat16 and int8 lose, in treadle and in its peers: `treadle bench --accuracy`.

Long recurrences on random weights (recurrent.py), MiniLM on English sentences (encoder.py) and the
model of `treadle demo` on words that its training did not see (demo.py), each against float32 or float64.
Nothing is timed. bars.py says what is wanted, report.py makes the tables.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from .. import kinds
from ..progress import Progress
from . import bars, demo, encoder, recurrent


def run(loaded: dict[str, ModuleType], progress: Progress, quick: bool) -> dict[str, Any]:
    """Every table, with whichever of treadle and its peers is loaded, and the bars."""
    progress.show("accuracy of recurrent nets")
    nets = backends("recurrent", loaded)
    found: dict[str, Any] = {"recurrent": recurrent.measure(nets, range(1 if quick else 5))}
    progress.show("accuracy of the encoder")
    missing = kinds.load("encoder").missing()
    if not missing:
        models = backends("encoder", loaded)
        found["encoder"] = encoder.measure(models, 64 if quick else encoder.SENTENCES)
    progress.show("accuracy of the demo")
    found["demo"] = demo.measure()
    found["bars"] = [dataclasses.asdict(bar) for bar in bars.run(found)]
    progress.clear()
    return found


def backends(kind: str, loaded: dict[str, ModuleType]) -> dict[str, ModuleType]:
    """Those of the loaded peers that can run the kind."""
    return dict(_backends(kind, loaded))


def _backends(kind: str, loaded: dict[str, ModuleType]) -> Iterator[tuple[str, ModuleType]]:
    for name in loaded:
        if name == "treadle" or name in kinds.load(kind).PEERS:
            yield name, kinds.load(kind).backend(name)
