"""The contract of attacks: what an attack provides and receives, ensembles, and the registry.

Must not import attacks, engine, model_zoo or reports.
"""
