"""Training on every peer; see backends/__init__.py for the functions.

``prepare`` gets weights, x and dy, the gradient of a loss with respect to y; `Prepared.run` makes one
call forward and backward, `Prepared.outputs` a dictionary of gradients: "x" and PyTorch's names.
"""
