"""Shared solvers: one loop, and the algorithms built on it. They must not import images or models."""
