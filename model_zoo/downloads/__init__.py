"""Downloads and archives: resumable downloads, a cache with checksums, and safe extraction.

Must not import models of the zoo.
"""
