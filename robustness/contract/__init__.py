"""What an attack must provide, and what it gets: task, state, model access, and the registry of attacks.

Must not import attacks, engine, model_zoo or reports.
"""
