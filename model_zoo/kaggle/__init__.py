"""Data sets of Kaggle: a client of its API, and a source of images.

Must not import models of the zoo or attacks.
"""
