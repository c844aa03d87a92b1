"""The Dogs-vs-Cats CNN: architecture, weights, training, photographs and rendered pets."""

CLASS_NAMES = ("cat", "dog")
INPUT_SHAPE = (128, 128, 3)
