"""Verifies a finished run: rows against each other, files against rows, and outcomes against the model.

Must not use the judge or the attacks, so that it checks them independently.
"""
