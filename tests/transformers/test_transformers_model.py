"""AutoModel and its heads against Transformers on PyTorch: every family, masks of every kind."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support import checkpoints
from support.checkpoints import FAMILIES, HEADS, POSITIONS, VOCABULARY, assert_close, batch
from support.tolerance import assert_same_bits
from treadle import transformers
from treadle.transformers import families

OUTPUTS = {
    "": ("last_hidden_state",),
    "SequenceClassification": ("logits",),
    "TokenClassification": ("logits",),
    "QuestionAnswering": ("start_logits", "end_logits"),
    "MaskedLM": ("logits",),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS, ids=lambda head: head or "AutoModel")
def test_families_and_heads(family, head, isa, threads):
    inputs = batch(family)
    exact, rounded = checkpoints.run_theirs(checkpoints.theirs(family, head), inputs)
    output = checkpoints.loaded(family, head)(**inputs)
    for name in OUTPUTS[head]:
        kept = inputs["attention_mask"] if output[name].shape[:2] == (3, 11) else None
        assert_close(output[name], exact[name], rounded[name], kept)
    assert (exact.get("pooler_output") is None) == (getattr(output, "pooler_output", None) is None)
    if "pooler_output" in output:
        assert_close(output.pooler_output, exact.pooler_output, rounded.pooler_output)


@pytest.mark.parametrize("family", FAMILIES)
def test_left_padding_and_holes(family):
    """Wherever the zeros lie, kept tokens have Transformers' values; the others are zero."""
    model, reference = checkpoints.loaded(family), checkpoints.theirs(family)
    inputs = batch(family, left=True)
    holes = batch(family, (11, 11, 11))
    holes["attention_mask"] = np.random.default_rng(5).integers(0, 2, (3, 11))
    holes["attention_mask"][:, 4] = 1
    for case in (inputs, holes):
        exact, rounded = checkpoints.run_theirs(reference, case)
        output = model(**case)
        kept = case["attention_mask"].astype(bool)
        assert_close(output.last_hidden_state, exact[0], rounded[0], kept)
        assert not output.last_hidden_state[~kept].any()


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_pooler_takes_the_first_token_that_is_kept(family):
    """Also behind padding on the left, where Transformers takes the padding."""
    model, inputs = checkpoints.loaded(family), batch(family, left=True)
    output = model(**inputs)
    first = inputs["attention_mask"].argmax(axis=1)
    hidden = torch.from_numpy(output.last_hidden_state[np.arange(3), first])
    with torch.inference_mode():
        expected = checkpoints.theirs(family).pooler(hidden[:, None])
    np.testing.assert_allclose(output.pooler_output, expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_hidden_states_and_attentions(family, left):
    inputs = batch(family, left=left)
    options = {"output_hidden_states": True, "output_attentions": True}
    exact, rounded = checkpoints.run_theirs(checkpoints.theirs(family), inputs, **options)
    model = checkpoints.loaded(family)
    output = model(**inputs, **options)
    kept = inputs["attention_mask"].astype(bool)
    assert len(output.hidden_states) == 3
    assert len(output.attentions) == 2
    for ours, right, float32 in zip(
        output.hidden_states, exact.hidden_states, rounded.hidden_states, strict=True
    ):
        assert_close(ours, right, float32, kept)
        assert not ours[~kept].any()
    for ours, right, float32 in zip(
        output.attentions, exact.attentions, rounded.attentions, strict=True
    ):
        rows = np.broadcast_to(kept[:, None], ours.shape[:3])
        assert_close(ours, right, float32, rows)
        assert not ours[~rows].any()
        assert not ours.swapaxes(2, 3)[~rows].any()
    # Requests for hidden states and attentions do not change the other outputs.
    assert_same_bits(output.last_hidden_state, model(**inputs).last_hidden_state)
    assert_same_bits(output.hidden_states[-1], output.last_hidden_state)
    alone = model(**inputs, output_attentions=True)
    assert alone.hidden_states is None
    assert_same_bits(alone.attentions[0], output.attentions[0])


def test_position_ids_and_types():
    inputs = batch("bert", (9, 9))
    inputs["position_ids"] = np.random.default_rng(2).integers(0, POSITIONS, (2, 9))
    exact, rounded = checkpoints.run_theirs(checkpoints.theirs("bert"), inputs)
    model = checkpoints.loaded("bert")
    assert_close(model(**inputs).last_hidden_state, exact[0], rounded[0])
    inputs["position_ids"] = np.arange(9)[None]
    plain = model(inputs["input_ids"], inputs["attention_mask"], inputs["token_type_ids"])
    assert_same_bits(model(**inputs).last_hidden_state, plain.last_hidden_state)


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
def test_padding_tokens_among_the_text(family):
    """fairseq's positions: a padding id that attention_mask keeps is not counted."""
    inputs = batch(family, (11, 11))
    inputs["input_ids"][0, [0, 3, 4, 10]] = 1
    exact, rounded = checkpoints.run_theirs(checkpoints.theirs(family), inputs)
    output = checkpoints.loaded(family)(**inputs)
    assert_close(output.last_hidden_state, exact[0], rounded[0])


@pytest.mark.parametrize("activation", families.ACTIVATIONS)
def test_activations(activation, tmp_path):
    reference = checkpoints.randomized(checkpoints.configuration("bert", hidden_act=activation))
    reference.save_pretrained(tmp_path)
    inputs = batch("bert")
    exact, rounded = checkpoints.run_theirs(reference, inputs)
    output = transformers.AutoModel.from_pretrained(tmp_path)(**inputs)
    assert_close(output[0], exact[0], rounded[0], inputs["attention_mask"])


def test_untied_word_embeddings(tmp_path):
    """The head's own matrix, where tie_word_embeddings is false."""
    config = checkpoints.configuration("roberta", tie_word_embeddings=False)
    reference = checkpoints.randomized(config, "MaskedLM")
    reference.save_pretrained(tmp_path)
    inputs = batch("roberta", (6, 6))
    exact, rounded = checkpoints.run_theirs(reference, inputs)
    model = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert_close(model(**inputs).logits, exact.logits, rounded.logits)


@given(st.data())
def test_a_row_has_the_same_bits_in_any_batch(data):
    """Alone or among others, with any padding on any side."""
    family = data.draw(st.sampled_from(FAMILIES))
    lengths = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=5))
    inputs = batch(family, tuple(lengths), seed=data.draw(st.integers(0, 99)))
    model = loaded_once(family)
    output = model(**inputs).last_hidden_state
    row = data.draw(st.integers(0, len(lengths) - 1))
    alone = {k: v[row : row + 1, : lengths[row]] for k, v in inputs.items()}
    assert_same_bits(output[row, : lengths[row]], model(**alone).last_hidden_state[0])
    del alone["attention_mask"]
    assert_same_bits(output[row, : lengths[row]], model(**alone).last_hidden_state[0])


