"""Cases whose results must keep their bits, for `support.record_bits`.

Each module has a function ``cases()``, which yields a `Case` for everything that it computes. A
case computes from numbers that depend on its name alone.
"""
