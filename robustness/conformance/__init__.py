"""Checks that an attack keeps the contract, on models with known distances.

For authors of attacks. Must not import attacks, model_zoo or reports.
"""