MODELS = {}


def loaded_once(family):
    if family not in MODELS:
        MODELS[family] = checkpoints.loaded(family)
    return MODELS[family]


def test_padding_does_not_matter():
    """Tokens where attention_mask is 0 do not change the outputs."""
    model, inputs = loaded_once("bert"), batch("bert")
    other = dict(inputs)
    padding = inputs["attention_mask"] == 0
    other["input_ids"] = np.where(padding, VOCABULARY - 1, inputs["input_ids"])
    other["token_type_ids"] = np.where(padding, 1, inputs["token_type_ids"])
    assert_same_bits(model(**inputs).to_tuple(), model(**other).to_tuple())


def test_threads_share_a_model():
    model = loaded_once("roberta")
    cases = [batch("roberta", (seed % 7 + 1, 9), seed=seed) for seed in range(40)]
    expected = [model(**case).last_hidden_state for case in cases]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda case: model(**case).last_hidden_state, cases))
    assert_same_bits(found, expected)


@pytest.mark.parametrize("convert", [np.int32, np.uint8, bool, np.float32, list, torch.tensor])
def test_kinds_of_masks(convert):
    model, inputs = loaded_once("bert"), batch("bert")
    mask = inputs["attention_mask"]
    given_mask = mask.tolist() if convert is list else None
    if given_mask is None:
        given_mask = torch.from_numpy(mask) if convert is torch.tensor else mask.astype(convert)
    assert_same_bits(
        model(inputs["input_ids"], given_mask).to_tuple(),
        model(inputs["input_ids"], mask).to_tuple(),
    )


