"""Downloads and archives: a cache with checksums, and safe extraction.

For the models of the zoo. Must not import models.
"""
