"""The core measures any case: it checks, times, compares, and writes tables and pictures."""
