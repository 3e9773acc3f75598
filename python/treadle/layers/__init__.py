"""Layers: each has a configuration, parameters under PyTorch's names, and their packed form."""
