"""Many live streams in one batch: callers come and go, each line has its own memory.

python examples/stream_many.py

A switchboard has a few lines. At every tick one frame arrives on every line, and one `step` serves
them all. When a caller hangs up, the state of that row alone is reset for the next. Nobody notices
the others: every answer is, bit for bit, what the caller would have got alone.
"""

import time

import numpy as np

import treadle

LINES, TICKS, FRAME = 12, 72, 40
rng = np.random.default_rng(7)
gru = treadle.GRU(FRAME, 96, seed=1)
board = gru.stream(batch_size=LINES)

calls: list[tuple[list[np.ndarray], list[np.ndarray]]] = []  # frames and answers of each caller
on_line = [-1] * LINES  # which caller has the line
picture = [""] * LINES
frames = np.zeros((LINES, FRAME), np.float32)
answers = np.zeros((LINES, 96), np.float32)
spent = 0.0
for _ in range(TICKS):
    new = [row for row in range(LINES) if on_line[row] < 0 or rng.random() < 0.06]
    for row in new:
        on_line[row] = len(calls)
        calls.append(([], []))
    frames[:] = rng.standard_normal(frames.shape)
    start = time.perf_counter()
    if new:
        board.reset(rows=new)
    board.step(frames, out=answers)
    spent += time.perf_counter() - start
    for row, caller in enumerate(on_line):
        calls[caller][0].append(frames[row].copy())
        calls[caller][1].append(answers[row].copy())
        picture[row] += chr(ord("A") + caller % 26) if row in new else "─"

for row, line in enumerate(picture):
    print(f"line {row + 1:2d}  {line}")
alone = [gru(np.stack(sent))[0] for sent, _ in calls]  # each caller as one sequence [T, I]
same = all(np.array_equal(y, np.stack(got)) for y, (_, got) in zip(alone, calls, strict=True))
print(f"\n{len(calls)} callers (a letter is a new one) on {LINES} lines.")
print(f"Identical to running each caller alone: {'yes, bit for bit' if same else 'NO'}.")
print(f"{spent / TICKS * 1e6:.1f} µs per tick: {LINES * TICKS / spent:,.0f} frames a second.")
