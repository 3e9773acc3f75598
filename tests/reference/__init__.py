"""The readable specification: float64 NumPy definitions, and one in PyTorch for its autograd."""
