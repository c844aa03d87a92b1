"""How the renderings are drawn."""
