"""The run folder: manifest, tables, pictures, and the result read from them.

Must not import attacks, model_zoo or reports.
"""
