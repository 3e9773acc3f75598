"""The number of threads that PyTorch is told reaches the calls of treadle.torch."""

import pytest

from support import child

FOLLOWS = """
import sys
import torch, treadle, treadle.torch

x = torch.zeros(3, 2, 4)
call = {
    "lstm": treadle.torch.LSTM(4, 8),
    "cell": lambda x: treadle.torch.GRUCell(4, 8)(x[0]),
    "attention": lambda x: treadle.torch.scaled_dot_product_attention(x[None], x[None], x[None]),
    "training": lambda x: treadle.torch.RNN(4, 8)(x)[0].sum().backward(),
}[sys.argv[1]]
for n in (1, 3, 2):
    torch.set_num_threads(n)
    call(x)
    print(treadle.get_num_threads(), end=" ")
treadle.set_num_threads(5)
call(x)
print(treadle.get_num_threads())
"""


@pytest.mark.parametrize("call", ["lstm", "cell", "attention", "training"])
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "1 3 2 5"),
        ({"OMP_NUM_THREADS": "4"}, "1 3 2 5"),
        ({"TREADLE_NUM_THREADS": "4"}, "4 4 4 5"),
    ],
    ids=["none", "openmp", "treadle"],
)
def test_set_num_threads_of_torch(call, variables, expected):
    """huggingface/sentence-transformers#3987: torch.set_num_threads limits what runs beside torch.

    A number that treadle itself was given counts more, and OMP_NUM_THREADS, from which torch takes
    its own number at first, less.
    """
    none = {"TREADLE_NUM_THREADS": "", "OMP_NUM_THREADS": "2"}
    assert child.succeed(FOLLOWS, call, **none | variables) == expected


WORKERS = """
import torch, treadle, treadle.torch

class Steps(torch.utils.data.Dataset):
    def __len__(self):
        return 2
    def __getitem__(self, i):
        treadle.torch.GRU(4, 8)(torch.zeros(3, 2, 4))
        return treadle.get_num_threads()

if __name__ == "__main__":
    loader = torch.utils.data.DataLoader(Steps(), num_workers=1, multiprocessing_context="fork")
    print([int(n) for n in loader])
"""


def test_workers_of_a_data_loader():
    """PyTorch gives each of them one thread."""
    variables = {"TREADLE_NUM_THREADS": "", "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    assert child.succeed(WORKERS, **variables) == "[1, 1]"
