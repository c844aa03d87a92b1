"""Ensembles: named lists of attacks that run as a cascade, each on what still stands.

An ensemble is data. What a model's classes or the norm make of it is said, never done silently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robustness import plugins
from robustness.contract import registry
from robustness.contract.attack import Attack
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
    members: names and parameters, in the order they run.
    two, why: what runs instead where there are two classes, and a phrase that says why; the members
        where `two` is empty.
    elsewhere: what runs instead in a norm, by its name.
    blind: what runs instead on a target without gradients; the members that need none where it is empty.
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
        """The attacks for a norm, a number of classes and a target, and sentences on what differs.

        Parameters
        ----------
        norm : that of the threat.
        classes : how many the target has.
        gradients : whether the model that the attacks look at has any.

        Returns
        -------
        The attacks in the order they run, and what is to be said of how they were chosen.

        Raises
        ------
        SettingError
            No attack has a version for the norm.
        """
        chosen, said = self._chosen(norm, classes, gradients)
        made = [registry.make(name, **told) for name, told in chosen]
        able = [one for one in made if norm.name in one.norms]
        said += [
            f"{self.name}: {one.name} has no {norm.name} version and was left out"
            for one in made
            if one not in able
        ]
        kept = [one for one in able if gradients or one.knowledge != "white-box"]
        if kept and not gradients:
            said.append(
                f"{self.name}: the model has no gradient, so attacks that need none are run"
            )
        if not able:
            raise SettingError(self._no_version(norm, made))
        # Without any other, those that need a gradient say themselves what is missing.
        return kept or able, said

    def _chosen(
        self, norm: Norm, classes: int, gradients: bool
    ) -> tuple[tuple[Member, ...], list[str]]:
        """The members for a threat and a target, and why they are others than usual."""
        if norm.name in self.elsewhere:
            return self.elsewhere[norm.name], []
        if not gradients and any(norm.name in registry.find(name).norms for name, _ in self.blind):
            return self.blind, []
        if classes == 2 and self.two:
            return self.two, [f"{self.name}: {self.why}"]
        return self.members, []

    def _no_version(self, norm: Norm, made: Iterable[Attack]) -> str:
        if norm.name == "free":
            return (
                f"{self.name} needs a norm: without one, epsilon is whatever an attack counts. Name the "
                "attack that is meant: spatial (degrees) or corruptions (severity 1 to 5)."
            )
        known = sorted({known for one in made for known in one.norms} | set(self.elsewhere))
        return (
            f"{self.name} has no {norm.name} version; it works in {', '.join(known)}. Choose one "
            "of these norms, or attacks one by one."
        )


def find(name: str) -> Ensemble:
    """The installed ensemble called `name`; SettingError with the nearest name for an unknown one."""
    found = plugins.load(plugins.ENSEMBLES, name)
    if not isinstance(found, Ensemble):
        raise SettingError(
            f"The ensemble {name!r} is {found!r:.100}; expected a robustness.ensembles.Ensemble."
        )
    return found


def create(name: str, parameters: Mapping[str, Any]) -> Attack | Ensemble:
    """An attack or ensemble from its name and, for an attack, parameters as values or texts.

    SettingError for an unknown name, a wrong parameter, or parameters of an ensemble.
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
    """The attacks that run; whether as a cascade; and sentences on what was replaced."""

    attacks: tuple[Attack, ...]
    cascade: bool
    replaced: tuple[str, ...]


def resolve(
    asked: Iterable[str | Attack | Ensemble],
    norm: Norm,
    goal: Goal,
    classes: Sequence[str],
    *,
    cascade: bool | None = None,
    gradients: bool = True,
) -> Resolved:
    """What is asked for, as it runs on a model of these classes, with `gradients` or without any.

    `cascade` None: if an ensemble of several attacks is among them. An attack that an ensemble names and
    that was given before, with the same parameters, runs once.
    """
    given = [parse(one) for one in asked]
    found: list[Attack] = []
    said: list[str] = []
    for place, one in enumerate(given):
        members, notes = (
            ([one], [])
            if isinstance(one, Attack)
            else one.fitting(norm, len(classes), gradients=gradients)
        )
        said += notes
        for member in members:
            adapted, why = member.adapted_to(goal, len(classes))
            notes = [why, adapted.departure(norm)]
            said += [f"{member.name}: {note}" for note in notes if note]
            # The same thing asked for twice is the plan's error, unless it became the same only now.
            if adapted not in found or one in given[:place]:
                found.append(adapted)
    several = any(isinstance(one, Ensemble) and len(one.members) > 1 for one in given)
    chained = several if cascade is None else cascade
    return Resolved(tuple(found), chained, tuple(dict.fromkeys(said)))
