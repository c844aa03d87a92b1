"""Settings of an audit: TOML files, parameters of attacks, epsilons in counts.

Must not import models, engine, runs or reports.
"""
