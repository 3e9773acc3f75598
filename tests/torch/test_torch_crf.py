"""treadle.torch.CRF against the scores of all sequences of tags, and its gradients."""

import copy
import re

import numpy as np
import pytest
import torch

import treadle.torch
from reference import crf as reference
from treadle.torch import CRF

T, B, K = 4, 5, 3
LENGTHS = [4, 0, 1, 3, 2]
MASK = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 1, 0]]).bool()


def drawn(seed=0, dtype=torch.float64, batch_first=False):
    """A module with large parameters, emissions and tags."""
    torch.manual_seed(seed)
    crf = CRF(K, batch_first=batch_first, dtype=dtype)
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    emissions = 2 * torch.randn(T, B, K, dtype=dtype)
    return crf, emissions, torch.randint(K, (T, B))


def parameters(crf):
    parts = (crf.transitions, crf.start_transitions, crf.end_transitions)
    return [part.detach().double().numpy() for part in parts]


def present(given):
    """[B, T]: which steps exist."""
    ends = torch.as_tensor(given.get("lengths", [T] * B))
    return (torch.arange(T) < ends[:, None]) & given.get("mask", torch.tensor(True))


GIVEN = {"all": {}, "lengths": {"lengths": LENGTHS}, "mask": {"mask": MASK}}
GIVEN["both"] = GIVEN["lengths"] | GIVEN["mask"]


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_against_all_sequences(given):
    for seed in range(4):
        crf, emissions, tags = drawn(seed)
        found = crf(emissions, tags, **given, reduction="none")
        best, scores = crf.decode(emissions, **given)
        assert scores.dtype == torch.float64
        for row, there in enumerate(present(given)):
            x, gold = emissions[there, row].numpy(), tags[there, row].tolist()
            exact = reference.log_likelihood(x, gold, *parameters(crf))
            np.testing.assert_allclose(found[row].item(), exact, rtol=1e-12, atol=1e-12)
            right, score = reference.decode(x, *parameters(crf))
            assert tuple(best[there, row].tolist()) == right
            np.testing.assert_allclose(scores[row].item(), score, rtol=1e-12, atol=1e-12)
        assert (best[~present(given).T] == -1).all()


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_gradients(given):
    crf, emissions, tags = drawn()
    names = [name for name, _ in crf.named_parameters()]

    def likelihood(x, *values):
        arguments = (x, tags), {**given, "reduction": "none"}
        return torch.func.functional_call(crf, dict(zip(names, values, strict=True)), *arguments)

    leaves = [emissions.requires_grad_(), *(p.detach().requires_grad_() for p in crf.parameters())]
    assert torch.autograd.gradcheck(likelihood, leaves)
    assert torch.autograd.gradgradcheck(likelihood, leaves)


def test_gradients_are_counts():
    """d log p / d emissions is one at the right tag, less the probability of each tag."""
    crf, emissions, tags = drawn()
    emissions.requires_grad_()
    crf(emissions, tags, lengths=LENGTHS).backward()
    for row, count in enumerate(LENGTHS):
        every = reference.all_scores(emissions[:count, row].detach().numpy(), *parameters(crf))
        weights = np.exp(np.array(list(every.values())) - max(every.values()))
        weights /= weights.sum()
        expected = np.zeros((T, K))
        for sequence, weight in zip(every, weights, strict=True):
            for step, tag in enumerate(sequence):
                expected[step, tag] -= weight
        for step in range(count):
            expected[step, tags[step, row]] += 1
        np.testing.assert_allclose(emissions.grad[:, row], expected, atol=1e-12)


def test_what_does_not_exist_does_not_matter():
    crf, emissions, tags = drawn()
    outside = ~present(GIVEN["both"]).T
    spoiled, wrong = emissions.clone(), tags.clone()
    spoiled[outside], wrong[outside] = torch.nan, -100
    spoiled.requires_grad_()
    found = crf(spoiled, wrong, **GIVEN["both"], reduction="none")
    assert torch.equal(found, crf(emissions, tags, **GIVEN["both"], reduction="none"))
    found.sum().backward()
    assert not spoiled.grad[outside].any()
    assert all(p.grad.isfinite().all() for p in crf.parameters())


def test_forms_and_reductions():
    crf, emissions, tags = drawn()
    rows = crf(emissions, tags, lengths=LENGTHS, reduction="none")
    first = copy.deepcopy(crf)
    first.batch_first = True
    turned = first(emissions.transpose(0, 1), tags.t(), lengths=LENGTHS, reduction="none")
    assert torch.equal(turned, rows)
    assert torch.equal(
        first.decode(emissions.transpose(0, 1), lengths=LENGTHS)[0].t(),
        crf.decode(emissions, lengths=LENGTHS)[0],
    )
    single = crf(emissions[:, 3], tags[:, 3], lengths=3, reduction="none")
    torch.testing.assert_close(single, rows[3], rtol=1e-14, atol=0)
    assert single.dim() == 0
    assert torch.equal(crf(emissions, tags, lengths=LENGTHS), rows.sum())
    assert torch.equal(crf(emissions, tags, lengths=LENGTHS, reduction="mean"), rows.sum() / B)
    token = crf(emissions, tags, lengths=LENGTHS, reduction="token_mean")
    assert torch.equal(token, rows.sum() / sum(LENGTHS))
    assert rows[1] == 0


