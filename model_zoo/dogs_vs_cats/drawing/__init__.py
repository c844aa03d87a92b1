"""Draw the renderings."""
