"""The benchmark suite: cases as data, one backend per peer, a run that checks before it times.

``python -m treadle.benchmarks.run --help`` and ``benchmarks/README.md`` say how to use it.
"""
