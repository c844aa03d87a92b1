"""The gate of a run: reading its rules, judging them, and the verdict with its exit code.

Imports the summary of a run, but no page and no format.
"""
