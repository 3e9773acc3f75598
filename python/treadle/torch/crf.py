"""A linear-chain conditional random field: the log-likelihood of tags, and the best tags.

The log-likelihood is made of PyTorch's operators, and autograd differentiates it. The best tags are
found by `treadle.functional.crf_decode`'s algorithm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from treadle._inputs import checks
from treadle._inputs.present import moved_to_front, present_steps
from treadle._public import published
from treadle.functional.crf import viterbi

if TYPE_CHECKING:
    from treadle._inputs.types import AnyArray, ArrayLike, Bool

_FUNCTION = "treadle.torch.CRF"
_REDUCTIONS = ("none", "sum", "mean", "token_mean")


@published("treadle.torch")
class CRF(torch.nn.Module):
    """A layer over emissions that scores whole sequences of tags, not one tag after the other.

    Emissions x [T, B, K] of K tags give tags y_1 .. y_T a score and a log-likelihood::

        s(y) = start[y_1] + sum_t x[t, y_t] + sum_t transitions[y_(t-1), y_t] + end[y_T]
        log p(y | x) = s(y) - log sum_y' exp s(y')

    The sum over all y' takes O(T K^2) time, by the forward algorithm. The parameters have the names
    that the package pytorch-crf gives them: ``transitions`` [K, K], where ``transitions[i, j]``
    belongs to the tag j behind the tag i, ``start_transitions`` [K] and ``end_transitions`` [K].
    Set one of them to -inf to forbid what it stands for.

    Parameters
    ----------
    num_tags
        K.
    batch_first
        The axes of emissions and tags are [B, T, K] and [B, T] in the place of [T, B, K], [T, B].
    device, dtype
        Those of the parameters, as in PyTorch.

    Raises
    ------
    ValueError
        For a number of tags below 1.
    TypeError
        For a number of tags that is no integer.

    References
    ----------
    Lafferty, McCallum and Pereira, Conditional random fields, ICML 2001.

    Examples
    --------
    >>> import torch, treadle.torch
    >>> crf = treadle.torch.CRF(5, batch_first=True)
    >>> emissions, tags = torch.randn(2, 7, 5), torch.randint(5, (2, 7))
    >>> (-crf(emissions, tags, lengths=[7, 4], reduction="mean")).backward()
    >>> tags, scores = crf.decode(emissions, lengths=[7, 4])
    >>> tags.shape, scores.shape
    (torch.Size([2, 7]), torch.Size([2]))

    Without PyTorch, `treadle.functional.crf_decode` decodes with the trained parameters.
    """

    def __init__(
        self,
        num_tags: int,
        *,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.num_tags = checks.integer(_FUNCTION, "num_tags", num_tags)
        self.batch_first = checks.flag(_FUNCTION, "batch_first", batch_first)
        options = {"device": device, "dtype": dtype}
        tags = self.num_tags
        self.transitions = torch.nn.Parameter(torch.empty(tags, tags, **options))
        self.start_transitions = torch.nn.Parameter(torch.empty(tags, **options))
        self.end_transitions = torch.nn.Parameter(torch.empty(tags, **options))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters from -0.1 to 0.1."""
        for parameter in self.parameters():
            torch.nn.init.uniform_(parameter, -0.1, 0.1)

    def forward(
        self,
        emissions: torch.Tensor,
        tags: torch.Tensor,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        reduction: str = "sum",
    ) -> torch.Tensor:
        """Return the log-likelihood of tags, which training makes large: its negative is a loss.

        Parameters
        ----------
        emissions
            [T, B, K], or [B, T, K] with ``batch_first``, or [T, K] of one sequence.
        tags
            Integers from 0 to K - 1, of the shape of emissions without K. What they are in steps
            that do not exist does not matter.
        lengths, mask
            As in `treadle.functional.crf_decode`: lengths [B], and a mask [B, T] of bools whose
            False leaves a step out. Numbers in steps that do not exist do not matter.
        reduction
            "sum" over the batch; "mean" over its rows; "token_mean", the sum divided by the number
            of steps that exist; or "none": the log-likelihood of each row, [B].

        Raises
        ------
        ValueError
            For a shape, a length or a tag that does not fit, and another reduction.
        TypeError
            For a wrong dtype.
        """
        if reduction not in _REDUCTIONS:
            raise ValueError(
                f"{_FUNCTION}: reduction is {checks.shown(reduction)}, "
                f"expected one of {list(_REDUCTIONS)}"
            )
        x, present = self._checked(emissions, lengths, mask)
        unbatched = emissions.dim() == 2
        gold, counts = self._gold(emissions, tags), torch.as_tensor(present.sum(1)).to(x.device)
        order = torch.from_numpy(moved_to_front(present)).to(x.device)
        exists = torch.arange(x.shape[1], device=x.device) < counts[:, None]
        gold = gold.gather(1, order).masked_fill(~exists, 0)
        if ((gold < 0) | (gold >= self.num_tags)).any():
            wrong = gold[(gold < 0) | (gold >= self.num_tags)][0].item()
            raise ValueError(
                f"{_FUNCTION}: tags holds {wrong}, expected 0 to K - 1 with K = {self.num_tags}"
            )
        # The numbers of steps that do not exist are replaced, so that NaN there has no gradient.
        x = x.gather(1, order[:, :, None].expand_as(x)).masked_fill(~exists[:, :, None], 0)
        found = self._score(x, gold, exists, counts) - self._normalizer(x, exists, counts)
        found = torch.where(counts > 0, found, torch.zeros_like(found))
        if reduction == "none":
            return found[0] if unbatched else found
        if reduction == "sum":
            return found.sum()
        return found.sum() / (len(found) if reduction == "mean" else counts.sum())

    def decode(
        self,
        emissions: torch.Tensor,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tags of the highest score, and the score: see `treadle.functional.crf_decode`.

        The tags are int64 and -1 in steps that do not exist. The scores are added up in float64 if
        the emissions are float64, and otherwise in float32. Nothing has a gradient.

        Raises
        ------
        ValueError
            For a shape or a length that does not fit.
        TypeError
            For a wrong dtype.
        """
        x, present = self._checked(emissions, lengths, mask)
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        parts = (self.transitions, self.start_transitions, self.end_transitions)
        array, transitions, start, end = (_numpy(part, dtype) for part in (x, *parts))
        found, scores = (
            torch.from_numpy(result).to(x.device)
            for result in viterbi(array, transitions, (start, end), present)
        )
        if emissions.dim() == 2:
            return found[0], scores[0]
        return (found if self.batch_first else found.t().contiguous()), scores

    def extra_repr(self) -> str:
        """Name the options that are not their defaults."""
        return f"{self.num_tags}" + ", batch_first=True" * self.batch_first

    def _checked(
        self, emissions: torch.Tensor, lengths: ArrayLike | None, mask: ArrayLike | None
    ) -> tuple[torch.Tensor, Bool]:
        """Return emissions as [B, T, K], and which steps [B, T] exist."""
        if not isinstance(emissions, torch.Tensor):
            raise TypeError(
                f"{_FUNCTION}: emissions is {checks.shown(emissions)}, expected a tensor"
            )
        if not emissions.is_floating_point():
            raise TypeError(
                f"{_FUNCTION}: emissions has dtype {emissions.dtype}, expected one of floats"
            )
        shape, unbatched = tuple(emissions.shape), emissions.dim() == 2
        letters = (
            ("T", "K") if unbatched else ("B", "T", "K") if self.batch_first else ("T", "B", "K")
        )
        if len(shape) != len(letters) or shape[-1] != self.num_tags:
            raise ValueError(
                f"{_FUNCTION}: emissions has shape {shape}, expected [{', '.join(letters)}] "
                f"with K = {self.num_tags}"
            )
        x = emissions[None] if unbatched else emissions
        if not unbatched and not self.batch_first:
            x = x.transpose(0, 1)
        rows = None if unbatched else x.shape[0]
        return x, present_steps(_FUNCTION, x.shape[1], rows, lengths, mask)

    def _gold(self, emissions: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
        """Return the checked tags as int64 [B, T]."""
        if not isinstance(tags, torch.Tensor):
            raise TypeError(f"{_FUNCTION}: tags is {checks.shown(tags)}, expected a tensor")
        if tags.is_floating_point() or tags.is_complex() or tags.dtype == torch.bool:
            raise TypeError(f"{_FUNCTION}: tags has dtype {tags.dtype}, expected integers")
        if tags.shape != emissions.shape[:-1]:
            raise ValueError(
                f"{_FUNCTION}: tags has shape {tuple(tags.shape)}, expected that of emissions "
                f"without K, {tuple(emissions.shape[:-1])}"
            )
        tags = tags.to(emissions.device, torch.int64)
        return tags[None] if tags.dim() == 1 else tags if self.batch_first else tags.t()

    def _score(
        self, x: torch.Tensor, gold: torch.Tensor, exists: torch.Tensor, counts: torch.Tensor
    ) -> torch.Tensor:
        """Return the scores [B] of the right tags."""
        if x.shape[1] == 0:
            return x.new_zeros(len(x))
        sums = x.gather(2, gold[:, :, None])[..., 0].masked_fill(~exists, 0).sum(1)
        pairs = self.transitions[gold[:, :-1], gold[:, 1:]].masked_fill(~exists[:, 1:], 0).sum(1)
        last = gold.gather(1, (counts - 1).clamp(min=0)[:, None])[:, 0]
        return self.start_transitions[gold[:, 0]] + sums + pairs + self.end_transitions[last]

    def _normalizer(
        self, x: torch.Tensor, exists: torch.Tensor, counts: torch.Tensor
    ) -> torch.Tensor:
        """Return the logarithm [B] of the sum of exp s(y) over all tags y."""
        if x.shape[1] == 0:
            return x.new_zeros(len(x))
        sums = self.start_transitions + x[:, 0]
        for step in range(1, int(counts.max()) if len(x) else 0):
            following = _log_sum_exp(sums[:, :, None] + self.transitions, 1) + x[:, step]
            sums = torch.where(exists[:, step, None], following, sums)
        return _log_sum_exp(sums + self.end_transitions, 1)


def _log_sum_exp(x: torch.Tensor, dim: int) -> torch.Tensor:
    """Return torch.logsumexp; the gradient is zero, and not NaN, where all numbers are -inf."""
    largest = x.detach().amax(dim, keepdim=True)
    largest = largest.masked_fill(largest == -torch.inf, 0)
    sums = (x - largest).exp().sum(dim)
    possible = sums != 0
    logarithms = torch.where(possible, sums, torch.ones_like(sums)).log() + largest.squeeze(dim)
    return torch.where(possible, logarithms, torch.full_like(logarithms, -torch.inf))


def _numpy(tensor: torch.Tensor, dtype: Any) -> AnyArray:
    """Return the numbers of a tensor, wherever it lies, as an array."""
    array: AnyArray = tensor.detach().to("cpu", dtype).numpy()
    return array
