"""Each peer has a module for convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a type checker holds every peer to the protocol here
    from ....core.dtypes import Array
    from ....core.kind import Peer
    from ..case import ConvCase, ConvInputs
    from . import onnxruntime, openvino, torch, treadle

    _PEERS: tuple[Peer[ConvCase, ConvInputs, Array], ...] = (treadle, torch, onnxruntime, openvino)
