"""The search for sequences over any model that can take a step: greedy, by beams or by sampling.

search             continues prompts until they end
GenerationConfig   its options, in Transformers' names
Decoding           a model's step and the order of its rows: all that a search knows of a model
Streamer           receives tokens as soon as they are certain
SearchResult       sequences, lengths and scores
"""

from treadle._public import publish
from treadle.generation.config import GenerationConfig
from treadle.generation.decoding import Decoding
from treadle.generation.results import SearchResult
from treadle.generation.search import search
from treadle.generation.streaming import Streamer

__all__ = ["Decoding", "GenerationConfig", "SearchResult", "Streamer", "search"]

publish(__name__, globals(), __all__)
