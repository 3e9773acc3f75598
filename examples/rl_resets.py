"""Resets inside a sequence: one call for a rollout in which episodes end and begin.

python examples/rl_resets.py

A reinforcement-learning learner replays T steps of B environments through a recurrent policy, and
the memory must be cleared wherever an episode began. Usually that is a loop over time in Python.
`resets` [T, B] does it inside one call.
"""

import time

import numpy as np

import treadle

T, B, I, H = 70, 16, 32, 128
rng = np.random.default_rng(3)
policy = treadle.LSTM(I, H, seed=0)
weights = policy.state_dict()
weights["bias_ih_l0"][H : 2 * H] += 4  # forget slowly, as trained policies do
policy.load_state_dict(weights)
observations = rng.standard_normal((T, B, I)).astype(np.float32) + np.float32(0.5)
begins = rng.random((T, B)) < 0.05  # True where an episode begins
looped = np.empty((T, B, H), np.float32)


def loop() -> None:
    stream = policy.stream(batch_size=B)
    for t in range(T):
        if begins[t].any():
            stream.reset(rows=begins[t])
        stream.step(observations[t], out=looped[t])


times: dict[str, float] = {"loop": 1e9, "call": 1e9}
for _ in range(20):
    start = time.perf_counter()
    loop()
    middle = time.perf_counter()
    y, (h_n, c_n) = policy(observations, resets=begins)
    end = time.perf_counter()
    times = {"loop": min(times["loop"], middle - start), "call": min(times["call"], end - middle)}

print("How much each environment remembers (mean |h|); | is where an episode begins:\n")
memory = np.abs(y).mean(axis=2)  # [T, B]
level = np.minimum(memory / memory.max() * 8, 7).astype(int)
for b in range(8):
    line = np.where(begins[:, b], "|", np.array(list("▁▂▃▄▅▆▇█"))[level[:, b]])
    print(f"  env {b}  " + "".join(line))
print(f"\n{int(begins.sum())} episodes begin within {T} steps of {B} environments.")
print(f"Loop of steps and resets   {times['loop'] * 1e6:7.0f} µs")
same = "the same, bit for bit" if np.array_equal(y, looped) else "NOT the same"
print(f"One call with resets=      {times['call'] * 1e6:7.0f} µs, and {same}")
print(
    f"Without resets, answers would be off by up to {abs(policy(observations)[0] - y).max():.2f}."
)
