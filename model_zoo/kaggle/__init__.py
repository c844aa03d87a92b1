"""Files from Kaggle: a client of its API, and the sources of models and data sets.

Must not import models of the zoo or attacks.
"""
