"""Parts that several attacks share: start points, step lengths and schedules, target classes, penalties.

They are public for authors of attacks (`robustness.attacks`). Must not import an attack.
"""
