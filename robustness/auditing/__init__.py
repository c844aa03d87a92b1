"""The audit from its arguments to a run folder: inputs, attacks, diagnostics, result.

The top layer below the command line, which it must not import.
"""
