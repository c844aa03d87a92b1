"""Threat models: norms, goals, masks, and the threat made of them.

Must not import models, attacks, engine, runs or reports.
"""
