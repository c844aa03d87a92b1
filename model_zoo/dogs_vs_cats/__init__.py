"""The Dogs-vs-Cats CNN: architecture, weights, training, photographs and rendered pets."""
