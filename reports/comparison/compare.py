"""Two runs on the same images, image by image: what flips newly, what no longer flips, and p-values.

The runs are paired, since the images are the same: only images with different outcomes distinguish
them. McNemar's exact test gives the probability of a split at least this uneven if neither were better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robustness.errors import SettingError
from robustness.files.disk_errors import expect_named
from robustness.reports import wording
from robustness.reports.comparison.notes import notes_on
from robustness.reports.comparison.sides import (
    Side,
    epsilon_list,
    expect_same_images,
    expect_same_threat,
    read_side,
)
from robustness.reports.summary import budgets
from robustness.reports.summary.metrics import FLIPPED, MISCLASSIFIED, ROBUST, UNREADABLE

ROBUST_ACCURACY = "robust accuracy"
KEPT = "share that kept its class"
"""Used instead if some image has no label, so that there is no accuracy."""


@dataclass(frozen=True)
class Pairing:
    """Two shares over the same `total` images, and McNemar's test of their difference.

    `lost` images count in A only, `gained` in B only.
    """

    what: str
    epsilon: float | None
    total: int
    before: int
    after: int
    lost: int
    gained: int
    p_value: float

    @property
    def sentence(self) -> str:
        """Both shares and the p-value in one sentence."""
        at = "" if self.epsilon is None else f" at epsilon {self.epsilon:.12g}"
        a, b = (self.before / self.total, self.after / self.total) if self.total else (None, None)
        chance = (
            "no image differs"
            if not self.lost + self.gained
            else f"{self.lost} only in A, {self.gained} only in B, {p_equation(self.p_value)}"
        )
        what = self.what[0].upper() + self.what[1:]
        return f"{what}{at}: {wording.percent(a)} in A, {wording.percent(b)} in B; {chance}."


@dataclass(frozen=True)
class Moved:
    """An image whose outcome differs at one epsilon."""

    key: str
    name: str
    epsilon: float
    before: str
    after: str


@dataclass(frozen=True)
class Comparison:
    """What differs between run A and run B; `notes` are what a reader must know as well.

    Of the images, `uncompared` have no outcome that both runs decided at every common epsilon.
    """

    a: str
    b: str
    images: int
    pairings: tuple[Pairing, ...]
    newly_flipped: tuple[Moved, ...]
    newly_robust: tuple[Moved, ...]
    newly_wrong: tuple[Moved, ...]
    newly_right: tuple[Moved, ...]
    notes: tuple[str, ...]
    norm: str = "linf"
    uncompared: int = 0

    @property
    def differs(self) -> bool:
        """Whether the outcome of any image differs."""
        return bool(self.newly_flipped or self.newly_robust or self.newly_wrong or self.newly_right)

    @property
    def sentence(self) -> str:
        """The comparison in short, at the epsilon where most outcomes differ (of several, the largest)."""
        if not self.differs and self.uncompared:
            return (
                f"No difference among {self.images - self.uncompared:,} of {self.images:,} images; nothing "
                f"can be said of the other {self.uncompared:,}, for which one of the runs has no outcome."
            )
        if not self.differs:
            all_of = wording.plural(self.images, "image has", "images have")
            every = "all " if self.images > 1 else ""
            return f"No difference: {every}{all_of} the same outcome in both runs."
        at = [p for p in self.pairings if p.epsilon is not None]
        # No robust accuracy is stated at an epsilon that no attack of a run could use.
        judged = [p for p in at if p.what in (ROBUST_ACCURACY, KEPT)] or at
        moved = Counter(m.epsilon for m in (*self.newly_flipped, *self.newly_robust))
        most = max(judged, key=lambda p: (moved[p.epsilon or 0.0], p.epsilon))
        flipped = sum(m.epsilon == most.epsilon for m in self.newly_flipped)
        robust = sum(m.epsilon == most.epsilon for m in self.newly_robust)
        return (
            f"Of {wording.plural(self.images, 'image')}, {flipped:,} {_flips(flipped)} newly and "
            f"{robust:,} no longer {_flips(robust)} at epsilon {most.epsilon:.12g}. {most.sentence}"
            + (
                f" Of {wording.plural(self.uncompared, 'image')} nothing can be said: one of the runs has no "
                "outcome there."
                if self.uncompared
                else ""
            )
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {"sentence": self.sentence, "differs": self.differs}


def _flips(count: int) -> str:
    return "flips" if count == 1 else "flip"


def mcnemar(lost: int, gained: int) -> float:
    """Return the exact two-sided p-value of McNemar's test.

    Parameters
    ----------
    lost, gained
        How many images count in the first run only, and in the second only.

    Returns
    -------
    float
        min(1, 2 P[X <= min(lost, gained)]), X binomial(lost + gained, 1/2); 1 if nothing differs.

    References
    ----------
    Q. McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 12, 1947.
    """
    flips, fewer = lost + gained, min(lost, gained)
    # Each binomial coefficient from the last, in whole numbers: exact, and quick for 10,000 images.
    term = tail = 1
    for k in range(fewer):
        term = term * (flips - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / 2**flips)


def by_image(moved: Iterable[Moved]) -> list[tuple[str, str]]:
    """Return each image once: its name, and at which epsilons its outcome differs; "" without an attack."""
    images: dict[str, tuple[str, list[str]]] = {}
    for change in moved:
        epsilons = images.setdefault(change.key, (change.name, []))[1]
        if MISCLASSIFIED not in (change.before, change.after):
            epsilons.append(wording.number(change.epsilon))
    return [
        (name, f"epsilon {', '.join(epsilons)}" if epsilons else "")
        for name, epsilons in images.values()
    ]


def p_equation(value: float) -> str:
    """Return `p = 0.03`, or `p < 0.0001`."""
    text = p_text(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def p_text(value: float) -> str:
    """Return a p-value with two digits, or `< 0.0001`."""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def compare(a: str | Path, b: str | Path) -> Comparison:
    """Compare two runs.

    Parameters
    ----------
    a, b
        Run folders, or a `report.json` of each.

    Raises
    ------
    SettingError
        Unless both audited the same images under the same norm and goal, with an epsilon in common;
        the message says what differs.
    RunError
        If one is neither a run folder nor a report.
    """
    for path in (a, b):
        expect_named(path, "The path of a run to compare")
    return compared(read_side(Path(a)), read_side(Path(b)))


def compared(a: Side, b: Side) -> Comparison:
    """Compare two sides; SettingError if they cannot be compared."""
    expect_same_images(a, b)
    expect_same_threat(a, b)
    epsilons = sorted(set(a.status) & set(b.status))
    if not epsilons:
        raise SettingError(
            f"The runs have no epsilon in common ({epsilon_list(a)} in A, {epsilon_list(b)} in B); expected "
            "at least one."
        )
    pairings = [p for p in [_clean(a, b, epsilons[0])] if p]
    moved: dict[str, list[Moved]] = {kind: [] for kind in _KINDS}
    for epsilon in epsilons:
        pairings += _at(a, b, epsilon)[: 1 if _missed(a, b, epsilon) else 2]
        for key, (before, after) in _outcome_pairs(a, b, epsilon).items():
            kind = _kind_of_change(before, after)
            if kind and (kind in _FLIPS or epsilon == epsilons[0]):
                moved[kind].append(Moved(key, a.names[key], epsilon, before, after))
    return Comparison(
        a=a.title,
        b=b.title,
        images=len(a.names),
        pairings=tuple(pairings),
        **{kind: tuple(changes) for kind, changes in moved.items()},
        notes=(
            *notes_on(a, b, epsilons),
            *_unreached(a, b, epsilons),
        ),
        norm=_norm(a),
        uncompared=len(set(a.names) - _compared(a, b, epsilons)),
    )


def _compared(a: Side, b: Side, epsilons: Iterable[float]) -> set[str]:
    """The images of which can be said at every epsilon whether their outcome changed."""
    return set.intersection(
        *(
            {
                key
                for key, (before, after) in _outcome_pairs(a, b, epsilon).items()
                if before == after or _kind_of_change(before, after)
            }
            for epsilon in epsilons
        )
    )


_FLIPS = ("newly_flipped", "newly_robust")
_KINDS = (*_FLIPS, "newly_wrong", "newly_right")


def _outcome_pairs(a: Side, b: Side, epsilon: float) -> dict[str, tuple[str, str]]:
    """The outcomes in both runs of each image that both have judged."""
    first, second = a.status[epsilon], b.status[epsilon]
    return {key: (first[key], second[key]) for key in first if key in second}


def _kind_of_change(before: str, after: str) -> str:
    """How an outcome changed; "" if it did not, or if nothing can be said."""
    if before == after or UNREADABLE in (before, after):
        return ""
    if (before, after) == (ROBUST, FLIPPED):
        return "newly_flipped"
    if (before, after) == (FLIPPED, ROBUST):
        return "newly_robust"
    if after == MISCLASSIFIED:
        return "newly_wrong"
    return "newly_right" if before == MISCLASSIFIED else ""


def _clean(a: Side, b: Side, epsilon: float) -> Pairing | None:
    if None in a.labels.values():
        return None
    pairs = Counter(
        (before != MISCLASSIFIED, after != MISCLASSIFIED)
        for before, after in _outcome_pairs(a, b, epsilon).values()
        if UNREADABLE not in (before, after)
    )
    return _pairing("clean accuracy", None, pairs)


def _at(a: Side, b: Side, epsilon: float) -> list[Pairing]:
    both = list(_outcome_pairs(a, b, epsilon).values())
    labelled = None not in a.labels.values()
    readable = [pair for pair in both if UNREADABLE not in pair]
    judged = [pair for pair in both if set(pair) <= {FLIPPED, ROBUST}]
    return [
        _pairing(
            f"flip rate of the images {'right' if labelled else 'attacked'} in both",
            epsilon,
            Counter((x == FLIPPED, y == FLIPPED) for x, y in judged),
        ),
        _pairing(
            ROBUST_ACCURACY if labelled else KEPT,
            epsilon,
            Counter((x == ROBUST, y == ROBUST) for x, y in readable),
        ),
    ]


def _norm(side: Side) -> str:
    return side.manifest.config.norm or "linf"


def _missed(a: Side, b: Side, epsilon: float) -> list[str]:
    """The runs in which no attack could use an epsilon, and why."""
    sides = (("A", a), ("B", b))
    return [
        f"in {where} {budget.reason}"
        for where, side in sides
        for budget in budgets.budgets(side.manifest, _norm(side), [epsilon])
        if not budget.reached
    ]


def _unreached(a: Side, b: Side, epsilons: Iterable[float]) -> list[str]:
    return [
        f"Robust accuracy is not compared at epsilon {epsilon:.12g}: {'; '.join(why)}."
        for epsilon in epsilons
        if (why := _missed(a, b, epsilon))
    ]


def _pairing(what: str, epsilon: float | None, pairs: Counter[tuple[bool, bool]]) -> Pairing:
    lost, gained = pairs[True, False], pairs[False, True]
    return Pairing(
        what=what,
        epsilon=epsilon,
        total=sum(pairs.values()),
        before=pairs[True, True] + lost,
        after=pairs[True, True] + gained,
        lost=lost,
        gained=gained,
        p_value=mcnemar(lost, gained),
    )
