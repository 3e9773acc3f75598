"""This kind measures what bfloat16 and int8 lose, in treadle and in its peers: `treadle bench
--accuracy`.

It runs long recurrences on random weights (recurrent.py), MiniLM on English sentences (encoder.py)
and the model of `treadle demo` on words that its training did not see (demo.py), each against
float32 or float64. Nothing is timed. targets.py says what is wanted, report.py makes the tables.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from ...core import registry
from ...core.kind import OURS, Peer
from ...core.progress import Progress
from . import demo, encoder, recurrent, targets


def run(started: Iterable[str], progress: Progress, quick: bool) -> dict[str, Any]:
    """Make every table, with treadle and those of its peers that are started, and the targets."""
    started = tuple(started)
    progress.show("accuracy of recurrent nets")
    nets = peers("recurrent", started)
    found: dict[str, Any] = {"recurrent": recurrent.measure(nets, range(1 if quick else 5))}
    progress.show("accuracy of the encoder")
    if not registry.load("encoder").missing():
        models = peers("encoder", started)
        found["encoder"] = encoder.measure(models, 64 if quick else encoder.SENTENCES)
    progress.show("accuracy of the demo")
    found["demo"] = demo.measure()
    found["targets"] = [dataclasses.asdict(target) for target in targets.run(found)]
    progress.clear()
    return found


def peers(kind: str, started: Iterable[str]) -> dict[str, Peer[Any, Any, Any]]:
    """Return the started peers that can run the kind."""
    able = registry.load(kind)
    return {name: able.peer(name) for name in started if name == OURS or name in able.PEERS}
