"""Draws the renderings: anatomy, coats, and a canvas of lit ellipsoids."""
