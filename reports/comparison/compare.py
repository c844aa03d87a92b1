"""Two runs on the same images, image by image: what flips newly, what no longer does, and whether by chance.

Paired, since the images are the same: only those on which the two differ say anything, and McNemar's
exact test asks how likely so uneven a split of them is if neither model were better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robustness.errors import SettingError
from robustness.reports import wording
from robustness.reports.comparison.sides import (
    Side,
    expect_same_images,
    expect_same_threat,
    few,
    ladder,
    resized,
    side,
)
from robustness.reports.summary import budgets
from robustness.reports.summary.metrics import FLIPPED, MISCLASSIFIED, ROBUST, UNREADABLE
from robustness.runs.model_differences import differences

ROBUST_ACCURACY = "robust accuracy"
KEPT = "share that kept its class"
"""The same where some image has no label, so that nothing can be called accurate."""


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
        """In words."""
        at = "" if self.epsilon is None else f" at epsilon {self.epsilon:g}"
        a, b = (self.before / self.total, self.after / self.total) if self.total else (None, None)
        chance = (
            "no image differs"
            if not self.lost + self.gained
            else f"{self.lost} only in A, {self.gained} only in B, {p_said(self.p_value)}"
        )
        what = self.what[0].upper() + self.what[1:]
        return f"{what}{at}: {wording.percent(a)} in A, {wording.percent(b)} in B; {chance}."


@dataclass(frozen=True)
class Moved:
    """An image whose fate differs, at one epsilon."""

    key: str
    name: str
    epsilon: float
    before: str
    after: str


@dataclass(frozen=True)
class Comparison:
    """What differs between run A and run B. `notes` are what a reader must know besides."""

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

    @property
    def differs(self) -> bool:
        """Whether the fate of any image does."""
        return bool(self.newly_flipped or self.newly_robust or self.newly_wrong or self.newly_right)

    @property
    def sentence(self) -> str:
        """In short, at the epsilon where the fates of most images differ, of equals the largest."""
        if not self.differs:
            return f"No difference: all {self.images:,} images fare alike in both runs."
        at = [p for p in self.pairings if p.epsilon is not None]
        # Nothing is said of robust accuracy where a run could not use any epsilon.
        judged = [p for p in at if p.what in (ROBUST_ACCURACY, KEPT)] or at
        moved = Counter(m.epsilon for m in (*self.newly_flipped, *self.newly_robust))
        most = max(judged, key=lambda p: (moved[p.epsilon or 0.0], p.epsilon))
        flipped = sum(m.epsilon == most.epsilon for m in self.newly_flipped)
        robust = sum(m.epsilon == most.epsilon for m in self.newly_robust)
        return (
            f"Of {wording.plural(self.images, 'image')}, {flipped:,} flip newly and {robust:,} no "
            f"longer flip at epsilon {most.epsilon:g}. {most.sentence}"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {"sentence": self.sentence, "differs": self.differs}


def mcnemar(lost: int, gained: int) -> float:
    """The exact two-sided p-value of so uneven a split of `lost + gained` images, each a fair coin.

    min(1, 2 P[X <= min(lost, gained)]), X binomial(lost + gained, 1/2); 1 where nothing differs.
    """
    flips, fewer = lost + gained, min(lost, gained)
    # Each binomial coefficient from the last, in whole numbers: exact, and quick for 10,000 images.
    term = tail = 1
    for k in range(fewer):
        term = term * (flips - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / 2**flips)


def by_image(moved: Iterable[Moved]) -> list[tuple[str, str]]:
    """Each image once: its name, and at which epsilons; nothing where no attack moved it."""
    found: dict[str, tuple[str, list[str]]] = {}
    for one in moved:
        epsilons = found.setdefault(one.key, (one.name, []))[1]
        if MISCLASSIFIED not in (one.before, one.after):
            epsilons.append(wording.number(one.epsilon))
    return [
        (name, f"epsilon {', '.join(epsilons)}" if epsilons else "")
        for name, epsilons in found.values()
    ]


def p_said(value: float) -> str:
    """`p = 0.03`, or `p < 0.0001`."""
    text = p_text(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def p_text(value: float) -> str:
    """A p-value for people."""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def compare(a: str | Path, b: str | Path) -> Comparison:
    """Compare two runs, each a folder or its `report.json`.

    SettingError, naming what differs, unless both audited the same images under the same norm and
    goal, with an epsilon in common. RunError for what is no run.
    """
    return compared(side(Path(a)), side(Path(b)))


def compared(a: Side, b: Side) -> Comparison:
    """The comparison of two sides; SettingError if they cannot be."""
    expect_same_images(a, b)
    expect_same_threat(a, b)
    epsilons = sorted(set(a.status) & set(b.status))
    if not epsilons:
        raise SettingError(
            f"The runs have no epsilon in common ({ladder(a)} in A, {ladder(b)} in B); expected "
            "at least one."
        )
    pairings = [p for p in [_clean(a, b, epsilons[0])] if p]
    moved: dict[str, list[Moved]] = {kind: [] for kind in _KINDS}
    for epsilon in epsilons:
        pairings += _at(a, b, epsilon)[: 1 if _missed(a, b, epsilon) else 2]
        for key, (before, after) in _fates(a, b, epsilon).items():
            kind = _kind(before, after)
            if kind and (kind in _FLIPS or epsilon == epsilons[0]):
                moved[kind].append(Moved(key, a.names[key], epsilon, before, after))
    return Comparison(
        a=a.title,
        b=b.title,
        images=len(a.names),
        pairings=tuple(pairings),
        **{kind: tuple(found) for kind, found in moved.items()},
        notes=(*_notes(a, b), *_unreached(a, b, epsilons)),
        norm=_norm(a),
    )


_FLIPS = ("newly_flipped", "newly_robust")
_KINDS = (*_FLIPS, "newly_wrong", "newly_right")


def _fates(a: Side, b: Side, epsilon: float) -> dict[str, tuple[str, str]]:
    """What became of each image that both runs have come to."""
    first, second = a.status[epsilon], b.status[epsilon]
    return {key: (first[key], second[key]) for key in first if key in second}


def _kind(before: str, after: str) -> str:
    """How an image moved between two states; "" where it did not, or nothing can be said."""
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
        for before, after in _fates(a, b, epsilon).values()
        if UNREADABLE not in (before, after)
    )
    return _pairing("clean accuracy", None, pairs)


def _at(a: Side, b: Side, epsilon: float) -> list[Pairing]:
    both = list(_fates(a, b, epsilon).values())
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


def _norm(one: Side) -> str:
    return one.manifest.config.norm or "linf"


def _missed(a: Side, b: Side, epsilon: float) -> list[str]:
    """In which of the runs no attack could use an epsilon, and why."""
    sides = (("A", a), ("B", b))
    return [
        f"in {where} {found.reason}"
        for where, one in sides
        for found in budgets.budgets(one.manifest, _norm(one), [epsilon])
        if not found.reached
    ]


def _unreached(a: Side, b: Side, epsilons: Iterable[float]) -> list[str]:
    return [
        f"Robust accuracy is not compared at epsilon {epsilon:g}: {'; '.join(why)}."
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


def _notes(a: Side, b: Side) -> list[str]:
    said = []
    before, after = a.manifest, b.manifest
    other = differences(before.model, after.model)
    if before.model.weights_sha256 == after.model.weights_sha256:
        said.append("Both runs audited the same weights.")
        if other:
            said.append(f"The models are not the same all the same: {'; '.join(other)}.")
    elif other:
        said.append(f"The models differ: {'; '.join(other)}.")
    if before.surrogate and after.surrogate:
        if other := differences(before.surrogate, after.surrogate):
            said.append(f"The surrogates differ: {'; '.join(other)}.")
    elif before.surrogate or after.surrogate:
        said.append(f"Only run {'A' if before.surrogate else 'B'} attacked by way of a surrogate.")
    if set(a.attacks) != set(b.attacks):
        said.append(
            f"The attacks differ ({few(a.attacks)} in A, {few(b.attacks)} in B): a difference "
            "may be theirs rather than the models'."
        )
    seeds = before.config.seed, after.config.seed
    if seeds[0] != seeds[1]:
        said.append(f"The seeds differ ({seeds[0]} in A, {seeds[1]} in B).")
    if resized(a, b):
        said.append(
            "The models take pictures of other sizes, so images are matched by name, not by pixels."
        )
    for where, one in (("A", a), ("B", b)):
        if not one.manifest.finished:
            said.append(f"Run {where} is not finished.")
    return said
