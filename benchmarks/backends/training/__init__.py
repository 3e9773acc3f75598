"""Training on every peer; see backends/__init__.py for the functions.

``prepare`` gets the inputs, (weights, x) or (q, k, v), and dy, the gradient of a loss with respect to
the result; `Prepared.run` makes one call forward and backward, `Prepared.outputs` a dictionary of
gradients: of "x" and the weights under PyTorch's names, or of "q", "k" and "v".
"""
