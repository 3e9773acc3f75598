"""treadle.onnx runs whole models from ONNX files, without the packages onnx and onnxruntime.

>>> import treadle.onnx
>>> model = treadle.onnx.load("silero_vad.onnx")  # doctest: +SKIP
>>> model(input=samples, state=state, sr=16000)["output"]  # doctest: +SKIP
"""

from treadle._public import publish
from treadle.onnx.load import load

__all__ = ["load"]

publish(__name__, globals(), __all__)
