"""Ensembles: named lists of attacks that run as a cascade, each on the images that survived the last.

An ensemble is data. Where the model's classes or the norm change it, the report says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robustness import plugins
from robustness.contract import registry
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
    name, source, meaning : what it is called, where it is from, and what it is for.
    members : names and parameters, in the order they run.
    two, why : what runs instead on models of two classes, and a phrase that says why; the members if `two`
        is empty.
    elsewhere : what runs instead in a norm, by its name.
    blind : what runs instead on a model without gradients; the members that need none if it is empty.
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
        norm : that of the threat.
        classes : how many the model has.
        gradients : whether the attacked model has any.

        Returns
        -------
        The attacks in the order they run, and sentences on how they differ from the members.

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
        # If all need a gradient, their own error says that it is missing.
        return usable or fitting, notes

    def _chosen(
        self, norm: Norm, classes: int, gradients: bool
    ) -> tuple[tuple[Member, ...], list[str]]:
        """The members for a norm and a model, and sentences on why they are not the usual ones."""
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
                f"{self.name} needs a norm: without one, epsilon is whatever an attack counts. Name the "
                "attack that is meant: spatial (degrees) or corruptions (severity 1 to 5)."
            )
        known = sorted({name for a in attacks for name in a.norms} | set(self.elsewhere))
        return (
            f"{self.name} has no {norm.name} version; it works in {', '.join(known)}. Choose one "
            "of these norms, or attacks one by one."
        )


def find(name: str) -> Ensemble:
    """An installed ensemble; SettingError with the nearest name for an unknown one."""
    loaded = plugins.load(plugins.ENSEMBLES, name)
    if not isinstance(loaded, Ensemble):
        raise SettingError(
            f"The ensemble {name!r} is {loaded!r:.100}; expected a robustness.attacks.Ensemble."
        )
    return loaded


def create(name: str, parameters: Mapping[str, Any]) -> Attack | Ensemble:
    """Make an attack or find an ensemble by name.

    Parameters
    ----------
    name : of either.
    parameters : of an attack, as values or strings.

    Raises
    ------
    SettingError
        The name is unknown, a parameter is wrong, or an ensemble came with parameters.
    """
    plugins.expect(plugins.ATTACKS, name, plugins.ENSEMBLES)
    if name not in plugins.names(plugins.ENSEMBLES):
        return registry.create(registry.find(name), dict(parameters))
    ensemble = find(name)
    if parameters:
        members = " ".join(f"-a {known}" for known, _ in ensemble.members)
        raise SettingError(
            f"{name} is an ensemble with parameters of its own, and {', '.join(parameters)} came with "
            f"it. Leave them out, or give its attacks one by one: {members} --cascade."
        )
    return ensemble


def parse(attack: str | Attack | Ensemble) -> Attack | Ensemble:
    """An attack or ensemble by name; SettingError with the nearest name of either for another."""
    return create(attack, {}) if isinstance(attack, str) else attack


@dataclass(frozen=True)
class Resolved:
    """The attacks that run, whether as a cascade, and sentences on what was replaced."""

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
    requested : names, attacks and ensembles.
    norm, goal : of the threat.
    classes : the model's class names.
    cascade : whether each attack runs only on images that survived the last; None: if an ensemble of
        several attacks was requested.
    gradients : whether the attacked model has any.

    Returns
    -------
    The attacks. One that an ensemble names and that was requested before, with the same parameters, runs
    once.

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
            adapted, why = member.adapted_to(goal, len(classes))
            notes = [why, adapted.departure(norm)]
            replaced += [f"{member.name}: {note}" for note in notes if note]
            # A request made twice is an error of the plan, unless the two became equal only here.
            if adapted not in attacks or request in parsed[:position]:
                attacks.append(adapted)
    several = any(isinstance(r, Ensemble) and len(r.members) > 1 for r in parsed)
    chained = several if cascade is None else cascade
    return Resolved(tuple(attacks), chained, tuple(dict.fromkeys(replaced)))
