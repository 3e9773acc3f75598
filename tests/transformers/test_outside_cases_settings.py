"""Every entry of every settings file has its effect or is refused by its name.

The tables list what sentence-transformers 5 and 6 and Transformers 4.57 and 5 write, with what
treadle does. A row is changed in a directory of a small model: "effect" must change what the model
returns or says of itself, "nothing" must not, "refused" must raise an error that has the name.
Entries of tokenizer_config.json are in the tests of the tokenizer.
"""

import inspect
import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers

from support import checkpoints
from support.checkpoints import MINILM
from treadle.transformers import AutoModel, SentenceTransformer, settings

TEXTS = ["A cat sits on the mat, twice.", "Rates."]
EFFECT, NOTHING, REFUSED = "effect", "nothing", "refused"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A directory with each kind of module, as sentence-transformers 6 names its entries."""
    path = tmp_path_factory.mktemp("settings") / "model"
    skipped = ("*.safetensors", "modules.json", "*sentence*", "[0-9]_*", "config.json")
    shutil.copytree(MINILM, path, ignore=shutil.ignore_patterns(*skipped))
    torch.manual_seed(0)
    checkpoints.randomized(
        checkpoints.configuration("bert", vocab_size=30522, pad_token_id=0)
    ).save_pretrained(path)
    for number, (kind, (entries, tensors)) in enumerate(MODULES.items(), 1):
        (path / f"{number}_{kind}").mkdir()
        write(path, f"{number}_{kind}/config.json", entries)
        if tensors:
            safetensors.torch.save_file(tensors, path / f"{number}_{kind}" / "model.safetensors")
    write(path, "modules.json", [module(number, kind) for number, kind in enumerate(KINDS)])
    write(path, "sentence_bert_config.json", {"max_seq_length": 30})
    write(path, "config_sentence_transformers.json", {"prompts": {"query": "question: "}})
    return path


generator = torch.Generator().manual_seed(3)
MODULES = {
    "Pooling": ({"embedding_dimension": 36, "pooling_mode": "mean"}, None),
    "Dense": (
        {
            "in_features": 36,
            "out_features": 12,
            "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
        },
        {
            "linear.weight": torch.randn(12, 36, generator=generator),
            "linear.bias": torch.randn(12, generator=generator),
        },
    ),
    "LayerNorm": (
        {"dimension": 12},
        {"norm.weight": torch.linspace(1, 2, 12), "norm.bias": torch.linspace(-1, 1, 12)},
    ),
    "Dropout": ({"dropout": 0.1}, None),
    "Normalize": ({}, None),
}
KINDS = ["Transformer", *MODULES]


def module(number, kind, **changes):
    return {
        "idx": number,
        "name": str(number),
        "path": f"{number}_{kind}" if number else "",
        "type": f"sentence_transformers.models.{kind}",
    } | changes


def write(path, name, content):
    (path / name).write_text(json.dumps(content))


def said(path):
    """Return a model's results and attributes as values that can be compared."""
    found = SentenceTransformer(path)
    encoder = AutoModel.from_pretrained(path)
    output = encoder([[5, 6, 7]])
    vectors = [
        found.encode(TEXTS),
        found.encode_query(TEXTS),
        found.encode_document(TEXTS),
        found.encode("word " * 60),
        found.similarity(found.encode(TEXTS), found.encode(TEXTS)),
        found.encode(["about it: " + TEXTS[0]], prompt="about it: "),
        *[v for v in (output if isinstance(output, tuple) else output.to_tuple()) if v is not None],
    ]
    config = {k: v for k, v in encoder.config.to_dict().items() if k in ("id2label", "label2id")}
    return (
        [np.asarray(v).tobytes() for v in vectors[:7]],
        len(vectors),
        type(output).__name__,
        repr(config),
        found.max_seq_length,
        found.prompts,
    )


@pytest.fixture(scope="module")
def before(model):
    return said(model)


