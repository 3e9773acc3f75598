"""The recurrent grid: every shape that is timed, and why it is there.

Letters: T time, B batch, I input, H hidden, P projection, D directions, L layers, G gates.
A case is data; `run.py` times it, `limits.py` says how fast the machine could do it.

T stops at 1000 and B at 128. Where a published shape is larger it is cut and its reason says so:
a longer sequence repeats the same step, and the time per step is what is measured.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from .dtypes import FLOAT32, suffix

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
GROUPS = (
    "step",
    "chunk",
    "sequence",
    "batch",
    "bidirectional",
    "stacked",
    "ragged",
    "deepbench",
)


@dataclass(frozen=True)
class Case:
    """One shape. `name` is unique and made of the fields."""

    cell: str
    group: str
    T: int
    B: int
    I: int
    H: int
    reason: str
    L: int = 1
    D: int = 1
    P: int = 0
    nonlinearity: str = "tanh"
    lengths: tuple[int, ...] = field(default=(), repr=False)
    label: str = ""
    quick: bool = False
    dtype: str = FLOAT32

    kind = "recurrent"

    @property
    def name(self) -> str:
        """``lstm/step/1x1x128x128/int8``: cell, group, T x B x I x H, then what is not the default."""
        text = f"{self.cell}/{self.group}/{self.T}x{self.B}x{self.I}x{self.H}"
        if self.L > 1:
            text += f"-{self.L}layers"
        if self.D > 1:
            text += "-bi"
        if self.P:
            text += f"-proj{self.P}"
        if self.nonlinearity != "tanh":
            text += f"-{self.nonlinearity}"
        return text + (f"-{self.label}" if self.label else "") + suffix(self.dtype)

    @property
    def carried(self) -> bool:
        """A single step whose state goes from one call to the next, as a stream has it."""
        return self.T == 1

    @property
    def gates(self) -> int:
        """Gates of the cell: 1, 4 or 3."""
        return GATES[self.cell]

    @property
    def output_size(self) -> int:
        """Size of h: P with a projection, else H."""
        return self.P or self.H

    def input_size(self, layer: int) -> int:
        """Size of what `layer` reads."""
        return self.I if layer == 0 else self.D * self.output_size


# What is also timed in bfloat16 and int8: steps, bound by the bytes of the weights, and batches, bound by
# the multiply-adds.
NARROW = (
    *(f"{cell}/step/1x1x{h}x{h}" for cell in ("lstm", "gru") for h in (128, 256, 512, 1024)),
    *(f"{cell}/batch/50x32x256x256" for cell in ("lstm", "gru")),
    "lstm/batch/25x64x512x512",
    "gru/batch/25x64x512x512",
    "lstm/batch/16x32x240x1024",
)


def uniform_lengths(batch: int, longest: int) -> tuple[int, ...]:
    """Lengths uniform on [1, longest], one of them the longest."""
    rng = random.Random(0)
    return (longest, *(rng.randint(1, longest) for _ in range(batch - 1)))


def log_normal_lengths(batch: int, longest: int) -> tuple[int, ...]:
    """Lengths as sentences and utterances have them: most short, a few long."""
    rng = random.Random(0)
    drawn = [rng.lognormvariate(0.0, 0.8) for _ in range(batch)]
    scale = longest / max(drawn)
    return tuple(max(1, round(scale * value)) for value in drawn)


def _steps() -> list[Case]:
    known = {
        128: "silero-vad's LSTM; a figure of the speed goal",
        256: "rnnoise, DeepFilterNet",
        512: "a figure of the speed goal",
        640: "prediction network of NeMo's transducers",
        1024: "larger than the L3 cache for an LSTM",
    }
    found = [
        Case(
            cell,
            "step",
            1,
            1,
            size,
            size,
            known.get(size, "size sweep of the speed goal"),
            quick=cell == "lstm" or size in (128, 256),
        )
        for cell in ("rnn", "lstm", "gru")
        for size in (32, 64, 128, 256, 512, 640, 1024)
    ]

    def step(cell: str, i: int, h: int, reason: str, layers: int = 1, batch: int = 1) -> None:
        found.append(Case(cell, "step", 1, batch, i, h, reason, L=layers))

    step("lstm", 1, 16, "guitar amplifier models, one step per audio sample (20.8 us at 48 kHz)")
    step("lstm", 1, 40, "the largest of the guitar amplifier models")
    step("gru", 1, 16, "guitar amplifier models, GRU")
    step("gru", 64, 32, "an encoder layer of Opus' DRED")
    step("gru", 480, 64, "the last decoder layer of Opus' DRED")
    step("gru", 128, 128, "Opus packet-loss concealment", layers=2)
    step("gru", 272, 160, "first GRU cell of the FARGAN vocoder")
    step("gru", 240, 128, "second GRU cell of the FARGAN vocoder")
    step("gru", 208, 128, "third GRU cell of the FARGAN vocoder")
    step("gru", 256, 256, "the three GRUs of rnnoise as one stack", layers=3)
    step("gru", 400, 400, "NSNet2 noise suppression", layers=2)
    step("lstm", 257, 128, "half of DTLN, one step per 8 ms", layers=2)
    step("lstm", 40, 40, "DeepAR decoding, one series", layers=2)
    step("lstm", 320, 320, "prediction network of MLPerf's and NeMo's small transducers")
    step("lstm", 768, 1024, "Tacotron 2, attention cell")
    step("lstm", 1536, 1024, "Tacotron 2, decoder cell")
    step("lstm", 64, 256, "recurrent PPO, 8 environments", batch=8)
    step("lstm", 64, 256, "recurrent PPO, 64 environments", batch=64)
    step("lstm", 320, 320, "transducer prediction network, 16 hypotheses", batch=16)
    step("lstm", 40, 40, "DeepAR decoding, 100 samples", layers=2, batch=100)
    return found


def _chunks() -> list[Case]:
    found = [
        Case(cell, "chunk", time, 1, size, size, "short chunks of a stream", quick=quick)
        for cell, size, quick in (("lstm", 128, True), ("lstm", 256, False), ("gru", 256, False))
        for time in (4, 16, 32)
    ]
    return [
        *found,
        Case("gru", "chunk", 29, 1, 13, 20, "Mycroft Precise wake word (tanh instead of linear)"),
        Case("gru", "chunk", 32, 1, 512, 256, "the shape of sru's CPU comparison"),
        Case("lstm", "chunk", 16, 1, 512, 1024, "a layer of icefall's lstm_transducer", P=512),
        Case("lstm", "chunk", 8, 1, 512, 1024, "a TDNN-LSTM layer of Kaldi", P=256),
        Case("lstm", "chunk", 16, 1, 2048, 2048, "Mozilla DeepSpeech: 128 MiB of weights"),
    ]


def _sequences() -> list[Case]:
    goal = "a figure of the speed goal"
    return [
        Case("lstm", "sequence", 100, 1, 64, 128, goal, quick=True),
        Case("gru", "sequence", 100, 1, 64, 128, goal, quick=True),
        Case("rnn", "sequence", 100, 1, 64, 128, "the same for a plain RNN", quick=True),
        Case("lstm", "sequence", 100, 1, 1, 50, goal + ": a small time-series model", quick=True),
        Case("lstm", "sequence", 1000, 1, 128, 128, "silero-vad over 30 s in one call"),
        Case("gru", "sequence", 1000, 1, 128, 128, "long B = 1 sequence"),
        Case("lstm", "sequence", 500, 1, 256, 256, "weights larger than L2", quick=True),
        Case("gru", "sequence", 500, 1, 256, 256, "weights near the size of L2"),
        Case("rnn", "sequence", 500, 1, 256, 256, "weights within L2"),
        Case("lstm", "sequence", 200, 1, 48, 96, "Tesseract (fast models), first 1-D layer"),
        Case("lstm", "sequence", 200, 1, 96, 192, "Tesseract (fast models), last layer"),
        Case("lstm", "sequence", 50, 1, 500, 500, "a size that is no multiple of a vector"),
    ]


def _batches() -> list[Case]:
    goal = "a figure of the speed goal"
    sweep = "batch sweep"
    return [
        Case("lstm", "batch", 50, 32, 256, 256, goal, quick=True),
        Case("gru", "batch", 50, 32, 256, 256, goal, quick=True),
        Case("rnn", "batch", 50, 32, 256, 256, "the same for a plain RNN", quick=True),
        Case("lstm", "batch", 25, 64, 512, 512, goal, quick=True),
        *(Case("lstm", "batch", 50, batch, 256, 256, sweep) for batch in (2, 4, 8, 16, 64, 128)),
        *(Case("gru", "batch", 25, batch, 512, 512, sweep) for batch in (4, 16, 64, 128)),
        *(Case("lstm", "batch", 50, batch, 128, 128, sweep) for batch in (4, 32, 128)),
        Case("lstm", "batch", 32, 128, 32, 64, "a published PyTorch comparison"),
        Case("lstm", "batch", 5, 128, 510, 32, "short, wide input (B = 500 cut to 128)"),
        Case("gru", "batch", 50, 20, 800, 800, "an odd batch (T = 300 cut to 50)"),
        Case("lstm", "batch", 20, 64, 768, 768, "Bonito nanopore layer (T = 333 cut to 20)"),
        Case("lstm", "batch", 16, 32, 240, 1024, "MLPerf RNN-T encoder (B 896, T 256 cut)"),
    ]


def _bidirectional() -> list[Case]:
    def bi(
        cell: str, t: int, i: int, h: int, reason: str, layers: int = 1, quick: bool = False
    ) -> Case:
        return Case(cell, "bidirectional", t, 1, i, h, reason, L=layers, D=2, quick=quick)

    customer = "a customer's OCR layers, slow at B = 1 in oneDNN"
    return [
        bi("lstm", 63, 24, 32, customer),
        bi("lstm", 31, 48, 32, customer),
        bi("lstm", 15, 96, 32, customer),
        bi("lstm", 100, 256, 256, "EasyOCR, second generation", quick=True),
        bi("lstm", 100, 512, 512, "EasyOCR, first generation"),
        bi("lstm", 100, 512, 256, "Kokoro and Tacotron 2 text encoders"),
        bi("gru", 128, 384, 256, "a published PyTorch comparison (8.9 ms on an M2)"),
        bi("lstm", 32, 512, 128, "docTR's CRNN", layers=2),
    ]


def _stacked() -> list[Case]:
    return [
        Case("lstm", "stacked", 160, 1, 40, 256, "Resemblyzer, one partial", L=3, quick=True),
        Case("lstm", "stacked", 160, 16, 40, 256, "Resemblyzer, 16 partials", L=3),
        Case("lstm", "stacked", 300, 1, 60, 128, "pyannote segmentation", L=2, D=2),
        Case("lstm", "stacked", 300, 1, 60, 128, "pyannote, four layers", L=4, D=2),
        Case("lstm", "stacked", 300, 32, 60, 128, "pyannote, 32 windows at once", L=2, D=2),
        Case("lstm", "stacked", 1000, 1, 512, 256, "open-unmix", L=3, D=2),
        Case("lstm", "stacked", 200, 8, 96, 96, "Demucs' inner BLSTM", L=2, D=2),
        Case("lstm", "stacked", 200, 8, 256, 256, "a PyTorch issue (T = 2000 cut)", L=2),
        Case("lstm", "stacked", 100, 1, 4, 64, "small three-layer time-series model", L=3),
    ]


def _ragged() -> list[Case]:
    batch = 32

    def uniform(
        cell: str, t: int, i: int, h: int, directions: int = 1, quick: bool = False
    ) -> Case:
        reason = "lengths uniform on [1, T]" + (", both directions" if directions == 2 else "")
        lengths = uniform_lengths(batch, t)
        return Case(
            cell,
            "ragged",
            t,
            batch,
            i,
            h,
            reason,
            D=directions,
            lengths=lengths,
            label="uniform",
            quick=quick,
        )

    def log_normal(cell: str, t: int, i: int, h: int) -> Case:
        reason = "log-normal lengths, as of sentences"
        lengths = log_normal_lengths(batch, t)
        return Case(cell, "ragged", t, batch, i, h, reason, lengths=lengths, label="lognormal")

    return [
        uniform("lstm", 50, 128, 128, quick=True),
        uniform("lstm", 200, 128, 128),
        uniform("lstm", 1000, 128, 128),
        uniform("gru", 200, 256, 256),
        uniform("rnn", 200, 128, 128),
        log_normal("lstm", 200, 128, 128),
        log_normal("gru", 200, 128, 128),
        uniform("lstm", 200, 60, 128, directions=2),
    ]


def _deepbench() -> list[Case]:
    server = "DeepBench inference, server list"
    device = "DeepBench inference, device list"
    cut = server + " (T = 187 to 1500 cut to 50: same step)"
    found = [
        Case("rnn", "deepbench", 672, 1, 32, 32, device, nonlinearity="relu", quick=True),
        Case("rnn", "deepbench", 96, 1, 64, 64, device, nonlinearity="relu"),
        Case(
            "rnn",
            "deepbench",
            50,
            1,
            1760,
            1760,
            "DeepBench (training list), a figure of the speed goal",
            nonlinearity="relu",
        ),
    ]
    for time, size in ((150, 256), (25, 512), (25, 1024), (50, 1536), (25, 2048)):
        found += [Case("lstm", "deepbench", time, b, size, size, server) for b in (1, 2, 4)]
    found += [Case("gru", "deepbench", 1, b, 512, 512, server) for b in (2, 4)]
    found.append(Case("gru", "deepbench", 1000, 1, 1024, 1024, server + " (T = 1500 cut to 1000)"))
    found += [Case("gru", "deepbench", 50, b, 1024, 1024, cut) for b in (2, 4)]
    for size in (1536, 2048):
        found += [Case("gru", "deepbench", 50, b, size, size, cut) for b in (1, 2, 4)]
    return found


def grid() -> list[Case]:
    """Every case, in the order of `GROUPS`."""
    return [
        *_steps(),
        *_chunks(),
        *_sequences(),
        *_batches(),
        *_bidirectional(),
        *_stacked(),
        *_ragged(),
        *_deepbench(),
    ]


def narrow() -> list[Case]:
    """The cases that are also timed in bfloat16 and int8, in float32."""
    return [case for case in grid() if case.name in NARROW]
