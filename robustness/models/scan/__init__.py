"""Inspects a model file before it is loaded: its layers, its sizes, and code that it would run.

For `robustness.models.loading`. Must not import attacks, engine, runs or reports.
"""
