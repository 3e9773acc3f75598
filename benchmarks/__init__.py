"""This package measures treadle: it checks every answer and then times it.

Times are held against the limit of the machine and against other libraries.

``treadle bench --help`` and ``benchmarks/README.md`` say how to use it.
"""
