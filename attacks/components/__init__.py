"""Parts that several attacks share: start points, step lengths and step sizes, target classes, penalties.

For authors of attacks. Must not import an attack.
"""
