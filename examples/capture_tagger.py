"""A PyTorch module becomes a model that needs no PyTorch: one line, one file.

python examples/capture_tagger.py

A tagger reads sentences of different lengths with a bidirectional LSTM. It is captured, compared
with the module, saved, loaded again, and both are timed.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import treadle
import treadle.torch


class Tagger(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(5000, 100)
        self.lstm = torch.nn.LSTM(100, 128, bidirectional=True, batch_first=True)
        self.head = torch.nn.Linear(256, 17)

    def forward(self, tokens, lengths):
        x = self.embedding(tokens)
        x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.lstm(x)[0], batch_first=True)
        return self.head(y)


def seconds(call):
    """Return the time of the fastest of ten calls."""
    times = []
    for _ in range(10):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


torch.manual_seed(0)
torch.set_num_threads(1)
treadle.set_num_threads(1)
module = Tagger().eval()
example = torch.zeros(1, 10, dtype=torch.long), torch.tensor([10])
model = treadle.torch.capture(module, example)
print(model)

lengths = torch.tensor([24, 7, 31, 12, 18, 3, 26, 9])
tokens = torch.randint(5000, (8, 31))
with torch.no_grad():
    theirs = module(tokens, lengths).numpy()
    slow = seconds(lambda: module(tokens, lengths))
ours = model(tokens, lengths)
print(f"largest difference: {np.abs(ours - theirs).max():.1e}")
assert np.abs(ours - theirs).max() < 1e-5

path = Path(tempfile.mkdtemp()) / "tagger.treadle"
model.save(path)
loaded = treadle.load(path)
assert np.array_equal(loaded(tokens, lengths), ours)
fast = seconds(lambda: loaded(tokens, lengths))
print(f"8 sentences: PyTorch {slow * 1e3:.2f} ms, treadle {fast * 1e3:.2f} ms")
