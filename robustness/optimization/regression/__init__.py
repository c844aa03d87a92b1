"""Least squares and logistic regression with L1 and L2 penalties.

For `robustness solve`. Imports the other optimization modules only, no models, attacks or runs.
"""
