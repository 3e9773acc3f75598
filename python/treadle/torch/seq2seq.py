"""Seq2Seq for PyTorch: the training of `treadle.Seq2Seq`, by teacher forcing.

The module has the same parts and the same names of parameters. Its recurrent layers run on
treadle's kernels, forward and backward; attention is made of PyTorch's operators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from treadle._inputs import checks
from treadle._inputs.arrays import to_int64
from treadle._public import published
from treadle.layers.build import build, configuration
from treadle.seq2seq.module import Seq2Seq as Ours
from treadle.torch.convert import OWN, from_torch
from treadle.torch.models import accelerate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from treadle._inputs.types import ArrayLike
    from treadle.layers.module import Module

_RECURRENT = (torch.nn.RNNBase, torch.nn.RNNCellBase)
_FUNCTION = "treadle.torch.Seq2Seq"


@published("treadle.torch")
class Seq2Seq(torch.nn.Module):
    """`treadle.Seq2Seq` as a module that PyTorch trains: names, formulas and arguments are its.

    ``encoder`` (or None) and ``decoder`` are torch.nn's: a ``Sequential`` of an ``Embedding``,
    recurrent layers with ``batch_first=True``, linear layers, convolutions, dropout, ...; they must
    be what `treadle.from_torch` converts, on the CPU in float32, when the module is made. Their
    recurrent layers become treadle's, as `treadle.torch.accelerate` makes them.
    ``treadle.from_torch(model)`` returns the `treadle.Seq2Seq` that writes, without PyTorch.

    Raises
    ------
    TypeError, ValueError
        For layers and sizes that do not fit, as `treadle.Seq2Seq`.

    Examples
    --------
    >>> import torch, treadle.torch
    >>> encoder = torch.nn.Sequential(
    ...     torch.nn.Embedding(30, 8), torch.nn.GRU(8, 16, batch_first=True))
    >>> decoder = torch.nn.Sequential(
    ...     torch.nn.Embedding(20, 8), torch.nn.GRU(8, 16, batch_first=True),
    ...     torch.nn.Dropout(0.1), torch.nn.Linear(16 + 16, 20))
    >>> model = treadle.torch.Seq2Seq(encoder, decoder, "dot")
    >>> x, y = torch.ones(2, 5, dtype=torch.long), torch.ones(2, 4, dtype=torch.long)
    >>> logits = model(x, y[:, :-1], lengths=[5, 3])
    >>> torch.nn.functional.cross_entropy(logits.flatten(0, 1), y[:, 1:].flatten()).backward()
    >>> treadle.from_torch(model).generate(x, [[1], [1]], max_new_tokens=6).shape
    (2, 7)
    """

    def __init__(
        self,
        encoder: torch.nn.Module | None,
        decoder: torch.nn.Module,
        attention: str | None = None,
        *,
        attention_size: int | None = None,
        memory_size: int | None = None,
        bridge: bool = False,
        generation: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        # The conversion checks everything, and tells the sizes of what connects the parts.
        ours = Ours(
            None if encoder is None else from_torch(encoder),  # type: ignore[arg-type]
            from_torch(decoder),  # type: ignore[arg-type]
            attention,
            attention_size=attention_size,
            memory_size=memory_size,
            bridge=bridge,
            generation=generation,
        )
        self._options = {
            name: value
            for name, value in configuration(ours).items()
            if name not in ("encoder", "decoder", "dtype")
        }
        self._score, self._feeds = attention, ours._connection.feeds
        self.encoder, self.decoder = encoder, decoder
        for name, sizes in ours._connection.products.items():
            arguments = sizes["in_features"], sizes["out_features"], sizes.get("bias", True)
            self.add_module(name, torch.nn.Linear(*arguments))
        accelerate(self)

    def forward(
        self,
        x: torch.Tensor,
        tokens: torch.Tensor,
        *,
        lengths: ArrayLike | None = None,
        output_attentions: bool = False,
    ) -> Any:
        """Return the logits [B, T, V] of what follows each of the tokens [B, T], which are the
        right ones in training; with ``output_attentions`` (logits, probabilities [B, T, S]).

        x and lengths are those of `treadle.Seq2Seq`. Raises ValueError for lengths that do not fit,
        and what the layers raise.
        """
        checks.flag(_FUNCTION, "output_attentions", output_attentions)
        if output_attentions and self._score is None:
            raise ValueError(
                f"{_FUNCTION}: output_attentions is True, expected False: the model has no "
                "attention"
            )
        memory, final = self._read(x, lengths)
        present = _present(memory, lengths)
        state = self._first(memory, present, final)
        modules = _flat(self.decoder)
        at = next(i for i, module in enumerate(modules) if isinstance(module, _RECURRENT))
        recurrent, given, look = modules[at], tokens, None
        for module in modules[:at]:
            given = module(given)
        if self._score is not None and self._feeds:
            features, look = self._fed(recurrent, given, state, memory, present)
        else:
            features, _ = _recur(recurrent, given, state)
            if self._score is not None:
                context, look = self._attend(features, self._keys(memory), memory, present)
                features = torch.cat([features, context], dim=2)
        for module in modules[at + 1 :]:
            features = module(features)
        return (features, look) if output_attentions else features

    def extra_repr(self) -> str:
        """Name the options that are not their defaults."""
        return ", ".join(f"{k}={v!r}" for k, v in self._options.items() if v not in (None, False))

    def _read(self, x: torch.Tensor, lengths: ArrayLike | None) -> tuple[torch.Tensor, Any]:
        """Return the positions of the memory, and the final state of the encoder's last layer."""
        final = None
        for module in [] if self.encoder is None else _flat(self.encoder):
            if isinstance(module, torch.nn.RNNBase):
                x, final = module(x) if lengths is None else module(x, lengths=lengths)
            else:
                x = module(x)
        return (x.flatten(2).transpose(1, 2) if x.dim() == 4 else x), final

    def _first(self, memory: torch.Tensor, present: torch.Tensor | None, final: Any) -> Any:
        """Return the decoder's first state, a tuple of tensors [L, B, H]."""
        recurrent: Any = next(m for m in _flat(self.decoder) if isinstance(m, _RECURRENT))
        layers, hidden = getattr(recurrent, "num_layers", 1), recurrent.hidden_size
        sizes = [getattr(recurrent, "proj_size", 0) or hidden]
        if isinstance(recurrent, torch.nn.LSTM | torch.nn.LSTMCell):
            sizes.append(hidden)
        directions = self._directions()
        parts = () if final is None else final if isinstance(final, tuple) else (final,)
        bridge = self._modules.get("initial_state")
        if bridge is not None:
            summary = _mean(memory, present)
            if parts:
                summary = parts[0][-directions:].transpose(0, 1).flatten(1)
            numbers = torch.tanh(bridge(summary)).split([layers * size for size in sizes], dim=1)
            return tuple(n.unflatten(1, (layers, -1)).transpose(0, 1) for n in numbers)
        if not parts:
            return tuple(memory.new_zeros(layers, len(memory), size) for size in sizes)
        return tuple(
            part.unflatten(0, (layers, directions)).transpose(1, 2).flatten(2)
            for part in parts[: len(sizes)]
        )

    def _directions(self) -> int:
        """Return the directions of the encoder's last recurrent layer."""
        modules = [] if self.encoder is None else _flat(self.encoder)
        nets = [module for module in modules if isinstance(module, torch.nn.RNNBase)]
        return 2 if nets and nets[-1].bidirectional else 1

    def _fed(
        self, recurrent: Any, given: torch.Tensor, state: Any, memory: torch.Tensor, present: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Go step by step, each with the context that the state before it asks for."""
        keys = self._keys(memory)
        features, looks = [], []
        for step in range(given.shape[1]):
            context, look = self._attend(state[0][-1][:, None], keys, memory, present)
            x = torch.cat([given[:, step : step + 1], context], dim=2)
            y, state = _recur(recurrent, x, state)
            features.append(torch.cat([y, context], dim=2))
            looks.append(look)
        return torch.cat(features, dim=1), torch.cat(looks, dim=1)

    def _keys(self, memory: torch.Tensor) -> torch.Tensor:
        project = self._modules.get("attention_memory")
        return memory if project is None else project(memory)

    def _attend(
        self, queries: torch.Tensor, keys: torch.Tensor, memory: torch.Tensor, present: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the context [B, T, M] and the probabilities [B, T, S]."""
        if self._score == "additive":
            sums = torch.tanh(self.attention_query(queries)[:, :, None] + keys[:, None])
            scores = self.attention_score(sums)[..., 0]
        else:
            scores = queries @ keys.transpose(1, 2)
        if present is not None:
            # The least number in the place of -inf: a row without positions has gradients, too.
            scores = scores.masked_fill(~present[:, None], torch.finfo(scores.dtype).min)
        probabilities = scores.softmax(dim=2)
        if present is not None:
            probabilities = probabilities.masked_fill(~present[:, None], 0)
        return probabilities @ memory, probabilities

    def _to_treadle(self, convert: Callable[[str, Any], Module], argument: str) -> Module:
        """Return the `treadle.Seq2Seq` with these weights."""
        encoder = None
        if self.encoder is not None:
            encoder = convert(f"{argument}.encoder", self.encoder)
        parts = {"encoder": encoder, "decoder": convert(f"{argument}.decoder", self.decoder)}
        tensors = self.state_dict()
        return build(Ours, self._options | parts, tensors.__getitem__, "treadle.from_torch")


OWN[Seq2Seq] = Seq2Seq._to_treadle


def _flat(module: Any) -> list[Any]:
    """Return the layers of a sequence and of the sequences in it."""
    if not isinstance(module, torch.nn.Sequential):
        return [module]
    return [layer for child in module for layer in _flat(child)]


def _present(memory: torch.Tensor, lengths: ArrayLike | None) -> torch.Tensor | None:
    """Return which positions [B, S] exist, or None if all do."""
    if lengths is None:
        return None
    ends = torch.as_tensor(to_int64(_FUNCTION, "lengths", lengths))
    rows, most = memory.shape[:2]
    if ends.shape != (rows,) or (ends < 0).any() or (ends > most).any():
        raise ValueError(
            f"{_FUNCTION}: lengths are {checks.shown(ends.tolist())}, expected [B] of 0 to S "
            f"with B = {rows}, S = {most}"
        )
    return (torch.arange(most) < ends[:, None]).to(memory.device)


def _mean(memory: torch.Tensor, present: torch.Tensor | None) -> torch.Tensor:
    """Return the mean of the positions of each row; features without positions are their own."""
    if memory.dim() == 2:
        return memory
    if present is None:
        return memory.mean(1)
    counts = present.sum(1, keepdim=True).clamp(min=1)
    return memory.masked_fill(~present[:, :, None], 0).sum(1) / counts


def _recur(recurrent: Any, x: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
    """Return the outputs [B, T, H] and the state, a tuple of tensors [L, B, H]."""
    if isinstance(recurrent, torch.nn.RNNBase):
        y, state = recurrent(x, state if len(state) > 1 else state[0])
        return y, state if isinstance(state, tuple) else (state,)
    outputs = []
    for step in range(x.shape[1]):
        parts = tuple(part[0] for part in state)
        found = recurrent(x[:, step], parts if len(parts) > 1 else parts[0])
        state = tuple(part[None] for part in (found if isinstance(found, tuple) else (found,)))
        outputs.append(state[0][0])
    return torch.stack(outputs, dim=1), state
