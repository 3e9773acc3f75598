"""Each peer has a module that runs the recurrent nets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a type checker holds every peer to the protocol here
    from ....core.kind import Peer
    from ....core.models.recurrent.case import NetCase
    from ....core.models.recurrent.data import NetInputs, Outputs
    from . import jax, onnxruntime, openvino, torch, treadle

    _PEERS: tuple[Peer[NetCase, NetInputs, Outputs], ...] = (
        treadle,
        torch,
        onnxruntime,
        openvino,
        jax,
    )
