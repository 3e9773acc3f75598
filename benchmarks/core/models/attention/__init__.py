"""Scaled dot-product attention: the shape of a case, its inputs, and the work of a call."""
