"""train_digits.py on two processes, each with half of every batch, by PyTorch's own means.

    pip install ".[torch]" scikit-learn tqdm
    torchrun --standalone --nproc-per-node 2 examples/train_ddp.py

DistributedDataParallel averages the gradients over gloo; treadle's modules are to it what PyTorch's
are.
"""

from __future__ import annotations

import time

import torch
import train_digits

import treadle
import treadle.torch

EPOCHS = 40


def main() -> None:
    torch.distributed.init_process_group("gloo")
    rank, processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    treadle.set_num_threads(1)
    x, labels, held_x, held_labels = train_digits.load()
    model = train_digits.Reader()
    treadle.torch.accelerate(model)
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    start = time.perf_counter()
    train_digits.train(parallel, x, labels, EPOCHS, slice(rank, None, processes))
    if rank == 0:
        found = train_digits.accuracy(model, held_x, held_labels)
        seconds = time.perf_counter() - start
        print(
            f"{found:.1%} of {len(held_x)} digits held out, {processes} processes, {seconds:.1f} s"
        )
    torch.distributed.barrier()  # neither leaves while the other still talks to it
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
