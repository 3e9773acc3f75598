"""Checkpoints that are one of the families under another name, and what is their own in each."""

import numpy as np
import pytest

from support import checkpoints
from support.checkpoints import assert_close, batch
from support.tolerance import assert_same_bits
from treadle.transformers import AutoModel, AutoModelForMaskedLM

HEADED = {"camembert": "roberta.", "data2vec-text": "data2vec_text.", "ernie": "ernie."}


@pytest.mark.parametrize("with_types", [False, True])
def test_ernie_with_task_types(tmp_path, with_types):
    """nghuyong/ernie-2.0 and 3.0 have use_task_id: a fourth embedding, added last."""
    config = checkpoints.configuration("ernie", use_task_id=True, task_type_vocab_size=5)
    reference = checkpoints.randomized(config)
    reference.save_pretrained(tmp_path)
    inputs = batch("ernie")
    if with_types:
        shape = inputs["input_ids"].shape
        inputs["task_type_ids"] = np.random.default_rng(3).integers(0, 5, shape)
    exact, rounded = checkpoints.run_theirs(reference, inputs)
    model = AutoModel.from_pretrained(tmp_path)
    assert model.config.task_type_vocab_size == 5
    output = model(**inputs)
    assert_close(output.last_hidden_state, exact[0], rounded[0], inputs["attention_mask"])
    with pytest.raises(ValueError, match=r"task_type_ids holds 5, expected 0\.\.4"):
        model([[1, 2]], task_type_ids=[[0, 5]])


def test_task_types_of_a_model_without_them():
    """Zeros are taken, as Transformers does in an ERNIE; ones are refused, not passed over."""
    model, inputs = checkpoints.loaded("ernie"), batch("ernie")
    zeros = np.zeros_like(inputs["input_ids"])
    assert_same_bits(model(**inputs, task_type_ids=zeros)[0], model(**inputs)[0])
    with pytest.raises(ValueError, match="task_type_ids holds 1"):
        model(**inputs, task_type_ids=zeros + 1)


@pytest.mark.parametrize("head", ["", "MaskedLM"])
def test_electra_without_a_projection(tmp_path, head):
    """google/electra-base has embeddings as wide as its layers, and then no projection."""
    reference = checkpoints.randomized(
        checkpoints.configuration("electra", embedding_size=36), head
    )
    assert "electra.embeddings_project.weight" not in reference.state_dict()
    reference.save_pretrained(tmp_path)
    inputs = batch("electra")
    exact, rounded = checkpoints.run_theirs(reference, inputs)
    output = checkpoints.load(tmp_path, head)(**inputs)
    assert_close(output[0], exact[0], rounded[0], inputs["attention_mask"])


def test_electra_with_a_decoder_of_its_own(tmp_path):
    """The head of a generator predicts in the size of the embeddings, also untied."""
    config = checkpoints.configuration("electra", tie_word_embeddings=False)
    reference = checkpoints.randomized(config, "MaskedLM")
    reference.save_pretrained(tmp_path)
    inputs = batch("electra", (6, 6))
    exact, rounded = checkpoints.run_theirs(reference, inputs)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert_close(model(**inputs).logits, exact.logits, rounded.logits)


def test_a_missing_projection_is_missed(tmp_path):
    path = checkpoints.copied(tmp_path, "electra")
    tensors = checkpoints.weights(path)
    del tensors["embeddings_project.bias"]
    checkpoints.write(path, tensors)
    with pytest.raises(ValueError, match=r"no tensor embeddings_project\.bias"):
        AutoModel.from_pretrained(path)


@pytest.mark.parametrize("family", HEADED)
def test_the_encoder_of_a_model_with_a_head(family):
    """AutoModel on a directory that was saved with a head, whose tensors have a prefix."""
    path = checkpoints.saved(family, "TokenClassification")
    assert any(name.startswith(HEADED[family]) for name in checkpoints.weights(path))
    inputs = batch(family)
    theirs = checkpoints.theirs(family, "TokenClassification").base_model
    exact, rounded = checkpoints.run_theirs(theirs, inputs)
    output = AutoModel.from_pretrained(path)(**inputs)
    assert_close(output[0], exact[0], rounded[0], inputs["attention_mask"])


def test_defaults_of_the_configurations():
    """An entry that config.json leaves out has the default of Transformers' class."""
    from treadle.transformers.families import FAMILIES

    for name, family in FAMILIES.items():
        config = type(checkpoints.configuration(name))()
        for entry, value in family.defaults.items():
            own = family.aliases.get(entry, entry)
            if name == "distilbert" and entry in ("type_vocab_size", "layer_norm_eps"):
                continue  # it has none of these
            assert getattr(config, own) == value, (name, entry)