def test_tensors_as_arguments():
    model, inputs = loaded_once("bert"), batch("bert")
    tensors = {k: torch.from_numpy(v) for k, v in inputs.items()}
    assert_same_bits(model(**tensors).to_tuple(), model(**inputs).to_tuple())


def test_outputs_are_those_of_transformers():
    inputs = batch("bert")
    exact, _ = checkpoints.run_theirs(checkpoints.theirs("bert"), inputs, output_hidden_states=True)
    model = loaded_once("bert")
    output = model(**inputs, output_hidden_states=True)
    assert list(output) == list(exact.keys())
    assert output[0] is output["last_hidden_state"] is output.last_hidden_state
    assert output[1] is output.pooler_output
    assert len(output[:2]) == 2
    assert output.attentions is None
    assert "attentions" not in output
    plain = model(**inputs, return_dict=False)
    assert type(plain) is tuple
    assert_same_bits(plain, (output[0], output[1]))
    for twin in (pickle.loads(pickle.dumps(output)), copy.deepcopy(output)):
        assert type(twin) is type(output)
        assert_same_bits(twin.to_tuple(), output.to_tuple())
    with pytest.raises(AttributeError, match="nosuch"):
        _ = output.nosuch
    with pytest.raises(KeyError):
        output["nosuch"]
    with pytest.raises(IndexError):
        output[3]


def test_pickle():
    """A model is pickled as its directory: a worker process loads it again."""
    inputs = batch("bert")
    model = loaded_once("bert")
    twin = pickle.loads(pickle.dumps(model))
    assert repr(twin) == repr(model)
    assert_same_bits(twin(**inputs).to_tuple(), model(**inputs).to_tuple())


def test_configuration():
    model = checkpoints.loaded("distilbert", "SequenceClassification")
    config = model.config
    assert (config.hidden_size, config.dim, config.num_hidden_layers) == (36, 36, 2)
    assert config.id2label == {0: "never", 1: "maybe", 2: "often"}
    assert config.label2id["often"] == 2
    assert config.num_labels == 3
    assert config.to_dict()["model_type"] == "distilbert"
    assert "distilbert" in repr(model)
    with pytest.raises(AttributeError, match="hidden_size"):
        config.hidden_size = 5
    with pytest.raises(AttributeError, match="hidden_size"):
        del config.hidden_size
    config.to_dict()["hidden_size"] = 5
    assert config.hidden_size == 36


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_nothing(shape):
    model = loaded_once("bert")
    output = model(np.zeros(shape, np.int64))
    assert output.last_hidden_state.shape == (*shape, 36)
    assert output.pooler_output.shape == (shape[0], 36)


def test_a_row_without_tokens():
    """Its outputs are zero, and the pooler sees zeros; nothing is NaN."""
    inputs = batch("bert")
    inputs["attention_mask"][1] = 0
    output = loaded_once("bert")(**inputs, output_attentions=True)
    assert not output.last_hidden_state[1].any()
    assert not output.attentions[0][1].any()
    bias = checkpoints.theirs("bert").pooler.dense.bias.detach().numpy()
    np.testing.assert_allclose(output.pooler_output[1], np.tanh(bias), atol=1e-6)


def test_answers_are_never_padding():
    inputs = batch("bert")
    output = checkpoints.loaded("bert", "QuestionAnswering")(**inputs)
    padding = inputs["attention_mask"] == 0
    assert np.all(output.start_logits[padding] == -np.inf)
    assert np.all(np.isfinite(output.end_logits[~padding]))