# A row: name of the entry, the values that are tried, what they do. Values of an entry with an
# effect are different from the model's own.
CONFIG = [
    # Sizes must be those of the tensors.
    ("vocab_size", 30521, REFUSED),
    ("hidden_size", 39, REFUSED),
    ("num_hidden_layers", 3, REFUSED),
    ("num_hidden_layers", 1, EFFECT),
    ("num_attention_heads", 4, EFFECT),
    ("num_attention_heads", 5, "hidden_size"),
    ("intermediate_size", 51, REFUSED),
    ("hidden_act", "relu", EFFECT),
    ("hidden_act", "gelu_10", REFUSED),
    ("max_position_embeddings", 41, REFUSED),
    ("type_vocab_size", 3, REFUSED),
    ("layer_norm_eps", 0.5, EFFECT),
    ("pad_token_id", 5, NOTHING),
    ("id2label", {"0": "a"}, EFFECT),
    ("label2id", {"b": 1}, EFFECT),
    ("label2id", {"b": "c"}, REFUSED),
    ("num_labels", 7, NOTHING),  # id2label wins
    ("output_hidden_states", True, EFFECT),
    ("output_attentions", True, EFFECT),
    ("return_dict", False, EFFECT),
    ("is_decoder", True, REFUSED),
    ("add_cross_attention", True, REFUSED),
    ("is_encoder_decoder", True, REFUSED),
    ("tie_encoder_decoder", True, REFUSED),
    ("cross_attention_hidden_size", 8, REFUSED),
    ("position_embedding_type", "relative_key", REFUSED),
    ("pruned_heads", {"0": [1]}, REFUSED),
    ("torchscript", True, REFUSED),
    ("per_layer_config", {"0": {"hidden_act": "relu"}}, REFUSED),
    ("quantization_config", {"load_in_8bit": True}, REFUSED),
    ("auto_map", {"AutoModel": "modeling.Model"}, REFUSED),
    ("model_type", "mpnet", REFUSED),
    ("tie_word_embeddings", "yes", REFUSED),
    ("tie_word_embeddings", False, NOTHING),  # of AutoModelForMaskedLM alone
    # Training, and what a program writes down for itself.
    ("architectures", ["BertForMaskedLM"], NOTHING),
    ("attention_probs_dropout_prob", 0.9, NOTHING),
    ("hidden_dropout_prob", 0.9, NOTHING),
    ("classifier_dropout", 0.9, NOTHING),
    ("initializer_range", 0.5, NOTHING),
    ("problem_type", "regression", NOTHING),
    ("transformers_version", "99.0", NOTHING),
    ("_name_or_path", "elsewhere", NOTHING),
    ("finetuning_task", "mnli", NOTHING),
    ("task_specific_params", {"summarization": {}}, NOTHING),
    ("tf_legacy_loss", True, NOTHING),
    ("use_bfloat16", True, NOTHING),
    ("gradient_checkpointing", True, NOTHING),
    # The argument dtype chooses the dtype of packed weights.
    ("dtype", "bfloat16", NOTHING),
    ("torch_dtype", "float16", NOTHING),
    # These give the same numbers in other pieces, or concern the cache of decoders.
    ("chunk_size_feed_forward", 4, NOTHING),
    ("use_cache", False, NOTHING),
    # Tokens that an encoder has no use for.
    ("bos_token_id", 1, NOTHING),
    ("eos_token_id", 1, NOTHING),
    ("sep_token_id", 1, NOTHING),
    ("decoder_start_token_id", 1, NOTHING),
    ("prefix", "x", NOTHING),
    ("tokenizer_class", "BertTokenizer", NOTHING),
]
# Transformers 4.57 writes the settings of generation, which encoders do not do.
GENERATION = {
    "bad_words_ids": [[1]],
    "begin_suppress_tokens": [1],
    "diversity_penalty": 0.5,
    "do_sample": True,
    "early_stopping": True,
    "encoder_no_repeat_ngram_size": 2,
    "exponential_decay_length_penalty": [1, 2.0],
    "forced_bos_token_id": 1,
    "forced_eos_token_id": 1,
    "length_penalty": 2.0,
    "max_length": 3,
    "min_length": 1,
    "no_repeat_ngram_size": 2,
    "num_beam_groups": 2,
    "num_beams": 4,
    "num_return_sequences": 2,
    "output_scores": True,
    "remove_invalid_values": True,
    "repetition_penalty": 2.0,
    "return_dict_in_generate": True,
    "suppress_tokens": [1],
    "temperature": 2.0,
    "top_k": 1,
    "top_p": 0.5,
    "typical_p": 0.5,
}
# Entries of one family, which test_outside_cases_families.py and test_transformers_model.py show.
OF_FAMILIES = {
    "distilbert": {
        "dim": EFFECT,
        "n_heads": EFFECT,
        "n_layers": EFFECT,
        "hidden_dim": EFFECT,
        "activation": EFFECT,
        "dropout": NOTHING,
        "attention_dropout": NOTHING,
        "qa_dropout": NOTHING,
        "seq_classif_dropout": NOTHING,
        "sinusoidal_pos_embds": NOTHING,  # the table is in the checkpoint
    },
    "ernie": {"use_task_id": EFFECT, "task_type_vocab_size": EFFECT},
    "electra": {
        "embedding_size": EFFECT,
        "summary_type": NOTHING,  # of a head for multiple choice, which treadle does not have
        "summary_use_proj": NOTHING,
        "summary_activation": NOTHING,
        "summary_last_dropout": NOTHING,
    },
}

