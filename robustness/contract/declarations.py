"""Declarations of an attack: how far it can go, and how it differs from its publication."""

from __future__ import annotations

import math

from robustness.threat.norms import Norm


class Declarations:
    """The declarations with their defaults; a base class of `Attack`."""

    def farthest(self, norm: Norm, epsilon: float, shape: tuple[int, ...]) -> float:
        """Return the largest distance from an image that the attack can reach by its steps.

        An audit states no robust accuracy at an epsilon that none of its attacks can reach. A random start
        does not count: on average it is as far from points of low loss as the image is.

        Parameters
        ----------
        norm, epsilon
            The norm and epsilon of the threat; epsilon in the norm's unit.
        shape
            The shape of the images, (height, width, channels).

        Returns
        -------
        A distance in the norm's unit; infinity where only epsilon limits the attack, or where the limit is
        unknown (the default).
        """
        return math.inf

    def departure(self, norm: Norm) -> str:
        """Return how the attack in a norm differs from the published one, for reports.

        Parameters
        ----------
        norm
            The norm of the threat.

        Returns
        -------
        A phrase; "" (the default) if it does not differ.
        """
        return ""
