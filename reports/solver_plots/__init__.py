"""Plots of the results of `robustness solve`, as SVG or PNG.

Reads the results of `robustness.optimization`; imports nothing else of `robustness.reports`.
"""