MODEL = [
    ("model_type", "SparseEncoder", REFUSED),
    ("model_type", "CrossEncoder", REFUSED),
    ("__version__", {"sentence_transformers": "99.0"}, NOTHING),
    ("requirements", {"transformers": ">=99"}, NOTHING),
    ("prompts", {"document": "answer: "}, EFFECT),
    ("prompts", ["a"], REFUSED),
    ("default_prompt_name", "query", EFFECT),
    ("default_prompt_name", "nosuch", REFUSED),
    ("similarity_fn_name", "manhattan", EFFECT),
    ("similarity_fn_name", "maxsim", REFUSED),
    ("truncate_dim", 5, EFFECT),
    ("truncate_dim", 0, REFUSED),
    ("max_active_dims", 5, REFUSED),
    ("activation_fn", "torch.nn.modules.linear.Identity", REFUSED),
    ("nosuch", None, REFUSED),
]
WHISPER = {"audio": {"method": "forward", "method_output_name": "last_hidden_state"}}
ENCODER = [
    ("max_seq_length", 4, EFFECT),
    ("max_seq_length", "4", REFUSED),
    ("do_lower_case", False, NOTHING),  # the tokenizer's own rule stays
    ("do_lower_case", 1, REFUSED),
    ("query_length", 4, EFFECT),
    ("document_length", 4, EFFECT),
    ("query_length", -1, REFUSED),
    ("query_expansion", {"strategy": "fixed", "length": 32}, REFUSED),
    ("processing_kwargs", {"text": {"max_length": 4}}, EFFECT),
    ("processing_kwargs", {"text": {"truncation": False}}, REFUSED),
    ("processing_kwargs", {"text": {"stride": 2}}, REFUSED),
    ("processing_kwargs", {"text": {"padding": "max_length"}}, NOTHING),
    ("processing_kwargs", {"audio": {"sampling_rate": 16000}}, REFUSED),
    *[(name, {"model_max_length": 4}, EFFECT) for name in ("tokenizer_args", "processor_kwargs")],
    *[(name, {"nosuch_of": 4}, "nosuch_of") for name in ("model_args", "model_kwargs")],
    *[(name, {"attn_implementation": "sdpa"}, NOTHING) for name in ("model_args", "model_kwargs")],
    ("model_args", {"torch_dtype": "bfloat16"}, EFFECT),
    ("model_args", {"torch_dtype": "float16"}, "torch_dtype"),
    ("model_args", {"trust_remote_code": True}, NOTHING),
    *[(name, {"layer_norm_eps": 0.5}, EFFECT) for name in ("config_args", "config_kwargs")],
    ("config_args", {"is_decoder": True}, "is_decoder"),
    ("tokenizer_name_or_path", "elsewhere", REFUSED),
    ("transformer_task", "feature-extraction", NOTHING),
    ("transformer_task", "fill-mask", REFUSED),
    ("modality_config", WHISPER, REFUSED),
    ("module_output_name", "scores", REFUSED),
    ("unpad_inputs", False, NOTHING),
    ("backend", "torch", NOTHING),
    ("cache_dir", "/nowhere", NOTHING),
    ("nosuch", None, REFUSED),
]
OTHERS = {
    "1_Pooling/config.json": [
        ("embedding_dimension", 35, REFUSED),
        ("word_embedding_dimension", 36, NOTHING),
        ("pooling_mode", "cls", EFFECT),
        ("pooling_mode", "mode", REFUSED),
        *[
            (f"pooling_mode_{name}", True, NOTHING)
            for name in (  # pooling_mode wins
                "cls_token",
                "max_tokens",
                "mean_tokens",
                "mean_sqrt_len_tokens",
                "weightedmean_tokens",
                "lasttoken",
            )
        ],
        ("include_prompt", False, EFFECT),
        ("nosuch", None, REFUSED),
    ],
    "2_Dense/config.json": [
        ("in_features", 35, REFUSED),
        ("out_features", 11, REFUSED),
        ("bias", False, EFFECT),
        ("activation_function", "torch.nn.modules.linear.Identity", EFFECT),
        ("activation_function", "os.system", REFUSED),
        ("module_input_name", "token_embeddings", REFUSED),
        ("module_output_name", "scores", REFUSED),
        ("use_residual", True, REFUSED),
        ("nosuch", None, REFUSED),
    ],
    "3_LayerNorm/config.json": [("dimension", 11, REFUSED), ("nosuch", None, REFUSED)],
    "4_Dropout/config.json": [("dropout", 0.9, NOTHING), ("nosuch", None, REFUSED)],
    "5_Normalize/config.json": [
        ("module_input_name", "token_embeddings", REFUSED),
        ("module_output_name", "sentence_embedding", NOTHING),
        ("nosuch", None, REFUSED),
    ],
}
FILES = {
    "config.json": [*CONFIG, *[(name, value, NOTHING) for name, value in GENERATION.items()]],
    "config_sentence_transformers.json": MODEL,
    "sentence_bert_config.json": ENCODER,
    **OTHERS,
}
# Entries of config.json that change nothing are tried in one directory.
ROWS = [
    (file, *row)
    for file, rows in FILES.items()
    for row in rows
    if not (file == "config.json" and row[2] == NOTHING)
]


