"""Tests of the summary: its numbers recomputed from the rows in plain Python."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from robustness.reports import Summary, summarise
from robustness.reports.page.sections import limits, worst_case
from robustness.reports.summary import taxonomy
from robustness.reports.summary.checks import preflight_checks
from robustness.reports.summary.figures import Figure, figures
from robustness.reports.summary.findings import findings
from robustness.runs.schema import Manifest
from robustness.runs.store import Run
from tests.reports.folder import Folder


def summary_of(path: Path) -> Summary:
    with Run.open(path) as run:
        return summarise(run)


def test_the_mixed_run_has_the_expected_counts(mixed: Path) -> None:
    found = summary_of(mixed)
    assert found.sentence == (
        "5 of 8 correctly classified images (62.5 %, 95 % interval 30.6-86.3 %) flip within 4 counts "
        "(bim, linf). 1 more image is undecided: every attack failed there."
    )
    overall = found.overall
    assert (overall.flipped, overall.robust, overall.failed) == (5, 3, 1)
    assert (overall.misclassified, overall.unreadable) == (2, 1)
    assert (overall.lowest, overall.highest) == (5 / 9, 6 / 9)
    assert found.images.clean_accuracy is not None
    assert (found.images.clean_accuracy.count, found.images.clean_accuracy.total) == (9, 11)
    robust = found.worst[-1].robust_accuracy
    assert robust is not None
    assert (robust.count, robust.total) == (3, 11)
    assert any("between 55.6 % and 66.7 %" in warning for warning in found.warnings)
    assert [one.name for one in found.skipped] == ["torn.jpg"]
    assert [one.reason for one in found.failed] == ["bim(steps=4): the loss is not finite"]
    assert [(p.before, p.after, p.count) for p in found.pairs] == [("cat", "dog", 5)]


def test_medians_and_distances_match_the_rows(folder: Folder, mixed: Path) -> None:
    flips = [row for row in folder.rows["outcomes"] if row["status"] == "flipped"]
    found = summary_of(mixed)
    (rate,) = found.rates
    assert rate.l2 == pytest.approx(statistics.median(row["l2"] for row in flips))
    assert rate.confidence_after == pytest.approx(0.7)
    for name, column in (("L1", "l1"), ("L2", "l2"), ("L∞", "linf")):
        (distance,) = [d for d in found.distances if f"({name})" in d.name]
        values = [row[column] for row in flips]
        assert distance.low == pytest.approx(min(values))
        assert distance.median == pytest.approx(statistics.median(values))
        assert distance.high == pytest.approx(max(values))


def test_the_noise_is_that_of_pictures_of_their_own_size(folder: Folder) -> None:
    rng, noise = np.random.default_rng(5), []
    folder.manifest["model"]["input_shape"] = [8, 8, 3]
    for number, side in enumerate((8, 24, 40)):
        before, after = folder.flip(f"{number}.png", rng=rng, side=side)
        noise.append(10 * np.log10(255**2 / np.mean((after.astype(float) - before) ** 2)))
        if side != 8:
            sizes = {"image": f"{number}.png", "height": side, "width": side}
            folder.rows["sizes"].append(sizes)
    (found,) = [d for d in summary_of(folder.write()).distances if d.unit == "dB"]
    assert (found.low, found.median, found.high) == pytest.approx(sorted(noise))


def test_a_budget_is_visible_or_not_on_the_pictures_that_are_attacked(folder: Folder) -> None:
    """An L2 budget that shows on 8 x 8 pixels does not on a photograph in front of the same model."""
    folder.manifest["config"]["norm"] = "l2"
    folder.manifest["model"]["input_shape"] = [8, 8, 3]
    for number in range(40):
        folder.image(f"{number}")
        folder.outcome(f"{number}", "flipped", 200.0)
    (small,) = findings(summary_of(folder.write()))
    (folder.path / "run.sqlite").unlink()
    folder.rows["sizes"].append({"image": "0", "height": 400, "width": 600})
    summary = summary_of(folder.write())
    (large,) = findings(summary)
    assert summary.picture_shape == (400, 600, 3)
    assert (small.severity.name, large.severity.name) == ("high", "critical")


def test_the_verdict_of_the_article_is_reproduced(folder: Folder) -> None:
    for number in range(126):
        folder.image(f"{number}.jpg")
        folder.outcome(f"{number}.jpg", "flipped")
    for number in range(9):
        folder.image(f"wrong {number}.jpg", label=1)
        folder.outcome(f"wrong {number}.jpg", "misclassified")
    assert summary_of(folder.write()).sentence == (
        "126 of 126 correctly classified images (100 %, 95 % interval 97.0-100 %) flip within 4 "
        "counts (bim, linf)."
    )


def test_two_attacks_are_joined_image_by_image(folder: Folder) -> None:
    folder.manifest["config"]["attacks"] = [{"name": n, "label": n} for n in ("pgd", "bim")]
    for key, first, second in (("a", 1, 0), ("b", 0, 1), ("c", 0, 0), ("d", 1, 1)):
        folder.image(key)
        for attack, flips in (("bim", first), ("pgd", second)):
            folder.outcome(key, "flipped" if flips else "robust", attack=attack)
    found = summary_of(folder.write())
    assert found.attacks == ("pgd", "bim")
    assert [(r.attack, r.tally.flipped) for r in found.rates] == [("pgd", 2), ("bim", 2)]
    assert found.overall.flip_rate.share == 0.75
    assert found.sentence.endswith("(pgd, bim, linf).")


def test_attacks_of_a_cascade_have_a_rate_and_their_own_flips(folder: Folder) -> None:
    """At epsilon 4 the later attack gets the images that the earlier one does not flip: c and d."""
    labels = ("first", "second")
    folder.manifest["config"]["attacks"] = [{"name": n, "label": n} for n in labels]
    fates = {
        "a": ("flipped flipped", "settled settled"),
        "b": ("robust flipped", "flipped settled"),
        "c": ("robust robust", "robust flipped"),
        "d": ("robust robust", "robust robust"),
    }
    for key, both in fates.items():
        folder.image(key)
        for attack, fate in zip(labels, both, strict=True):
            for epsilon, status in zip((2.0, 4.0), fate.split(), strict=True):
                folder.outcome(key, status, epsilon, attack=attack)
    found = summary_of(folder.write())
    last = {r.attack: r.tally.flip_rate for r in found.rates if r.epsilon == 4}
    assert {r.label: r.flip_rate for r in found.attacked} == last
    assert {name: (s.count, s.total) for name, s in last.items()} == {
        "first": (2, 4),
        "second": (1, 2),
    }
    # Both flip b, the later attack within the smaller budget. The later one did not get a.
    assert {r.label: r.alone for r in found.attacked} == {"first": None, "second": 1}
    assert {r.key: r.asked for r in found.results} == {
        "a": ("first",), "b": labels, "c": labels, "d": labels,
    }  # fmt: skip
    assert (found.overall.flipped, found.overall.robust) == (3, 1)


def test_cases_alternate_between_kinds_of_flip(folder: Folder) -> None:
    folder.manifest["class_names"] = ["cat", "dog", "fox"]
    for number in range(5):
        folder.image(f"dog{number}")
        folder.outcome(f"dog{number}", "flipped", confidence_after=0.99 - number / 100)
    folder.image("fox")
    folder.outcome("fox", "flipped", adversarial_class=2, confidence_after=0.5)
    cases = summary_of(folder.write()).cases
    assert [case.image for case in cases] == ["dog0", "fox", "dog1", "dog2", "dog3", "dog4"]


def test_a_case_is_shown_once_at_its_smallest_epsilon(folder: Folder) -> None:
    folder.image("a")
    for epsilon, confidence in ((2.0, 0.6), (4.0, 0.6), (8.0, 0.9)):
        folder.outcome("a", "flipped", epsilon, confidence_after=confidence)
    (case,) = summary_of(folder.write()).cases
    assert case.epsilon == 2


def test_strips_keep_first_and_last_picture(folder: Folder) -> None:
    folder.image("a", png="x")
    folder.outcome("a", "flipped", png="y")
    for step in range(41):
        folder.strip("a", step, "z", [1 - step / 40, step / 40])
    (case,) = summary_of(folder.write()).cases
    assert [step.number for step in case.steps] == [0, 8, 16, 24, 32, 40]


def test_without_labels_there_is_no_accuracy(folder: Folder) -> None:
    folder.image("a", label=None)
    folder.outcome("a", "flipped")
    found = summary_of(folder.write())
    assert found.images.clean_accuracy is None
    assert found.worst[-1].robust_accuracy is None
    assert found.overall.flip_rate.count == 1
    assert any("no labels" in warning for warning in found.warnings)


def test_an_unfinished_run_is_reported(folder: Folder) -> None:
    folder.manifest["finished"] = None
    folder.image("a")
    assert "not finished" in summary_of(folder.write()).warnings[0]


def test_missing_outcomes_are_counted(folder: Folder) -> None:
    folder.image("a")
    folder.image("b")
    folder.outcome("a", "robust")
    assert summary_of(folder.write()).warnings == ("1 of 2 outcomes are missing from this run.",)


@pytest.mark.parametrize(
    ("norm", "epsilon", "said"),
    [
        ("linf", 1.0, "within 1 count (bim, linf)."),
        ("l2", 100.0, "within an L2 distance of 100 counts (bim, l2)."),
        ("l0", 1.0, "within 1 pixel (bim, l0)."),
    ],
)
def test_budgets_are_described_in_words(
    folder: Folder, norm: str, epsilon: float, said: str
) -> None:
    folder.manifest["config"]["norm"] = norm
    folder.image("a")
    folder.outcome("a", "flipped", epsilon)
    assert summary_of(folder.write()).sentence.endswith(said)


def test_a_target_is_named(folder: Folder) -> None:
    folder.manifest["config"]["goal"] = "targeted at dog"
    folder.image("a")
    folder.outcome("a", "robust")
    assert summary_of(folder.write()).sentence.endswith("(bim, linf, targeted at dog).")


def test_a_surrogate_is_named_beside_every_rate(folder: Folder) -> None:
    """That nothing flips says nothing of an attack on the model itself."""
    folder.manifest["surrogate"] = {"name": "other"}
    folder.image("a")
    folder.outcome("a", "flipped")
    summary = summary_of(folder.write())
    assert summary.sentence.endswith("(bim, linf, transfer from other).")
    assert [f.sentence for f in findings(summary)] == [
        summary.sentence.replace("(bim,", "(bim(steps=4),")
    ]
    folder.manifest["config"]["goal"] = "targeted at dog"
    (folder.path / "run.sqlite").unlink()
    aim = summary_of(folder.write()).aim
    assert aim == "transfer from other, targeted at dog"


@pytest.mark.parametrize(
    ("steps", "every"), [((1, 1, 1), False), ((4, 4, 4), True), ((1, 2, 4), False), ((4,), False)]
)
def test_the_summary_is_json_for_any_number_of_steps(
    folder: Folder, steps: tuple[int, ...], every: bool
) -> None:
    """An attack of one step, one that used all its steps, and one with flips at different steps."""
    for number, step in enumerate(steps):
        folder.image(f"{number}")
        folder.outcome(f"{number}", "flipped", step=step)
    found = summary_of(folder.write())
    (course,) = json.loads(json.dumps(found.to_dict(), allow_nan=False))["courses"]
    assert course["every_step"] is every


def test_an_attack_that_seeks_the_closest_point_has_no_course(folder: Folder) -> None:
    """Only its closest flip is recorded, and its passes stand in the row of the smallest epsilon."""
    (attack,) = folder.manifest["config"]["attacks"]
    attack["seeks"] = "closest"
    for key, first, step in (("a", 1.0, 19), ("b", 2.0, 19), ("c", 4.0, 20)):
        folder.image(key)
        for epsilon in (1.0, 2.0, 4.0):
            passes = (
                {"forward": 40, "backward": 20} if epsilon == 1 else {"forward": 0, "backward": 0}
            )
            status = "flipped" if epsilon >= first else "robust"
            folder.outcome(
                key, status, epsilon, **passes, step=step if status == "flipped" else None
            )
    assert summary_of(folder.write()).courses == ()


def test_to_dict_is_strict_json(mixed: Path, folder: Folder) -> None:
    found = summary_of(mixed).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["overall"]["flip_rate"]["count"] == 5


class OldRun:
    """A run whose tables lack most columns and whose manifest lacks most sections."""

    path = Path()
    manifest = Manifest()

    def images(self) -> pd.DataFrame:
        return pd.DataFrame({"key": ["a", "b"], "name": ["a", "b"], "clean_class": [0, 1]})

    def outcomes(self) -> pd.DataFrame:
        return pd.DataFrame(
            {"image": ["a", "b"], "attack": "bim", "epsilon": 1.0, "status": ["flipped", "robust"]}
        )

    def strips(self) -> pd.DataFrame:
        return pd.DataFrame()

    def sizes(self) -> dict[str, tuple[int, int]]:
        return {}

    def uploads(self) -> pd.DataFrame:
        return pd.DataFrame()

    def views(self) -> pd.DataFrame:
        return pd.DataFrame()

    def png(self, name: str) -> bytes:
        raise AssertionError(name)


def test_missing_columns_and_sections_are_accepted() -> None:
    found = summarise(OldRun())
    assert found.overall.flip_rate.share == 0.5
    assert found.distances == ()
    assert found.cases[0].png is None


def test_rates_of_classes_match_the_rows(folder: Folder, mixed: Path) -> None:
    found = {(c.name, c.epsilon): c for c in summary_of(mixed).classes}
    truth = {row["key"]: row["label"] for row in folder.rows["images"]}
    for number, name in enumerate(("cat", "dog")):
        mine = [r["status"] for r in folder.rows["outcomes"] if truth[r["image"]] == number]
        tally = found[name, 4.0].tally
        assert (tally.flipped, tally.robust) == (mine.count("flipped"), mine.count("robust"))
        readable = [status for status in mine if status != "unreadable"]
        accuracy = found[name, 4.0].robust_accuracy
        assert accuracy is not None
        assert (accuracy.count, accuracy.total) == (readable.count("robust"), len(readable))


def finding_rules(folder: Folder) -> set[str]:
    return {f.weakness.rule for f in findings(summary_of(folder.write()))}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "knowledge", "rule"),
    [
        ("pgd", "white-box", "evasion-white-box"),
        ("square", "score", "evasion-score-based"),
        ("hopskipjump", "decision", "evasion-decision-based"),
        ("gaussian-noise", "decision", "accident"),
        ("corruptions", "decision", "accident"),
        ("spatial", "decision", "evasion-spatial"),
        ("universal", "white-box", "evasion-universal"),
        ("patch", "white-box", "evasion-universal"),
        # Names that merely contain the name of a noise attack.
        ("random-search", "decision", "evasion-decision-based"),
        ("contrastive", "white-box", "evasion-white-box"),
        ("noise-aware-noise", "white-box", "evasion-white-box"),
    ],
)
def test_each_attack_maps_to_its_weakness(
    folder: Folder, name: str, knowledge: str, rule: str
) -> None:
    label = f"{name}(steps=4)"
    folder.manifest["config"]["attacks"] = [
        {"name": name, "label": label, "knowledge": knowledge, "parameters": {}}
    ]
    folder.image("a")
    folder.outcome("a", "flipped", attack=label)
    assert finding_rules(folder) == {rule}


def test_flips_found_on_a_surrogate_are_transfer(folder: Folder) -> None:
    folder.manifest["surrogate"] = {"name": "other", "weights_sha256": "00"}
    folder.image("a")
    folder.outcome("a", "flipped")
    assert finding_rules(folder) == {"evasion-transfer"}


def test_every_finding_has_catalogue_entries_and_a_remedy() -> None:
    for name, weakness in taxonomy.weaknesses().items():
        assert weakness.maps and weakness.fix, name
        assert {one.scheme for one in weakness.maps} <= set(taxonomy.sources())
        assert len({w.rule for w in taxonomy.weaknesses().values()}) == len(taxonomy.weaknesses())


def test_checks_are_counted_once(folder: Folder) -> None:
    """A preflight check repeated by a diagnostic counts as the same check."""
    folder.manifest["preflight"] = [
        {"id": "P01-input", "severity": "ok", "sentence": "So."},
        {"id": "D01-random-outputs", "severity": "ok", "sentence": "So."},
        {"id": "X01-own", "severity": "warning", "sentence": "Hm."},
    ]
    folder.manifest["diagnostics"] = [
        {"id": i, "title": i, "status": s, "sentence": "So.", "evidence": {}}
        for i, s in (("P01", "ok"), ("D01", "ok"), ("D02", "ok"), ("D07", "skipped"))
    ]
    folder.image("a")
    folder.outcome("a", "robust")
    found = summary_of(folder.write())
    (row,) = [f for f in figures(found) if f.term == "reliability"]
    assert row == Figure("Warnings", "reliability", "1 warning in 4 checks; 1 skipped")
    assert [check.id for check in preflight_checks(found)] == ["X01-own"]


def test_the_legend_of_the_squares_counts_each_epsilon(folder: Folder) -> None:
    """Seven epsilons share five colours; counts must not be merged."""
    epsilons = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0]
    for number, first in enumerate(epsilons * 2):
        folder.image(str(number))
        for epsilon in epsilons:
            folder.outcome(str(number), "flipped" if epsilon >= first else "robust", epsilon)
    found = worst_case.image_squares(summary_of(folder.write()))
    assert found is not None
    assert [(said, count) for _, said, count in found.legend] == [
        (f"flip within {epsilon:g}", 2) for epsilon in epsilons
    ]


def test_the_limits_do_not_name_attacks_of_the_run(folder: Folder) -> None:
    folder.manifest["config"] |= {
        "norm": "free",
        "attacks": [{"name": "spatial", "label": "spatial", "knowledge": "decision"}],
    }
    folder.image("a")
    folder.outcome("a", "robust", attack="spatial")
    said = " ".join(limits.limits(summary_of(folder.write())))
    assert (
        "Other threats were not tried: light and weather, crops, stickers and photographs of prints"
        in said
    )
    assert "neither were small changes of pixels" in said and "otation" not in said
