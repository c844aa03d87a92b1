"""Numerical building blocks: losses, projections, random numbers, intervals, survival estimates.

Must not import models, threat, contract or anything above them.
"""