def test_nothing():
    crf = CRF(K)
    for shape in ((0, B, K), (T, 0, K)):
        found = crf(torch.zeros(shape), torch.zeros(shape[:2], dtype=torch.long), reduction="none")
        assert found.tolist() == [0] * shape[1]
        assert crf.decode(torch.zeros(shape))[0].shape == shape[:2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision(dtype):
    """Decoding adds up in float32 what the emissions and parameters are."""
    crf, emissions, tags = drawn(dtype=dtype)
    found, scores = crf.decode(emissions)
    arrays = [part.astype(np.float32) for part in parameters(crf)]
    theirs = treadle.functional.crf_decode(emissions.float(), *arrays)
    assert scores.dtype == torch.float32
    np.testing.assert_array_equal(found, theirs[0])
    np.testing.assert_array_equal(scores, theirs[1])
    assert crf(emissions, tags).dtype == dtype


def test_forbidden_pairs():
    """-inf is no way for tags to take, and leaves every gradient finite."""
    crf, emissions, _ = drawn()
    with torch.no_grad():
        crf.transitions[:, 1] = -torch.inf  # nothing is followed by tag 1
        crf.start_transitions[2] = -torch.inf
    tags = torch.tensor([1, 0, 2, 2])[:, None].expand(T, B)
    loss = -crf(emissions.requires_grad_(), tags, lengths=LENGTHS)
    loss.backward()
    assert loss.isfinite()
    assert all(leaf.grad.isfinite().all() for leaf in (emissions, *crf.parameters()))
    found, _ = crf.decode(emissions)
    assert not (found[1:] == 1).any()
    assert not (found[0] == 2).any()


def test_training_learns_an_order():
    """Emissions that say nothing leave all to the transitions."""
    torch.manual_seed(0)
    crf, tags = CRF(K), (torch.arange(12) % K)[:, None]
    optimizer = torch.optim.Adam(crf.parameters(), 0.1)
    emissions = torch.zeros(12, 1, K)
    for _ in range(60):
        optimizer.zero_grad()
        (-crf(emissions, tags)).backward()
        optimizer.step()
    assert torch.equal(crf.decode(emissions)[0], tags)


def test_state_dict_has_the_names_of_pytorch_crf():
    shapes = {name: tuple(value.shape) for name, value in CRF(K).state_dict().items()}
    assert shapes == {
        "transitions": (K, K), "start_transitions": (K,), "end_transitions": (K,),
    }  # fmt: skip
    assert repr(CRF(K, batch_first=True)) == f"CRF({K}, batch_first=True)"


WRONG = {
    "no tensor": ("emissions", np.zeros((T, B, K))),
    "integers": ("emissions", torch.zeros(T, B, K, dtype=torch.long)),
    "other tags": ("emissions", torch.zeros(T, B, K + 1)),
    "a vector": ("emissions", torch.zeros(K)),
    "float tags": ("tags", torch.zeros(T, B)),
    "bool tags": ("tags", torch.zeros(T, B, dtype=torch.bool)),
    "turned tags": ("tags", torch.zeros(B, T, dtype=torch.long)),
    "large tags": ("tags", torch.full((T, B), K)),
    "negative tags": ("tags", torch.full((T, B), -1)),
    "a list": ("tags", [[0] * B] * T),
    "long": ("lengths", [T + 1] * B),
    "few": ("lengths", [T]),
    "floats": ("lengths", torch.ones(B)),
    "turned mask": ("mask", torch.ones(T, B, dtype=torch.bool)),
    "mask of numbers": ("mask", torch.ones(B, T)),
    "another reduction": ("reduction", "max"),
    "no reduction": ("reduction", None),
    "a list of reductions": ("reduction", ["sum"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case):
    name, value = WRONG[case]
    right = {"emissions": torch.zeros(T, B, K), "tags": torch.zeros(T, B, dtype=torch.long)}
    with pytest.raises(
        (ValueError, TypeError), match=rf"^treadle\.torch\.CRF: .*\b{re.escape(name)}\b"
    ):
        CRF(K)(**right | {name: value})


@pytest.mark.parametrize("tags", [0, -1, 2.0, "3", None, True, 2**80], ids=repr)
def test_wrong_number_of_tags(tags):
    with pytest.raises((ValueError, TypeError), match=r"^treadle\.torch\.CRF: num_tags "):
        CRF(tags)
    with pytest.raises(TypeError, match=r"^treadle\.torch\.CRF: batch_first "):
        CRF(2, batch_first=1)
