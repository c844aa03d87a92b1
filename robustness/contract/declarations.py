"""What an attack declares beside its recipe: how far it can go, and how it differs from its paper."""

from __future__ import annotations

import math

from robustness.threat.norms import Norm


class Declarations:
    """The declarations with their defaults; a base class of `Attack`."""

    def farthest(self, norm: Norm, epsilon: float, shape: tuple[int, ...]) -> float:
        """The largest distance from an image that the attack can reach by its steps.

        An audit states no robust accuracy at an epsilon that none of its attacks can reach. A random start
        does not count: on average it is as far from where the loss is low as the image is.

        Parameters
        ----------
        norm, epsilon : of the threat; epsilon in the norm's unit.
        shape : (height, width, channels) of the images.

        Returns
        -------
        A distance in the norm's unit; infinity where only epsilon limits the attack, or where the limit is
        unknown (the default).
        """
        return math.inf

    def departure(self, norm: Norm) -> str:
        """How the attack in a norm differs from the published one, for reports.

        Parameters
        ----------
        norm : that of the threat.

        Returns
        -------
        A phrase, "" (the default) if it does not differ.
        """
        return ""
