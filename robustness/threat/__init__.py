"""The threat: norm, epsilon, goal and mask.

Must not import models, attacks, engine, runs or reports.
"""
