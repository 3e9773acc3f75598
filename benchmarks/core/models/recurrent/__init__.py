"""Recurrent nets: the shape of a case, weights and inputs, float64 formulas, and the work of a
call.
"""