@pytest.mark.parametrize(
    ("file", "name", "value", "does"), ROWS, ids=[f"{r[0]}-{r[1]}-{i}" for i, r in enumerate(ROWS)]
)
def test_entries(model, before, tmp_path, file, name, value, does):
    path = changed(model, tmp_path, file, lambda content: {**content, name: value})
    if does in (EFFECT, NOTHING):
        assert (said(path) == before) == (does == NOTHING)
    else:
        with pytest.raises((ValueError, TypeError), match=r"^treadle\.transformers\.") as caught:
            SentenceTransformer(path)
        # The message names the entry, or the tensor whose shape the entry contradicts.
        names = (name, "has shape", "has no tensor") if does == REFUSED else (does,)
        assert any(text in str(caught.value) for text in names)


def test_entries_without_effect(model, before, tmp_path):
    rest = {name: value for name, value, does in FILES["config.json"] if does == NOTHING}
    path = changed(model, tmp_path, "config.json", lambda content: {**content, **rest})
    assert said(path) == before


def changed(model, tmp_path, file, change):
    """A copy of the model with another content of one file; the weights are linked."""
    path = tmp_path / "model"
    shutil.copytree(model, path, copy_function=lambda a, b: shutil.os.symlink(a, b))
    content = json.loads((path / file).read_text())
    (path / file).unlink()
    write(path, file, change(content))
    return path


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({"kwargs": ["task"]}, "kwargs"),
        ({"type": "sentence_transformers.models.WeightedLayerPooling"}, "type"),
        ({"type": "custom_st.Transformer"}, "type"),
        ({"nosuch": 1}, "nosuch"),
        ({"name": "1"}, "name"),
    ],
    ids=lambda case: next(iter(case)) if isinstance(case, dict) else "",
)
def test_entries_of_modules(model, tmp_path, changes, culprit):
    path = changed(
        model, tmp_path, "modules.json", lambda found: [*found[:-1], {**found[-1], **changes}]
    )
    with pytest.raises(ValueError, match=f"modules.json: .*{culprit}"):
        SentenceTransformer(path)


