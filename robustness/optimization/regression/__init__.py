"""Least squares and logistic regression, with an optional ridge penalty.

For `robustness solve`. Imports the other optimization modules only, no models, attacks or runs.
"""
