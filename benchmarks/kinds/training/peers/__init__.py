"""Training on every peer.

`Prepared.run` makes one call forward and backward, and `Prepared.outputs` a dictionary of
gradients: of "x" and the weights under PyTorch's names, or of "q", "k" and "v".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a type checker holds every peer to the protocol here
    from ....core.kind import Peer
    from ..cases import AnyCase, TrainingInputs
    from ..reference import Gradients
    from . import jax, torch, treadle

    _PEERS: tuple[Peer[AnyCase, TrainingInputs, Gradients], ...] = (treadle, torch, jax)