WRONG_ARGUMENTS = {
    "input_ids too large": ({"input_ids": [[1, VOCABULARY]]}, ValueError, "input_ids"),
    "input_ids negative": ({"input_ids": [[1, -1]]}, ValueError, "input_ids"),
    "input_ids of floats": ({"input_ids": np.ones((1, 2))}, TypeError, "input_ids"),
    "input_ids of bools": ({"input_ids": np.ones((1, 2), bool)}, TypeError, "input_ids"),
    "input_ids a text": ({"input_ids": "hello"}, TypeError, "input_ids"),
    "input_ids None": ({"input_ids": None}, TypeError, "input_ids"),
    "input_ids without batch": ({"input_ids": [1, 2]}, ValueError, "input_ids"),
    "input_ids ragged": ({"input_ids": [[1, 2], [1]]}, ValueError, "input_ids"),
    "too many tokens": (
        {"input_ids": np.ones((1, POSITIONS + 1), np.int64)},
        ValueError,
        "input_ids",
    ),
    "mask of another shape": ({"attention_mask": [[1, 1, 1]]}, ValueError, "attention_mask"),
    "mask for one row of two": (
        {"input_ids": [[1, 2]] * 2, "attention_mask": [[1, 1]]},
        ValueError,
        "attention_mask",
    ),
    "mask additive": (
        {"attention_mask": np.array([[0, -np.inf]], np.float32)},
        ValueError,
        "attention_mask",
    ),
    "mask NaN": (
        {"attention_mask": np.array([[1, np.nan]], np.float32)},
        ValueError,
        "attention_mask",
    ),
    "mask of twos": ({"attention_mask": [[2, 1]]}, ValueError, "attention_mask"),
    "mask in float64": ({"attention_mask": np.ones((1, 2))}, TypeError, "attention_mask"),
    "mask 4-D": ({"attention_mask": np.ones((1, 1, 2, 2), int)}, ValueError, "attention_mask"),
    "types too large": ({"token_type_ids": [[0, 2]]}, ValueError, "token_type_ids"),
    "types negative": ({"token_type_ids": [[0, -1]]}, ValueError, "token_type_ids"),
    "types of another shape": ({"token_type_ids": [[0]]}, ValueError, "token_type_ids"),
    "positions too large": ({"position_ids": [[0, POSITIONS]]}, ValueError, "position_ids"),
    "positions negative": ({"position_ids": [[0, -1]]}, ValueError, "position_ids"),
    "positions of another shape": ({"position_ids": [0, 1]}, ValueError, "position_ids"),
    "a flag that is none": ({"output_attentions": 1}, TypeError, "output_attentions"),
    "return_dict a number": ({"return_dict": 0}, TypeError, "return_dict"),
}


@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
def test_wrong_arguments(name):
    arguments, error, culprit = WRONG_ARGUMENTS[name]
    with pytest.raises(error, match=rf"^treadle\.transformers\.AutoModel: .*{culprit}"):
        loaded_once("bert")(**{"input_ids": [[1, 2]]} | arguments)


def test_types_of_families_without_them():
    """Zeros, which some tokenizers give anyway, are taken; ones are refused."""
    model = loaded_once("distilbert")
    ids = [[5, 6, 7]]
    assert_same_bits(model(ids, token_type_ids=[[0, 0, 0]])[0], model(ids)[0])
    with pytest.raises(ValueError, match="token_type_ids"):
        model(ids, token_type_ids=[[0, 0, 1]])


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
def test_as_many_tokens_as_there_are_positions(family):
    """RoBERTa's first two positions are never used."""
    model = loaded_once(family)
    assert model(np.full((1, POSITIONS - 2), 7))[0].shape == (1, POSITIONS - 2, 36)
    with pytest.raises(ValueError, match=f"at most {POSITIONS - 2}"):
        model(np.full((1, POSITIONS - 1), 7))
    # Padding needs no position: as tokenizer(..., padding="max_length") makes it.
    padded = np.full((1, POSITIONS), 1)
    padded[0, :5] = 7
    assert_same_bits(model(padded, padded != 1)[0][:, :5], model(padded[:, :5])[0])


def test_minilm():
    """The real one, on texts."""
    import transformers as reference

    texts = ["Hello world!", "", "Warp and treadle are the two parts of a woven cloth. " * 12]
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoints.MINILM)
    inputs = tokenizer(texts, padding=True, return_tensors="np")
    exact, rounded = checkpoints.run_theirs(
        reference.AutoModel.from_pretrained(checkpoints.MINILM).eval(), inputs
    )
    output = transformers.AutoModel.from_pretrained(checkpoints.MINILM)(**inputs)
    assert output.last_hidden_state.shape[0::2] == (3, 384)
    assert_close(output[0], exact[0], rounded[0], inputs.attention_mask)
    assert_close(output.pooler_output, exact.pooler_output, rounded.pooler_output)
