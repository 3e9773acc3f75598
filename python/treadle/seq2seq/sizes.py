"""This module checks whether the sizes of an encoder and a decoder fit, and derives the products
that connect them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from treadle.seq2seq.structure import input_size, output_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle.layers.recurrent_stack import Recurrent
    from treadle.seq2seq.structure import DecoderLayers, EncoderLayers


class Connection(NamedTuple):
    """How a decoder reads what an encoder has read."""

    memory: int | None
    """M: the numbers of a position, or None where nothing asks for it."""
    feeds: bool
    """True if the recurrent layer takes the context beside the embedding."""
    products: dict[str, dict[str, Any]]
    """The linear layers of attention and of the initial state: their arguments by name."""


def connected(
    function: str,
    configuration: Mapping[str, Any],
    encoder: EncoderLayers | None,
    decoder: DecoderLayers,
) -> Connection:
    """Return how the layers are connected. Raises ValueError for sizes that do not fit."""
    own = configuration
    memory = _memory(function, own["memory_size"], encoder)
    score, bridge = own["attention"], own["bridge"]
    if memory is None and (score is not None or (bridge and not _recurrent(encoder))):
        raise ValueError(
            f"{function}: the last layers of the encoder do not tell the size of a position, "
            "expected memory_size"
        )
    feeds = _feeds(function, decoder, None if score is None else memory)
    state = decoder.recurrent._spec.state_size
    products: dict[str, dict[str, Any]] = {}
    if score is not None:
        assert memory is not None
        products |= _attention(function, own, memory, state)
    elif own["attention_size"] is not None:
        raise ValueError(f"{function}: attention_size is given, expected it with 'additive' alone")
    _check_outputs(function, decoder, state + (memory or 0) if score is not None else state)
    last = encoder.last if encoder is not None else None
    if bridge:
        summary = memory if last is None else last._spec.directions * last._spec.state_size
        spec = decoder.recurrent._spec
        each = spec.state_size + (spec.hidden_size if spec.mode == "lstm" else 0)
        products["initial_state"] = {
            "in_features": summary,
            "out_features": spec.num_layers * each,
            "activation": "tanh",
        }
    elif last is not None:
        _check_states(function, last, decoder)
    elif score is None:
        raise ValueError(
            f"{function}: attention is None and bridge False, and the encoder has no recurrent "
            "layer, so that nothing reaches the decoder: expected one of them"
        )
    return Connection(memory, feeds, products)


def _recurrent(encoder: EncoderLayers | None) -> bool:
    return encoder is not None and encoder.last is not None


def _memory(function: str, given: int | None, encoder: EncoderLayers | None) -> int | None:
    """Return the size of a position, M."""
    if encoder is None:
        if given is None:
            raise ValueError(
                f"{function}: encoder is None, expected memory_size, the numbers of a position of x"
            )
        return given
    found = output_size(encoder.modules)
    if found is not None and given not in (None, found):
        raise ValueError(
            f"{function}: memory_size is {given}, expected {found}, the size of the encoder's "
            "output"
        )
    return given if found is None else found


def _feeds(function: str, decoder: DecoderLayers, memory: int | None) -> bool:
    """Tell whether the recurrent layer takes the context, by the size of its input."""
    embedding = output_size(decoder.before)
    taken: int = decoder.recurrent._spec.input_size
    where = f"{function}: decoder: {decoder.name} has input_size={taken}"
    if embedding is None:
        raise ValueError(
            f"{where} and the layers before it do not tell their size, expected an Embedding, "
            "Linear layers and activations"
        )
    if memory is None:
        if taken != embedding:
            raise ValueError(f"{where}, expected {embedding}, as the layers before it return")
        return False
    if taken not in (embedding, embedding + memory):
        raise ValueError(
            f"{where}, expected {embedding}, as the layers before it return, or "
            f"{embedding + memory}, with the context of {memory} numbers behind it"
        )
    return taken != embedding


def _attention(
    function: str, own: Mapping[str, Any], memory: int, state: int
) -> dict[str, dict[str, Any]]:
    """Return the products of a score of attention."""
    size = own["attention_size"]
    if own["attention"] == "additive":
        size = state if size is None else size
        return {
            "attention_query": {"in_features": state, "out_features": size, "bias": False},
            "attention_memory": {"in_features": memory, "out_features": size},
            "attention_score": {"in_features": size, "out_features": 1, "bias": False},
        }
    if size is not None:
        raise ValueError(f"{function}: attention_size is given, expected it with 'additive' alone")
    if own["attention"] == "general":
        return {"attention_memory": {"in_features": memory, "out_features": state, "bias": False}}
    if memory != state:
        raise ValueError(
            f"{function}: attention is 'dot' between a state of {state} numbers and positions of "
            f"{memory}, expected the same size, or 'general' or 'additive'"
        )
    return {}


def _check_outputs(function: str, decoder: DecoderLayers, features: int) -> None:
    """Check the output layers: what they take, and that the embedding has their tokens."""
    taken, logits = input_size(decoder.after), output_size(decoder.after)
    if not decoder.after:
        logits = features
    if taken not in (None, features):
        raise ValueError(
            f"{function}: decoder: its output layers take {taken} numbers, expected {features}, "
            "the state and, with attention, the context behind it"
        )
    if logits is not None and logits > decoder.tokens:
        raise ValueError(
            f"{function}: decoder: its output layers return {logits} logits and its Embedding has "
            f"{decoder.tokens} tokens, expected no more logits than tokens"
        )


def _check_states(function: str, last: Recurrent, decoder: DecoderLayers) -> None:
    """Check that the final states of an encoder are initial states of the decoder."""
    ours, theirs = decoder.recurrent._spec, last._spec
    if ours.mode == "lstm" and theirs.mode != "lstm":
        raise ValueError(
            f"{function}: the decoder has an LSTM and the encoder a {last._name}, whose state has "
            "no c, expected an LSTM, or bridge=True"
        )
    wanted = [ours.num_layers, ours.state_size]
    found = [theirs.num_layers, theirs.directions * theirs.state_size]
    if ours.mode == "lstm":
        wanted.append(ours.hidden_size)
        found.append(theirs.directions * theirs.hidden_size)
    if wanted != found:
        raise ValueError(
            f"{function}: the decoder's state has {wanted[0]} layers of {wanted[1]} numbers and "
            f"the encoder's {found[0]} of {found[1]} (directions side by side), expected the same, "
            "or bridge=True, which learns the initial state"
        )
