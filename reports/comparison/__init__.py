"""Compares two runs on the same images, image by image, with its own page.

For `robustness compare` and re-runs. Imports the summary, the wording and the templates of the page.
"""
