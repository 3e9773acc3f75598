"""The grid of convolutions lists every shape that is timed, and why it is there."""

from __future__ import annotations

import dataclasses

from .case import ConvCase

BATCH = 16


def _resnet() -> list[ConvCase]:
    def case(c: int, d: int, taps: int, size: int, reason: str, stride: int = 1) -> ConvCase:
        around = (taps // 2, taps // 2)
        both = (taps, taps), size, size
        return ConvCase("resnet", 1, c, d, *both, reason, (stride, stride), around, c == 64)

    return [
        case(3, 64, 7, 224, "ResNet-18: the stem", stride=2),
        case(64, 64, 3, 56, "ResNet-18: stage 1"),
        case(64, 128, 3, 56, "ResNet-18: into stage 2", stride=2),
        case(64, 128, 1, 56, "ResNet-18: past a block", stride=2),
        case(128, 128, 3, 28, "ResNet-18: stage 2"),
        case(256, 256, 3, 14, "ResNet-18: stage 3"),
        case(512, 512, 3, 7, "ResNet-18: stage 4"),
        case(32, 32, 3, 56, "3x3 taps over 32 channels, the fewest with a target"),
    ]


def _text() -> list[ConvCase]:
    def case(c: int, d: int, taps: int, h: int, w: int, reason: str) -> ConvCase:
        around = (taps // 2, taps // 2) if taps == 3 else (0, 0)
        return ConvCase("crnn", 1, c, d, (taps, taps), h, w, reason, padding=around)

    return [
        case(1, 64, 3, 32, 320, "a CRNN reads a line of text: the first"),
        case(64, 128, 3, 16, 160, "a CRNN: the second"),
        case(128, 256, 3, 8, 80, "a CRNN: the third"),
        case(256, 512, 3, 4, 80, "a CRNN: the fifth"),
        case(512, 512, 2, 2, 81, "a CRNN: the last, into columns"),
    ]


def _mobile() -> list[ConvCase]:
    def case(c: int, d: int, size: int, reason: str) -> ConvCase:
        return ConvCase("mobilenet", 1, c, d, (1, 1), size, size, reason, quick=c == 512)

    return [
        case(32, 64, 112, "MobileNet: 1x1 after the stem"),
        case(64, 128, 56, "MobileNet: 1x1"),
        case(256, 256, 28, "MobileNet: 1x1"),
        case(512, 512, 14, "MobileNet: 1x1, five times"),
        case(1024, 1024, 7, "MobileNet: the last 1x1"),
    ]


def grid() -> list[ConvCase]:
    """Return every case, alone and in a batch of 16."""
    alone = [*_resnet(), *_text(), *_mobile()]
    return [*alone, *(dataclasses.replace(c, B=BATCH, quick=False) for c in alone)]


def words(case: ConvCase) -> str:
    """Name a case in plain words, as the subject of a sentence."""
    rows = f", {case.B} images at once" if case.B > 1 else ""
    taps = f"{case.taps[0]}x{case.taps[1]}"
    return f"A {taps} convolution from {case.C} to {case.D} channels, {case.H}x{case.W}{rows}"
