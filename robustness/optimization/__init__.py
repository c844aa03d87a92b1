"""The shared solvers: one loop, and what is built on it. They know nothing of images or models."""
