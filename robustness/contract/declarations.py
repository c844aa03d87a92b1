"""What an attack declares of itself beside its recipe: how far it can go, and what is its own."""

from __future__ import annotations

import math

from robustness.threat.norms import Norm


class Declarations:
    """The declarations with their defaults; a part of every `robustness.contract.attack.Attack`."""

    def farthest(self, norm: Norm, epsilon: float, shape: tuple[int, ...]) -> float:
        """How far from an image the attack can go by what it learns from the model.

        An audit states no robust accuracy at an epsilon that none of its attacks can reach. A start drawn
        at random counts for nothing: on average it is as far from where the loss is low as the image.

        Parameters
        ----------
        norm, epsilon : the threat; epsilon as the norm counts it.
        shape : of the images, (height, width, channels).

        Returns
        -------
        A distance as the norm counts it; infinity where nothing but epsilon limits the attack, or where
        nothing is known of it (the default).
        """
        return math.inf

    def departure(self, norm: Norm) -> str:
        """How what runs in a norm departs from what was published under this name, for reports.

        Parameters
        ----------
        norm : that of the threat.

        Returns
        -------
        A phrase, "" (the default) where nothing is to be said.
        """
        return ""
