"""What an audit does where nothing else is said: the same for command line, file and Python."""

from __future__ import annotations

ATTACK = "standard"
"""The attack or ensemble that is run where none is named. It takes no parameters, and `ensembles` fits it
to norm, goal, classes, and to whether the target has gradients at all."""
EPSILON = 4
"""The budget in counts."""
