"""This package measures treadle: it checks every answer, then times it against the machine and peers.

``treadle bench --help`` and ``benchmarks/README.md`` say how to use it.
"""
