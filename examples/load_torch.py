"""A PyTorch LSTM in treadle: same weights, same answer, less time.

python examples/load_torch.py        needs: pip install treadle[torch]
"""

import time
from collections.abc import Callable

import numpy as np
import torch

import treadle

torch.manual_seed(0)
theirs = torch.nn.LSTM(64, 128, num_layers=2)
ours = treadle.from_torch(
    theirs
)  # packs the weights once; or: treadle.LSTM(...).load_state_dict(...)

x = np.random.default_rng(0).standard_normal((100, 1, 64)).astype(np.float32)  # [T, B, I]
x_torch = torch.from_numpy(x)


def best(call: Callable[[], object]) -> float:
    """Shortest of a hundred calls, in microseconds."""
    times = []
    for _ in range(100):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times) * 1e6


torch.set_num_threads(1)
treadle.set_num_threads(1)
with torch.inference_mode():
    expected = theirs(x_torch)[0].numpy()
    y, (h_n, c_n) = ours(x)
    torch_time, treadle_time = best(lambda: theirs(x_torch)), best(lambda: ours(x))

print(ours)
print(f"x {x.shape} -> y {y.shape}; largest difference from torch: {abs(y - expected).max():.1e}")
for name, micro in (("torch", torch_time), ("treadle", treadle_time)):
    print(f"{name:>6} {'█' * round(50 * micro / max(torch_time, treadle_time))} {micro:.0f} µs")
print(
    f"treadle ({treadle.isa()}, one thread) takes {treadle_time / torch_time:.0%} of torch's time."
)
