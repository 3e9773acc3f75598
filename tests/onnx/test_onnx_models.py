"""Whole model files against ONNX Runtime, where files and ONNX Runtime are installed."""

import numpy as np
import pytest

import treadle.onnx
from support import model_files

onnxruntime = pytest.importorskip("onnxruntime")
FILES = model_files.found(".onnx")
# The shapes of inputs whose sizes calls choose, by the beginning of a file's name: several calls.
CALLS = {
    "silero_vad_v6": ({"input": (1, 576)}, {"input": (7, 576)}),
    "silero_vad_16k_sequence": ({"input": (1, 576)}, {"input": (7, 576)}),
    "silero_vad_openvino": ({},),
    "silero_vad": (
        {"input": (1, 576), "state": (2, 1, 128)},
        {"input": (3, 576), "state": (2, 3, 128)},
    ),
    "nsnet2-20ms-baseline": ({"input": (1, 20, 161)}, {"input": (2, 5, 161)}),
    "nsnet2-20ms-48k": ({"input": (1, 20, 513)}, {"input": (2, 5, 513)}),
    "ch_PP-OCRv4_det": ({"x": (1, 3, 64, 96)}, {"x": (1, 3, 32, 32)}),
    "ch_PP-OCRv4_rec": ({"x": (1, 3, 48, 96)}, {"x": (2, 3, 48, 64)}),
    "ch_ppocr_mobile_v2.0_cls": ({"x": (1, 3, 48, 192)}, {"x": (3, 3, 48, 192)}),
}
TWO_RATES = ("silero_vad.onnx", "silero_vad_op18_ifless.onnx")


def calls(name):
    """The shapes of the calls of a file, by the longest beginning of its name that is listed."""
    known = [key for key in CALLS if name.startswith(key)]
    return CALLS[max(known, key=len)] if known else ({},)


def picture(shape, rng):
    """Something like dark letters on bright paper, which detectors find."""
    made = 1 + 0.05 * rng.normal(size=shape)
    middle = shape[2] // 2
    for column in range(shape[3] // 8, shape[3] - shape[3] // 8 - 3, 8):
        made[:, :, middle - 6 : middle + 6, column : column + 2] -= 2
        made[:, :, middle - 1 : middle + 1, column : column + 6] -= 2
    return made


def inputs_of(name, model, shapes, rng):
    """Random inputs of the shapes of a call, for each rate of samples that Silero's nets have."""
    for rate in (16000, 8000) if name in TWO_RATES else (16000,):
        arrays = {}
        for value in model.inputs:
            if value.name == "sr":
                arrays["sr"] = np.array(rate)
                continue
            shape = shapes.get(value.name, value.shape)
            if not all(isinstance(size, int) for size in shape or [None]):
                pytest.skip(f"the sizes of {value.name} are not listed")
            if rate == 8000 and shape[-1] == 576:
                shape = (*shape[:-1], 288)
            made = picture(shape, rng) if len(shape) == 4 else 0.1 * rng.normal(size=shape)
            arrays[value.name] = made.astype(value.dtype)
        yield arrays


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])


@pytest.mark.skipif(not FILES, reason="no model files (TREADLE_MODEL_FILES)")
@pytest.mark.parametrize("name", FILES or ["none"])
def test_against_onnx_runtime(name):
    """Both add float32 in other orders: outputs agree to 1e-4 of the largest of them, which is the
    error of some hundred layers of sums of some hundred terms."""
    model = treadle.onnx.load(FILES[name])
    reference = session(FILES[name])
    for number, shapes in enumerate(calls(name)):
        for inputs in inputs_of(name, model, shapes, np.random.default_rng(number)):
            results = model(**inputs)
            expected = reference.run(list(results), inputs)
            for (output, found), wanted in zip(results.items(), expected, strict=True):
                assert found.dtype == wanted.dtype
                assert found.shape == wanted.shape, (output, shapes)
                scale = max(float(np.abs(wanted).max()), 1e-3)
                np.testing.assert_allclose(found, wanted, 0, 1e-4 * scale, err_msg=output)


# Files whose rows do not depend on each other, with the shape of a batch.
BATCHES = {
    "nsnet2-20ms-baseline.onnx": (3, 12, 161),
    "ch_PP-OCRv4_det_infer.onnx": (2, 3, 96, 64),
    "ch_PP-OCRv4_rec_infer.onnx": (3, 3, 48, 64),
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": (3, 3, 48, 192),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", BATCHES)
def test_rows_have_the_same_bits_alone_and_for_any_threads(name, dtype, threads):
    if name not in FILES:
        pytest.skip("no model files (TREADLE_MODEL_FILES)")
    model = treadle.onnx.load(FILES[name]).to(dtype)
    x = 0.3 * np.random.default_rng(7).normal(size=BATCHES[name])
    rows = x.astype(np.float32)
    (together,) = model(rows).values()
    treadle.set_num_threads(1)
    for i in range(len(rows)):
        (alone,) = model(rows[i : i + 1]).values()
        np.testing.assert_array_equal(alone[0], together[i])
