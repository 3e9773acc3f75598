"""The families of checkpoints differ in the names of tensors and entries, and in embeddings.

Everything else is one model: a sum of embeddings and its layer norm, then post-norm encoder layers
(BERT: Devlin et al. 2019, arXiv:1810.04805; RoBERTa: Liu et al. 2019, arXiv:1907.11692; DistilBERT:
Sanh et al. 2019, arXiv:1910.01108; CamemBERT: Martin et al. 2020, arXiv:1911.03894; data2vec:
Baevski et al. 2022, arXiv:2202.03555; ERNIE 2.0: Sun et al. 2020, arXiv:1907.12412; ELECTRA: Clark
et al. 2020, arXiv:2003.10555). The names are those of Transformers' checkpoints.
"""

from __future__ import annotations

from typing import NamedTuple


class Layer(NamedTuple):
    """Names in a layer, each with a .weight and a .bias; ``{}`` is the layer's number."""

    query: str
    key: str
    value: str
    attention: str
    norm1: str
    linear1: str
    linear2: str
    norm2: str


class MaskedLM(NamedTuple):
    """Names of the head that predicts tokens: norm(act(dense x)) times the word embeddings."""

    dense: str
    norm: str
    decoder: str
    biases: tuple[str, ...]
    """The bias has one of these names: apart from the decoder's weight, or beside it."""
    activation: str | None
    """None stands for the activation of the model."""


class Family(NamedTuple):
    prefix: str
    """The names of the encoder begin with it in a model that has a head."""
    layer: Layer
    token_types: bool
    """True if there is an embedding of token types."""
    after_padding: bool
    """True if positions count from pad_token_id + 1 and padding has the position pad_token_id."""
    pooler: str | None
    """The name of the linear layer that makes pooler_output."""
    projection: str | None
    """The name of the linear layer between embeddings [embedding_size] and layers [hidden_size],
    which a checkpoint has where the two sizes differ."""
    task_types: bool
    """True if there is an embedding of task types where config.json's use_task_id is true."""
    sequence_dense: str
    """The name of the layer before the classifier of sequences; "{prefix}" is the encoder's."""
    sequence_activation: str
    sequence_out: str
    masked_lm: MaskedLM
    aliases: dict[str, str]
    """The family's names of entries of config.json, by their common names."""
    defaults: dict[str, object]
    """The values of entries that config.json leaves out."""


_BERT_LAYER = Layer(
    query="encoder.layer.{}.attention.self.query",
    key="encoder.layer.{}.attention.self.key",
    value="encoder.layer.{}.attention.self.value",
    attention="encoder.layer.{}.attention.output.dense",
    norm1="encoder.layer.{}.attention.output.LayerNorm",
    linear1="encoder.layer.{}.intermediate.dense",
    linear2="encoder.layer.{}.output.dense",
    norm2="encoder.layer.{}.output.LayerNorm",
)

# The defaults of Transformers' configuration classes.
_SIZES = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}

_BERT = Family(
    prefix="bert.",
    layer=_BERT_LAYER,
    token_types=True,
    after_padding=False,
    pooler="pooler.dense",
    projection=None,
    task_types=False,
    sequence_dense="{prefix}pooler.dense",
    sequence_activation="tanh",
    sequence_out="classifier",
    masked_lm=MaskedLM(
        dense="cls.predictions.transform.dense",
        norm="cls.predictions.transform.LayerNorm",
        decoder="cls.predictions.decoder",
        biases=("cls.predictions.bias", "cls.predictions.decoder.bias"),
        activation=None,
    ),
    aliases={},
    defaults=_SIZES | {"pad_token_id": 0},
)

_ROBERTA = _BERT._replace(
    prefix="roberta.",
    after_padding=True,
    sequence_dense="classifier.dense",
    sequence_out="classifier.out_proj",
    masked_lm=MaskedLM(
        dense="lm_head.dense",
        norm="lm_head.layer_norm",
        decoder="lm_head.decoder",
        biases=("lm_head.bias", "lm_head.decoder.bias"),
        activation="gelu",
    ),
    defaults=_SIZES | {"pad_token_id": 1, "vocab_size": 50265},
)

_XLM_ROBERTA = _ROBERTA._replace(defaults=_SIZES | {"pad_token_id": 1})

# The tensors of CamemBERT are named as RoBERTa's.
_CAMEMBERT = _XLM_ROBERTA

_DATA2VEC_TEXT = _XLM_ROBERTA._replace(prefix="data2vec_text.")

_ERNIE = _BERT._replace(
    prefix="ernie.",
    task_types=True,
    defaults=_BERT.defaults | {"use_task_id": False, "task_type_vocab_size": 3},
)

_ELECTRA = _BERT._replace(
    prefix="electra.",
    pooler=None,
    projection="embeddings_project",
    sequence_dense="classifier.dense",
    sequence_activation="gelu",
    sequence_out="classifier.out_proj",
    masked_lm=MaskedLM(
        dense="generator_predictions.dense",
        norm="generator_predictions.LayerNorm",
        decoder="generator_lm_head",
        biases=("generator_lm_head.bias",),
        activation="gelu",
    ),
    defaults=_BERT.defaults
    | {
        "embedding_size": 128,
        "hidden_size": 256,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
    },
)

_DISTILBERT = Family(
    prefix="distilbert.",
    layer=Layer(
        query="transformer.layer.{}.attention.q_lin",
        key="transformer.layer.{}.attention.k_lin",
        value="transformer.layer.{}.attention.v_lin",
        attention="transformer.layer.{}.attention.out_lin",
        norm1="transformer.layer.{}.sa_layer_norm",
        linear1="transformer.layer.{}.ffn.lin1",
        linear2="transformer.layer.{}.ffn.lin2",
        norm2="transformer.layer.{}.output_layer_norm",
    ),
    token_types=False,
    after_padding=False,
    pooler=None,
    projection=None,
    task_types=False,
    sequence_dense="pre_classifier",
    sequence_activation="relu",
    sequence_out="classifier",
    masked_lm=MaskedLM(
        dense="vocab_transform",
        norm="vocab_layer_norm",
        decoder="vocab_projector",
        biases=("vocab_projector.bias",),
        activation=None,
    ),
    aliases={
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
    },
    # Its layer norms have a fixed eps and it has no types, whatever config.json says.
    defaults=_SIZES | {"num_hidden_layers": 6, "pad_token_id": 0},
)

FAMILIES = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _XLM_ROBERTA,
    "distilbert": _DISTILBERT,
    "camembert": _CAMEMBERT,
    "data2vec-text": _DATA2VEC_TEXT,
    "ernie": _ERNIE,
    "electra": _ELECTRA,
}

# The names of activations in config.json, and treadle's. gelu_new, gelu_fast and gelu_pytorch_tanh
# are one formula, Hendrycks and Gimpel's approximation by tanh (arXiv:1606.08415).
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