def test_modules_are_named_as_in_either_version(model, before, tmp_path):
    """Version 6 writes other paths of classes, idx counts, and empty kwargs mean nothing."""
    path = changed(
        model,
        tmp_path,
        "modules.json",
        lambda found: [
            {
                **entry,
                "idx": 9,
                "kwargs": [],
                "type": "sentence_transformers.base.modules.x." + entry["type"].split(".")[-1],
            }
            for entry in found
        ],
    )
    assert said(path) == before


def test_files_of_sentence_transformers_without_modules(model, tmp_path):
    """Without modules.json sentence-transformers reads none of its other files."""
    path = changed(model, tmp_path, "config_sentence_transformers.json", lambda _: {"nosuch": 1})
    (path / "modules.json").unlink()
    found = SentenceTransformer(path)
    assert (found.prompts, found.max_seq_length) == ({"query": "", "document": ""}, 40)
    assert found.get_embedding_dimension() == 36


def test_adapters(model, tmp_path):
    """Transformers would add an adapter that lies in the directory to the model."""
    path = changed(model, tmp_path, "sentence_bert_config.json", lambda content: content)
    write(path, "adapter_config.json", {"peft_type": "LORA"})
    for load in (SentenceTransformer, AutoModel.from_pretrained):
        with pytest.raises(ValueError, match=r"adapter_config\.json"):
            load(path)


# Entries that the installed versions write must be in the tables.


def listed(file):
    return {name for name, *_ in FILES[file]}


@pytest.mark.parametrize("family", checkpoints.FAMILIES)
def test_transformers_writes_nothing_else(family):
    config = type(checkpoints.configuration(family))()
    known = listed("config.json") | set(OF_FAMILIES.get(family, {})) | {"model_type"}
    assert set(config.to_dict()) <= known
    mentioned = {"kwargs", "self", *vars(transformers.PretrainedConfig)}
    arguments = set(inspect.signature(type(config).__init__).parameters)
    assert {name for name in arguments if not name.startswith("_")} - mentioned <= known


WRITERS = {
    "Transformer": "sentence_bert_config.json",
    "Pooling": "1_Pooling/config.json",
    "Dense": "2_Dense/config.json",
    "LayerNorm": "3_LayerNorm/config.json",
    "Dropout": "4_Dropout/config.json",
    "Normalize": "5_Normalize/config.json",
}


def test_sentence_transformers_writes_nothing_else(model, tmp_path):
    """Where sentence-transformers is installed, of version 5 or 6: it reads and saves the model."""
    package = pytest.importorskip("sentence_transformers")
    for kind, file in WRITERS.items():
        keys = getattr(getattr(package.models, kind), "config_keys", [])
        assert set(keys) <= listed(file)
    options = {"truncate_dim": 9, "similarity_fn_name": "dot", "default_prompt_name": "query"}
    # The form of a Pooling's file that both versions read.
    older = {"word_embedding_dimension": 36, "pooling_mode_mean_tokens": True}
    model = changed(model, tmp_path, "1_Pooling/config.json", lambda _: older)
    theirs = package.SentenceTransformer(str(model), device="cpu", **options)
    theirs.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    for file in FILES:
        if (tmp_path / "saved" / file).exists():
            written = json.loads((tmp_path / "saved" / file).read_text())
            assert set(written) <= listed(file) | {"model_type"}
    for path in (model, tmp_path / "saved"):
        ours = SentenceTransformer(path, **options)
        for method in ("encode", "encode_query", "encode_document"):
            right = getattr(theirs, method)(TEXTS)
            np.testing.assert_allclose(getattr(ours, method)(TEXTS), right, atol=1e-5)


def test_the_tables_of_the_code_are_these():
    """Every entry that treadle takes is listed here, and tried above."""
    for table, file in (
        (settings.CONFIG, "config.json"),
        (settings.ENCODER, "sentence_bert_config.json"),
        (settings.SENTENCE_MODEL, "config_sentence_transformers.json"),
        (settings.POOLING, "1_Pooling/config.json"),
        (settings.DENSE, "2_Dense/config.json"),
        (settings.LAYER_NORM, "3_LayerNorm/config.json"),
        (settings.DROPOUT, "4_Dropout/config.json"),
        (settings.NORMALIZE, "5_Normalize/config.json"),
    ):
        assert set(table) <= listed(file)
