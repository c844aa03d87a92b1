"""Runs an audit from its arguments to a finished run folder: inputs, attacks, diagnostics, result.

This is the top layer below the command line, which it must not import.
"""
