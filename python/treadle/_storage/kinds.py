"""This module tells what a file is that is no safetensors, and what reads it.

Every format is told by its first bytes (its signature); a ZIP archive by the name of its first
member, and ONNX, which has no signature, by the fields a protobuf message of a model begins with.
"""

from __future__ import annotations

import re
import struct

START = 4096  # bytes that tell every kind
_NEVER = (
    "treadle never unpickles: that would run code from the file. Where you trust it, convert it in "
    'Python with safetensors.torch.save_file(module.state_dict(), "model.safetensors")'
)
_TORCH = f"a pickle, as torch.save writes it. {_NEVER}"
_KERAS = "treadle.keras.load reads it and runs it whole, without Keras"
_ONNX = "an ONNX model. treadle.onnx.load reads it and runs it whole"
# A protobuf message of a model: field 1, the version of the format, then one of the next fields.
_PROTOBUF = re.compile(rb"\x08[\x01-\x1f][\x12\x1a\x22\x28\x32\x3a\x42]", re.DOTALL)
_SIGNATURES = (
    (b"GGUF", "a GGUF file. llama.cpp runs it; treadle takes the safetensors that it was made of"),
    (b"\x89HDF\r\n\x1a\n", f"an HDF5 file, as Keras and h5py write. If it is a model, {_KERAS}"),
    (b"\x93NUMPY", "an array of NumPy. numpy.load reads it, and load_state_dict takes arrays"),
    (b"\x1f\x8b", "compressed by gzip. Unpack it with gunzip"),
    (b"BZh", "compressed by bzip2. Unpack it with bunzip2"),
    (b"\xfd7zXZ\0", "compressed by xz. Unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd. Unpack it with unzstd"),
    (b"version https://git-lfs", "a pointer of Git LFS. `git lfs pull` fetches the file itself"),
)
_MEMBERS = (  # patterns of the first member's name in a ZIP archive
    (r".*(data\.pkl|\.format_version|constants\.pkl)|[^/]*/(code|data|models)/.*", _TORCH),
    (r"(metadata|config)\.json|model\.weights\.h5", f"a Keras model. {_KERAS}"),
    (r".*\.npy", "an archive of NumPy. numpy.load reads it, and load_state_dict takes its arrays"),
)


def is_onnx(start: bytes) -> bool:
    """Return whether a file with these first bytes may be a model of ONNX."""
    return kind(start) == _ONNX


def is_keras(start: bytes) -> bool:
    """Return whether a file with these first bytes may be a model of Keras."""
    return _KERAS in (kind(start) or "")


def kind(start: bytes) -> str | None:
    """Say what a file with these first bytes is and what reads it; None for an unknown kind."""
    for signature, text in _SIGNATURES:
        if start.startswith(signature):
            return text
    if start[4:8] == b"TFL3":
        return "a TensorFlow Lite model. The tflite and ai-edge-litert packages run it"
    if start.startswith(b"PK\x03\x04") and len(start) >= 30:
        (length,) = struct.unpack_from("<H", start, 26)
        name = start[30 : 30 + length].decode(errors="replace")
        known = (text for pattern, text in _MEMBERS if re.fullmatch(pattern, name, re.DOTALL))
        return next(known, "a ZIP archive. Unpack it and name the file in it that has the weights")
    if re.match(rb"\x80[\x00-\x08]", start):
        return _TORCH
    if _PROTOBUF.match(start):
        return _ONNX
    content = start.lstrip().lower()
    if content.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a page of the web or XML, perhaps in the place of a failed download"
    if content.startswith((b"{", b"[")):
        return "JSON. A directory of Hugging Face's is loaded by treadle.transformers"
    return None
