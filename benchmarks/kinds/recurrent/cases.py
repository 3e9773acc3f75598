"""The recurrent grid lists every shape that is timed, and why it is there.

The letters are T time, B batch, I input, H hidden, P projection, D directions, L layers, G gates.

T stops at 1000 and B at 128, but for pools of streams and for the cases of drawn.py. Where a
published shape is larger it is cut and its reason says so: a longer sequence repeats the same step,
and the time per step is what is measured.
"""

from __future__ import annotations

from ...core.dtypes import FLOAT32
from ...core.lengths import log_normal_lengths, uniform_lengths
from ...core.models.recurrent.case import NetCase
from .drawn import drawn

GROUPS = (
    "step",
    "chunk",
    "sequence",
    "batch",
    "bidirectional",
    "stacked",
    "ragged",
    "deepbench",
    "pool",
    "drawn",
)


# These cases are also timed in bfloat16 and int8: steps are bound by the bytes of the weights, and
# batches by the multiply-adds.
LOW_PRECISION = (
    *(f"{cell}/step/1x1x{h}x{h}" for cell in ("lstm", "gru") for h in (128, 256, 512, 1024)),
    *(f"{cell}/batch/50x32x256x256" for cell in ("lstm", "gru")),
    "lstm/batch/25x64x512x512",
    "gru/batch/25x64x512x512",
    "lstm/batch/16x32x240x1024",
)


