"""Python threads that begin at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor


def together(work, count):
    """The results of work(0), ..., work(count - 1), all begun at the same time."""
    barrier = threading.Barrier(count)

    def begin(index):
        barrier.wait()
        return work(index)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def serials(shares):
    """Which of all steps each step of the threads was, by its share of their own steps.

    The j-th step of a thread that is the n-th of all threads has the share j / n.
    """
    return sorted(round(j / one) for own in shares for j, one in enumerate(own, 1))
