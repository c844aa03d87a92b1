"""Solvers on one iteration loop: descent, L-BFGS, bracketing, regression, spherical codes.

Must not import images or models.
"""
