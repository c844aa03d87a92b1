"""Loads and wraps the audited model (`Classifier`): scaling, head, layers, precision and identity.

Must not import attacks, engine, runs or reports.
"""