def _steps() -> list[NetCase]:
    known = {
        128: "silero-vad's LSTM; a figure of the speed goal",
        256: "rnnoise, DeepFilterNet",
        512: "a figure of the speed goal",
        640: "prediction network of NeMo's transducers",
        1024: "larger than the L3 cache for an LSTM",
    }
    found = [
        NetCase(
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
        found.append(NetCase(cell, "step", 1, batch, i, h, reason, L=layers))

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


def _chunks() -> list[NetCase]:
    found = [
        NetCase(cell, "chunk", time, 1, size, size, "short chunks of a stream", quick=quick)
        for cell, size, quick in (("lstm", 128, True), ("lstm", 256, False), ("gru", 256, False))
        for time in (4, 16, 32)
    ]
    return [
        *found,
        NetCase(
            "gru", "chunk", 29, 1, 13, 20, "Mycroft Precise wake word (tanh instead of linear)"
        ),
        NetCase("gru", "chunk", 32, 1, 512, 256, "the shape of sru's CPU comparison"),
        NetCase("lstm", "chunk", 16, 1, 512, 1024, "a layer of icefall's lstm_transducer", P=512),
        NetCase("lstm", "chunk", 8, 1, 512, 1024, "a TDNN-LSTM layer of Kaldi", P=256),
        NetCase("lstm", "chunk", 16, 1, 2048, 2048, "Mozilla DeepSpeech: 128 MiB of weights"),
    ]


def _sequences() -> list[NetCase]:
    goal = "a figure of the speed goal"
    return [
        NetCase("lstm", "sequence", 100, 1, 64, 128, goal, quick=True),
        NetCase("gru", "sequence", 100, 1, 64, 128, goal, quick=True),
        NetCase("rnn", "sequence", 100, 1, 64, 128, "the same for a plain RNN", quick=True),
        NetCase(
            "lstm", "sequence", 100, 1, 1, 50, goal + ": a small time-series model", quick=True
        ),
        NetCase("lstm", "sequence", 1000, 1, 128, 128, "silero-vad over 30 s in one call"),
        NetCase("gru", "sequence", 1000, 1, 128, 128, "long B = 1 sequence"),
        NetCase("lstm", "sequence", 500, 1, 256, 256, "weights larger than L2", quick=True),
        NetCase("gru", "sequence", 500, 1, 256, 256, "weights near the size of L2"),
        NetCase("rnn", "sequence", 500, 1, 256, 256, "weights within L2"),
        NetCase("lstm", "sequence", 200, 1, 48, 96, "Tesseract (fast models), first 1-D layer"),
        NetCase("lstm", "sequence", 200, 1, 96, 192, "Tesseract (fast models), last layer"),
        NetCase("lstm", "sequence", 50, 1, 500, 500, "a size that is no multiple of a vector"),
    ]


def _batches() -> list[NetCase]:
    goal = "a figure of the speed goal"
    sweep = "batch sweep"
    return [
        NetCase("lstm", "batch", 50, 32, 256, 256, goal, quick=True),
        NetCase("gru", "batch", 50, 32, 256, 256, goal, quick=True),
        NetCase("rnn", "batch", 50, 32, 256, 256, "the same for a plain RNN", quick=True),
        NetCase("lstm", "batch", 25, 64, 512, 512, goal, quick=True),
        *(NetCase("lstm", "batch", 50, batch, 256, 256, sweep) for batch in (2, 4, 8, 16, 64, 128)),
        *(NetCase("gru", "batch", 25, batch, 512, 512, sweep) for batch in (4, 16, 64, 128)),
        *(NetCase("lstm", "batch", 50, batch, 128, 128, sweep) for batch in (4, 32, 128)),
        NetCase("lstm", "batch", 32, 128, 32, 64, "a published PyTorch comparison"),
        NetCase("lstm", "batch", 5, 128, 510, 32, "short, wide input (B = 500 cut to 128)"),
        NetCase("gru", "batch", 50, 20, 800, 800, "an odd batch (T = 300 cut to 50)"),
        NetCase("lstm", "batch", 20, 64, 768, 768, "Bonito nanopore layer (T = 333 cut to 20)"),
        NetCase("lstm", "batch", 16, 32, 240, 1024, "MLPerf RNN-T encoder (B 896, T 256 cut)"),
    ]


def _bidirectional() -> list[NetCase]:
    def bi(
        cell: str, t: int, i: int, h: int, reason: str, layers: int = 1, quick: bool = False
    ) -> NetCase:
        return NetCase(cell, "bidirectional", t, 1, i, h, reason, L=layers, D=2, quick=quick)

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


def _stacked() -> list[NetCase]:
    return [
        NetCase("lstm", "stacked", 160, 1, 40, 256, "Resemblyzer, one partial", L=3, quick=True),
        NetCase("lstm", "stacked", 160, 16, 40, 256, "Resemblyzer, 16 partials", L=3),
        NetCase("lstm", "stacked", 300, 1, 60, 128, "pyannote segmentation", L=2, D=2),
        NetCase("lstm", "stacked", 300, 1, 60, 128, "pyannote, four layers", L=4, D=2),
        NetCase("lstm", "stacked", 300, 32, 60, 128, "pyannote, 32 windows at once", L=2, D=2),
        NetCase("lstm", "stacked", 1000, 1, 512, 256, "open-unmix", L=3, D=2),
        NetCase("lstm", "stacked", 200, 8, 96, 96, "Demucs' inner BLSTM", L=2, D=2),
        NetCase("lstm", "stacked", 200, 8, 256, 256, "a PyTorch issue (T = 2000 cut)", L=2),
        NetCase("lstm", "stacked", 100, 1, 4, 64, "small three-layer time-series model", L=3),
    ]


def _ragged() -> list[NetCase]:
    batch = 32

    def uniform(
        cell: str, t: int, i: int, h: int, directions: int = 1, quick: bool = False
    ) -> NetCase:
        reason = "lengths uniform on [1, T]" + (", both directions" if directions == 2 else "")
        lengths = uniform_lengths(batch, t)
        return NetCase(
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

    def log_normal(cell: str, t: int, i: int, h: int) -> NetCase:
        reason = "log-normal lengths, as of sentences"
        lengths = log_normal_lengths(batch, t)
        return NetCase(cell, "ragged", t, batch, i, h, reason, lengths=lengths, label="lognormal")

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


def _deepbench() -> list[NetCase]:
    server = "DeepBench inference, server list"
    device = "DeepBench inference, device list"
    cut = server + " (T = 187 to 1500 cut to 50: same step)"
    found = [
        NetCase("rnn", "deepbench", 672, 1, 32, 32, device, nonlinearity="relu", quick=True),
        NetCase("rnn", "deepbench", 96, 1, 64, 64, device, nonlinearity="relu"),
        NetCase(
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
        found += [NetCase("lstm", "deepbench", time, b, size, size, server) for b in (1, 2, 4)]
    found += [NetCase("gru", "deepbench", 1, b, 512, 512, server) for b in (2, 4)]
    found.append(
        NetCase("gru", "deepbench", 1000, 1, 1024, 1024, server + " (T = 1500 cut to 1000)")
    )
    found += [NetCase("gru", "deepbench", 50, b, 1024, 1024, cut) for b in (2, 4)]
    for size in (1536, 2048):
        found += [NetCase("gru", "deepbench", 50, b, size, size, cut) for b in (1, 2, 4)]
    return found


def _pools() -> list[NetCase]:
    voices = "voices at once, each a stream of its own: silero-vad's LSTM"
    return [
        NetCase("lstm", "pool", 1, batch, 128, 128, f"{batch} {voices}", quick=batch == 64)
        for batch in (64, 1000)
    ]


def grid() -> list[NetCase]:
    """Return every case, in the order of `GROUPS`."""
    return [
        *_steps(),
        *_chunks(),
        *_sequences(),
        *_batches(),
        *_bidirectional(),
        *_stacked(),
        *_ragged(),
        *_deepbench(),
        *_pools(),
        *drawn(),
    ]


def low_precision() -> list[NetCase]:
    """Return the cases that are also timed in bfloat16 and int8, in float32."""
    return [case for case in grid() if case.name in LOW_PRECISION]


def words(case: NetCase) -> str:
    """Name a case in plain words, as the subject of a sentence."""
    cell = case.cell.upper()
    if case.carried:
        text = f"One {cell} step of {case.H} units"
    else:
        article = "A" if case.cell == "gru" else "An"
        text = f"{article} {cell} of {case.H} units over {case.T} steps"
    if case.group == "pool":
        text += f" of {case.B} streams of a pool"
    elif case.B > 1:
        text += f" of {case.B} rows"
    if case.L > 1:
        text += f", {case.L} layers"
    if case.D == 2:
        text += ", in both directions"
    return text + (f" in {case.dtype}" if case.dtype != FLOAT32 else "")
