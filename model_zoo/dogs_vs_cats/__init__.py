"""The Dogs-vs-Cats CNN: architecture, weights, training, photographs and rendered animals."""

CLASS_NAMES = ("cat", "dog")
INPUT_SHAPE = (128, 128, 3)
