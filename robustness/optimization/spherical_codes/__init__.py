"""Spherical codes: unit vectors that are as far from each other as possible.

For `robustness solve`. Imports numerics only, no models, attacks or runs.
"""
