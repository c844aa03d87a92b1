"""The page of `robustness article`: the article's three parts, with its figures beside the reproduced ones.

Reads plain values and a run folder; runs nothing. Must not import attacks, engine or TensorFlow.
"""
