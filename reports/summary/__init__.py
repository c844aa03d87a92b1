"""The numbers of a report, computed from the tables and the manifest of a run, as data classes.

For every other package of `robustness.reports`. Imports no page, format or gate.
"""
