"""Each peer has a module that generates from the directory of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a type checker holds every peer to the protocol here
    from ....core.dtypes import Array
    from ....core.kind import Peer
    from ..cases import GenerationCase
    from ..reference import Inputs
    from . import ctranslate2, torch, treadle

    _PEERS: tuple[Peer[GenerationCase, Inputs, Array], ...] = (treadle, torch, ctranslate2)
