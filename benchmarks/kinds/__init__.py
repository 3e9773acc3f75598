"""The kinds of cases, one package each. No kind imports another; `core.registry` finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a type checker holds every kind to the protocol here
    from ..core.kind import Kind
    from . import attention, conv, encoder, generation, recurrent, training

    _RECURRENT: Kind[Any, Any, Any, Any] = recurrent
    _ATTENTION: Kind[Any, Any, Any, Any] = attention
    _CONV: Kind[Any, Any, Any, Any] = conv
    _ENCODER: Kind[Any, Any, Any, Any] = encoder
    _GENERATION: Kind[Any, Any, Any, Any] = generation
    _TRAINING: Kind[Any, Any, Any, Any] = training
