"""Ensembles: named lists of attacks that run as a cascade, each on the images that no earlier one flips.

An ensemble is data. If the model's classes or the norm change its members, the report says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robustness import plugins
from robustness.contract import foreign_code, registry
from robustness.contract.attack import Attack, works_in
from robustness.errors import SettingError
from robustness.threat.goals import Goal
from robustness.threat.norms import Norm

Member = tuple[str, Mapping[str, Any]]
"""An attack's name and its parameters."""


@dataclass(frozen=True)
class Ensemble:
    """A named list of attacks.

    Parameters
    ----------
    name, source, meaning
        The name, the origin, and the purpose.
    members
        Names and parameters of the attacks, in the order they run.
    two, why
        The attacks that replace the members on models of two classes, and a phrase with the reason; if `two`
        is empty, the members run.
    elsewhere
        The attacks that replace the members in a norm, by the norm's name.
    blind
        The attacks that replace the members on a model without gradients; if empty, the members that need no
        gradient run.
    """

    name: str
    source: str
    meaning: str
    members: tuple[Member, ...]
    two: tuple[Member, ...] = ()
    why: str = ""
    elsewhere: Mapping[str, tuple[Member, ...]] = field(default_factory=dict)
    blind: tuple[Member, ...] = ()

    def fitting(
        self, norm: Norm, classes: int, *, gradients: bool = True
    ) -> tuple[list[Attack], list[str]]:
        """Choose the attacks for a norm and a model.

        Parameters
        ----------
        norm
            The norm of the threat.
        classes
            The number of classes of the model.
        gradients
            Whether the attacked model has gradients.

        Returns
        -------
        The attacks in the order they run, and sentences that say how they differ from the members.

        Raises
        ------
        SettingError
            No attack has a version for the norm.
        """
        members, notes = self._chosen(norm, classes, gradients)
        attacks = [registry.make(name, **parameters) for name, parameters in members]
        fitting = [attack for attack in attacks if works_in(attack, norm)]
        notes += [
            f"{self.name}: {attack.name} has no {norm.name} version and was left out"
            for attack in attacks
            if attack not in fitting
        ]
        usable = [a for a in fitting if gradients or a.knowledge != "white-box"]
        if usable and not gradients:
            notes.append(
                f"{self.name}: the model has no gradient, so attacks that need none are run"
            )
        if not fitting:
            raise SettingError(self._no_version(norm, attacks))
        # If all attacks need a gradient, their own error says that it is missing.
        return usable or fitting, notes

    def _chosen(
        self, norm: Norm, classes: int, gradients: bool
    ) -> tuple[tuple[Member, ...], list[str]]:
        """The members for a norm and a model, and sentences with the reasons for other members."""
        if norm.name in self.elsewhere:
            return self.elsewhere[norm.name], []
        if not gradients and any(works_in(registry.find(name), norm) for name, _ in self.blind):
            return self.blind, []
        if classes == 2 and self.two:
            return self.two, [f"{self.name}: {self.why}"]
        return self.members, []

    def _no_version(self, norm: Norm, attacks: Iterable[Attack]) -> str:
        if not norm.measures:
            return (
                f"{self.name} needs a norm: without one, each attack has its own unit of epsilon. Choose an "
                "attack instead: spatial (degrees) or corruptions (severity 1 to 5)."
            )
        known = sorted({name for a in attacks for name in a.norms} | set(self.elsewhere))
        return (
            f"{self.name} has no {norm.name} version; it works in {', '.join(known)}. Choose one "
            "of these norms, or attacks one by one."
        )


def find(name: str) -> Ensemble:
    """Return an installed ensemble.

    Raises
    ------
    SettingError
        No ensemble has this name (the message suggests the nearest), or its plug-in cannot be imported or is
        not an ensemble.
    """
    loaded = plugins.load(plugins.ENSEMBLES, name)
    if not isinstance(loaded, Ensemble):
        raise SettingError(
            f"The ensemble {name!r} is {loaded!r:.100}; expected a robustness.attacks.Ensemble. "
            "Reinstall or remove the package that brings it."
        )
    return loaded


def create(name: str, parameters: Mapping[str, Any]) -> Attack | Ensemble:
    """Make an attack or find an ensemble by name.

    Parameters
    ----------
    name
        The name of an attack or ensemble.
    parameters
        The parameters of an attack, as values or strings.

    Raises
    ------
    SettingError
        The name is unknown, a parameter is invalid, or an ensemble was given parameters.
    """
    plugins.expect(plugins.ATTACKS, name, plugins.ENSEMBLES)
    if name not in plugins.names(plugins.ENSEMBLES):
        return registry.create(registry.find(name), dict(parameters))
    ensemble = find(name)
    if parameters:
        members = " ".join(f"-a {known}" for known, _ in ensemble.members)
        raise SettingError(
            f"{name} is an ensemble, whose parameters are fixed; got {', '.join(parameters)}. "
            f"Leave them out, or give its attacks one by one: {members} --cascade."
        )
    return ensemble


def parse(attack: str | Attack | Ensemble) -> Attack | Ensemble:
    """Return the attack or ensemble of a name, with its default parameters; objects are returned unchanged.

    Raises
    ------
    SettingError
        The name is unknown; the message suggests the nearest one.
    """
    return create(attack, {}) if isinstance(attack, str) else attack


@dataclass(frozen=True)
class Resolved:
    """The attacks that run, whether they run as a cascade, and sentences that say what was replaced."""

    attacks: tuple[Attack, ...]
    cascade: bool
    replaced: tuple[str, ...]


def resolve(
    requested: Iterable[str | Attack | Ensemble],
    norm: Norm,
    goal: Goal,
    classes: Sequence[str],
    *,
    cascade: bool | None = None,
    gradients: bool = True,
) -> Resolved:
    """Resolve names and ensembles to the attacks that run on a model.

    Parameters
    ----------
    requested
        Names, attacks and ensembles.
    norm, goal
        The norm and goal of the threat.
    classes
        The model's class names.
    cascade
        Whether each attack runs only on images that no earlier one flips; None: True if an ensemble of
        several attacks was requested.
    gradients
        Whether the attacked model has gradients.

    Returns
    -------
    The attacks. An attack of an ensemble that was already requested with the same parameters runs once.

    Raises
    ------
    SettingError
        A name is unknown, or an ensemble has no version for the norm.
    """
    parsed = [parse(request) for request in requested]
    attacks: list[Attack] = []
    replaced: list[str] = []
    for position, request in enumerate(parsed):
        members, notes = (
            ([request], [])
            if isinstance(request, Attack)
            else request.fitting(norm, len(classes), gradients=gradients)
        )
        replaced += notes
        for member in members:
            adapted, notes = foreign_code.adapted(member, norm, goal, len(classes))
            replaced += [f"{member.name}: {note}" for note in notes]
            # A repeated request is an error of the plan, unless the two became equal only here.
            if adapted not in attacks or request in parsed[:position]:
                attacks.append(adapted)
    several = any(isinstance(r, Ensemble) and len(r.members) > 1 for r in parsed)
    chained = several if cascade is None else cascade
    return Resolved(tuple(attacks), chained, tuple(dict.fromkeys(replaced)))
