"""Two runs on the same images, image by image: what flips newly, what no longer does, and whether by chance.

Paired, since the images are the same: only those on which the two differ say anything, and McNemar's
exact test asks how likely so uneven a split of them is if neither model were better.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reports import metrics, words
from reports.metrics import FLIPPED, MISCLASSIFIED, ROBUST, UNREADABLE
from reports.summary import section
from robustness.errors import RunError, SettingError
from robustness.store import Run

ROBUST_ACCURACY = "robust accuracy"


@dataclass(frozen=True)
class Side:
    """One of the two runs. `status` is the worst case by epsilon and image; `digests` those of the
    pixels, by image, None where only a report is left of a run.
    """

    source: str
    manifest: Mapping[str, Any]
    attacks: tuple[str, ...]
    names: Mapping[str, str]
    labels: Mapping[str, str | None]
    digests: Mapping[str, str] | None
    status: Mapping[float, Mapping[str, str]]

    @property
    def title(self) -> str:
        """The folder, and the model in it."""
        model = str(section(self.manifest, "model").get("name") or "a model")
        return f"{words.shorten(self.source)} ({words.shorten(model)})"


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
        return f"{what}{at}: {words.percent(a)} in A, {words.percent(b)} in B; {chance}."


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

    @property
    def differs(self) -> bool:
        """Whether the fate of any image does."""
        return bool(self.newly_flipped or self.newly_robust or self.newly_wrong or self.newly_right)

    @property
    def sentence(self) -> str:
        """In short, at the epsilon where the fates of most images differ, of equals the largest."""
        if not self.differs:
            return f"No difference: all {self.images:,} images fare alike in both runs."
        judged = [p for p in self.pairings if p.what == ROBUST_ACCURACY and p.epsilon is not None]
        moved = Counter(m.epsilon for m in (*self.newly_flipped, *self.newly_robust))
        most = max(judged, key=lambda p: (moved[p.epsilon or 0.0], p.epsilon))
        flipped = sum(m.epsilon == most.epsilon for m in self.newly_flipped)
        robust = sum(m.epsilon == most.epsilon for m in self.newly_robust)
        return (
            f"Of {words.plural(self.images, 'image')}, {flipped:,} flip newly and {robust:,} no "
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
            epsilons.append(words.number(one.epsilon))
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


def side(path: Path) -> Side:
    """One side of a comparison, from a run folder or a `report.json`."""
    return _from_json(path) if path.is_file() else _from_run(path)


def _from_run(path: Path) -> Side:
    with Run.open(path) as run:
        manifest, images, outcomes = run.manifest, run.images(), run.outcomes()
    names = tuple(str(n) for n in manifest.get("class_names") or ())
    worst = metrics.worst_case(outcomes)
    return Side(
        source=path.name,
        manifest=manifest,
        attacks=tuple(dict.fromkeys(outcomes["attack"])),
        names=dict(zip(images["key"], images["name"], strict=True)),
        labels={
            key: None if label is None or label != label else words.class_name(names, label)  # noqa: PLR0124
            for key, label in zip(images["key"], images["label"], strict=True)
        },
        digests=dict(zip(images["key"], images["digest"], strict=True)),
        status={
            float(str(epsilon)): dict(zip(rows["image"], rows["status"], strict=True))
            for epsilon, rows in worst.groupby("epsilon")
        },
    )


def _from_json(path: Path) -> Side:
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        plain = whole["summary"] if isinstance(whole.get("summary"), dict) else whole
        results = plain["results"]
        epsilons = [float(rate["epsilon"]) for rate in plain["worst"]]
        return Side(
            source=path.name,
            manifest=plain["manifest"],
            attacks=tuple(plain["attacks"]),
            names={r["key"]: r["name"] for r in results},
            labels={r["key"]: r["label"] for r in results},
            digests=None,
            status={e: {r["key"]: _status_at(r, e) for r in results} for e in epsilons},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path} cannot be compared ({error!r}); expected a run folder or its report.json."
        ) from None


def _status_at(result: Mapping[str, Any], epsilon: float) -> str:
    """The fate of an image at an epsilon, from that at the largest one."""
    smallest = result["smallest_epsilon"]
    if smallest is not None:
        return FLIPPED if smallest <= epsilon else ROBUST
    return str(result["status"])


def compared(a: Side, b: Side) -> Comparison:
    """The comparison of two sides; SettingError if they cannot be."""
    _expect_same_images(a, b)
    _expect_same_threat(a, b)
    epsilons = sorted(set(a.status) & set(b.status))
    if not epsilons:
        raise SettingError(
            f"The runs have no epsilon in common ({_ladder(a)} in A, {_ladder(b)} in B); expected "
            "at least one."
        )
    pairings = [p for p in [_clean(a, b, epsilons[0])] if p]
    moved: dict[str, list[Moved]] = {kind: [] for kind in _KINDS}
    for epsilon in epsilons:
        pairings += _at(a, b, epsilon)
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
        notes=tuple(_notes(a, b)),
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
    readable = [pair for pair in both if UNREADABLE not in pair]
    judged = [pair for pair in both if set(pair) <= {FLIPPED, ROBUST}]
    return [
        _pairing(
            "flip rate of the images right in both",
            epsilon,
            Counter((x == FLIPPED, y == FLIPPED) for x, y in judged),
        ),
        _pairing(
            ROBUST_ACCURACY, epsilon, Counter((x == ROBUST, y == ROBUST) for x, y in readable)
        ),
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


def _expect_same_images(a: Side, b: Side) -> None:
    only_a, only_b = sorted(set(a.names) - set(b.names)), sorted(set(b.names) - set(a.names))
    if only_a or only_b:
        sides = [
            f"{len(some):,} only in {where} ({_some(some)})"
            for some, where in ((only_a, "A"), (only_b, "B"))
            if some
        ]
        raise SettingError(
            f"The runs audited different images: {', '.join(sides)}. Expected the same ones; audit "
            "both models on the same images, with the same seed and limit."
        )
    unlike = sorted(key for key in a.names if a.labels[key] != b.labels[key])
    if unlike:
        raise SettingError(
            f"The runs audited different images: {len(unlike):,} have another label ({_some(unlike)}). "
            "Expected the same images with the same labels."
        )
    if _resized(a, b):
        return
    other = _other_pixels(a, b)
    if other:
        raise SettingError(
            f"The runs audited different images: {other}. Expected the same pictures under the "
            "same names."
        )


def _resized(a: Side, b: Side) -> bool:
    """Whether the models take other sizes: then their pixels differ, though the files may not."""
    sizes = [section(s.manifest, "model").get("input_shape") for s in (a, b)]
    return sizes[0] != sizes[1]


def _other_pixels(a: Side, b: Side) -> str:
    if a.digests is None or b.digests is None:
        hashes = [section(s.manifest, "data").get("sha256") for s in (a, b)]
        return "" if hashes[0] == hashes[1] is not None else "their pixels have another hash"
    other = sorted(key for key in a.digests if a.digests[key] != b.digests[key])
    return f"{len(other):,} have other pixels ({_some(other)})" if other else ""


def _expect_same_threat(a: Side, b: Side) -> None:
    for name in ("norm", "goal"):
        first, second = (section(s.manifest, "config").get(name) for s in (a, b))
        if first != second:
            raise SettingError(
                f"The runs have another {name} ({first} in A, {second} in B), so their budgets do "
                "not compare. Expected the same threat."
            )


def _notes(a: Side, b: Side) -> list[str]:
    said = []
    weights = [section(s.manifest, "model").get("weights_sha256") for s in (a, b)]
    if weights[0] == weights[1]:
        said.append("Both runs audited the same weights.")
    if set(a.attacks) != set(b.attacks):
        said.append(
            f"The attacks differ ({_some(a.attacks)} in A, {_some(b.attacks)} in B): a difference "
            "may be theirs rather than the models'."
        )
    seeds = [section(s.manifest, "config").get("seed") for s in (a, b)]
    if seeds[0] != seeds[1]:
        said.append(f"The seeds differ ({seeds[0]} in A, {seeds[1]} in B).")
    if _resized(a, b):
        said.append(
            "The models take pictures of other sizes, so images are matched by name, not by pixels."
        )
    for where, one in (("A", a), ("B", b)):
        if not one.manifest.get("finished"):
            said.append(f"Run {where} is not finished.")
    return said


def _ladder(one: Side) -> str:
    return ", ".join(f"{e:g}" for e in sorted(one.status)) or "none"


def _some(names: Any, most: int = 3) -> str:
    shown = [words.shorten(str(name)) for name in list(names)[:most]]
    return ", ".join(shown) + (", ..." if len(names) > most else "")
