"""Tests of repair: resuming a damaged run restores the damaged parts only, with the same outcomes."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import robustness
from robustness.attacks import PGD, Square
from robustness.errors import RunError, RunUsageError
from robustness.images.png import to_png
from robustness.runs import damage as finding
from robustness.runs import read_ahead
from robustness.runs.schema import Manifest
from robustness.runs.store import Run
from robustness.verification.verify import verify
from tests.robustness.helpers import small_cnn

SHAPE = (12, 12, 3)


@pytest.fixture(scope="module")
def material():
    classifier = small_cnn(9)
    images = np.random.default_rng(4).integers(0, 256, (24, *SHAPE)).astype(np.uint8)
    labels = classifier.probabilities(images).argmax(1)
    labels[::8] = (labels[::8] + 1) % 3
    return classifier, images, labels


MASK = np.ones(SHAPE[:2], bool)
MASK[:2] = False


def audited(material, folder: Path, **more):
    classifier, images, labels = material
    return robustness.audit(
        classifier,
        images,
        labels=labels,
        attacks=[PGD(steps=6), Square(steps=60)],
        epsilons=[2, 8],
        mask=MASK,
        out=folder,
        **more,
    )


@pytest.fixture(scope="module")
def whole(material, tmp_path_factory):
    """Undamaged finished runs: independent attacks, a cascade, all evidence."""
    folder = tmp_path_factory.mktemp("mending")
    kinds: dict[str, dict[str, Any]] = {
        "plain": {},
        "cascade": {"cascade": True},
        "all": {"evidence": "all"},
    }
    for name, more in kinds.items():
        audited(material, folder / name, **more)
    return folder, kinds


def tables(path: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    with Run.open(path) as run:
        return run.images(), run.outcomes(), run.strips()


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:40])


def altered(file: Path) -> None:
    file.write_bytes(to_png(np.zeros(SHAPE, np.uint8)))


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def of_the_same_size(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-20] ^= 0xFF
    file.write_bytes(bytes(data))


def deleted(file: Path) -> None:
    file.unlink()


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def a_full_folder(file: Path) -> None:
    a_folder(file)
    (file / "notes.txt").write_text("mine")


def a_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/null")


def without_its_folder(file: Path) -> None:
    shutil.rmtree(file.parent)


def a_file_for_its_folder(file: Path) -> None:
    shutil.rmtree(file.parent)
    file.parent.write_bytes(b"no folder")


DAMAGES = [
    truncated,
    altered,
    emptied,
    of_the_same_size,
    deleted,
    a_folder,
    a_full_folder,
    a_link,
    without_its_folder,
    a_file_for_its_folder,
]


def names_of(path: Path, kind: str) -> list[str]:
    """Pictures that are of one kind only."""
    images, outcomes, strips = tables(path)
    with Run.open(path) as run:
        region = run.manifest.config.mask
        assert region is not None and region.sha256
        mask = f"images/{region.sha256[:2]}/{region.sha256}.png"
    originals, flips = set(images.png.dropna()), set(outcomes.png.dropna())
    found = {
        "originals": originals,
        "flips": flips,
        "steps": set(strips.png) - originals - flips,
        "mask": {mask},
    }
    return sorted(found[kind])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["originals", "flips", "steps", "mask"])
def test_damaged_pictures_are_restored(material, whole, tmp_path, kind):
    folder, kinds = whole
    run = tmp_path / "run"
    shutil.copytree(folder / "plain", run)
    before = {p: p.read_bytes() for p in (run / "images").rglob("*.png")}
    victims = names_of(run, kind)
    for name, damage in zip(victims, DAMAGES, strict=False):
        if (run / name).is_file():
            damage(run / name)
    result = audited(material, run, resume=True, **kinds["plain"])
    for mended, expected in zip(tables(run), tables(folder / "plain"), strict=True):
        pd.testing.assert_frame_equal(mended, expected)
    assert {p: p.read_bytes() for p in before} == before
    (told,) = result.manifest["mended"]
    assert told[kind] >= min(len(victims), len(DAMAGES)) - 1
    assert f"{told[kind]} {kind if told[kind] > 1 else kind.rstrip('s')}" in result.mended
    with Run.open(run) as opened:
        assert not verify(opened, material[0]).faults
    # Only the damaged ones: resuming once more repairs nothing.
    again = audited(material, run, resume=True, **kinds["plain"])
    assert again.mended == ""
    assert again.manifest["mended"] == [told]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_picture_replaces_anything_at_its_path(tmp_path, damage):
    data = to_png(np.full(SHAPE, 7, np.uint8))
    with Run.create(tmp_path / "run", Manifest()) as run:
        name = run.save_png(data)
        damage(run.path / name)
        assert not run.evidence_intact(name)
        assert run.save_png(data) == name
        assert run.evidence_intact(name)
        assert (run.path / name).is_file() and not (run.path / name).is_symlink()
        kept = [p.read_text() for p in run.path.rglob("notes.txt")]
        assert kept == (["mine"] if damage is a_full_folder else [])


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("name", ["plain", "cascade", "all"])
def test_any_combination_of_damage_is_repaired_to_the_same_outcomes(
    material, whole, tmp_path, monkeypatch, name, ahead
):
    if ahead:
        monkeypatch.setattr(read_ahead, "LARGE", 0)
    folder, kinds = whole
    run = tmp_path / "run"
    shutil.copytree(folder / name, run)
    rng = np.random.default_rng(5)
    files = sorted((run / "images").rglob("*.png"))
    for file in files:
        if rng.random() < 0.4 and file.exists():
            DAMAGES[rng.integers(len(DAMAGES) - 2)](file)
    audited(material, run, resume=True, **kinds[name])
    for mended, expected in zip(tables(run), tables(folder / name), strict=True):
        pd.testing.assert_frame_equal(mended, expected)
    with Run.open(run) as opened:
        assert not verify(opened, material[0]).faults


@pytest.mark.slow
def test_only_damaged_images_are_attacked_again(material, whole, tmp_path, monkeypatch):
    from robustness.auditing import work

    folder, _ = whole
    run = tmp_path / "run"
    shutil.copytree(folder / "plain", run)
    _, outcomes, _ = tables(run)
    label = outcomes.attack.iloc[0]
    lost = outcomes[(outcomes.attack == label) & outcomes.png.notna()].iloc[0]
    deleted(run / lost.png)
    asked: list[tuple[str, str]] = []
    search = work.search

    def recording_search(batch, subjects, **settings):
        some = list(subjects)
        asked.extend((batch.attack.label, one.key) for one in some)
        return search(batch, some, **settings)

    monkeypatch.setattr(work, "search", recording_search)
    audited(material, run, resume=True)
    mine = outcomes[outcomes.png == lost.png]
    assert sorted(asked) == sorted(set(zip(mine.attack, mine.image, strict=True)))


def sql(run: Path, *statements: str) -> None:
    database = sqlite3.connect(run / "run.sqlite")
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM outcomes WHERE rowid % 3 = 0",
        "DELETE FROM images WHERE position % 4 = 1",
        "DELETE FROM strips",
        "UPDATE outcomes SET status = 'odd' WHERE rowid % 5 = 0",
        "UPDATE outcomes SET png = NULL WHERE rowid % 2 = 0",
        "UPDATE outcomes SET png = 'images/no/such.png' WHERE png NOT NULL",
        "UPDATE outcomes SET adversarial_class = NULL WHERE status = 'flipped'",
        "UPDATE outcomes SET epsilon = 3 WHERE epsilon = 8 AND rowid % 2 = 0",
        "UPDATE outcomes SET image = 'nobody' || rowid WHERE rowid % 7 = 0",
        "UPDATE images SET png = NULL WHERE position < 9",
        "UPDATE images SET position = position + 100 WHERE position < 5",
        "UPDATE images SET clean_class = NULL WHERE position = 3",
        "UPDATE images SET clean_class = 99, label = 99 WHERE position = 3",
        "UPDATE images SET confidence = 5 WHERE position = 3",
        "UPDATE images SET label = (label + 1) % 3 WHERE position % 2 = 0",
        "UPDATE images SET label = NULL",
        "UPDATE images SET name = 'other.gif' WHERE position = 3",
        "UPDATE images SET name = 'a/' || name WHERE position = 3",
        "UPDATE images SET reason = 'so' WHERE position = 3",
        "UPDATE outcomes SET status = 'robust' WHERE status = 'misclassified'",
        "UPDATE outcomes SET status = 'misclassified' WHERE status = 'robust'",
        "UPDATE outcomes SET status = 'settled' WHERE status = 'robust'",
        "UPDATE outcomes SET status = 'failed' WHERE status = 'robust'",
        "UPDATE outcomes SET step = NULL",
        # So many steps that they would take hours.
        "UPDATE outcomes SET step = 1000000000 WHERE status = 'flipped'",
        "UPDATE outcomes SET restart = NULL",
        "UPDATE outcomes SET restart = 123456789012 WHERE status = 'flipped'",
        "UPDATE outcomes SET adversarial_class = 99 WHERE status = 'flipped' AND rowid % 2",
        "UPDATE outcomes SET confidence_after = NULL WHERE status = 'flipped' AND rowid % 2",
        "UPDATE outcomes SET linf = NULL WHERE status = 'flipped' AND rowid % 2",
    ],
)
def test_invalid_rows_are_restored(material, whole, tmp_path, statement):
    folder, _ = whole
    run = tmp_path / "run"
    shutil.copytree(folder / "plain", run)
    sql(run, statement)
    audited(material, run, resume=True)
    for mended, expected in zip(tables(run), tables(folder / "plain"), strict=True):
        pd.testing.assert_frame_equal(mended, expected, check_dtype=False)
    with Run.open(run) as opened:
        assert not verify(opened, material[0]).faults


@pytest.mark.slow
def test_a_truncated_write_ahead_log_loses_only_its_rows(material, whole, tmp_path):
    folder, _ = whole
    run, copy = tmp_path / "run", tmp_path / "copy"
    shutil.copytree(folder / "plain", run)
    with Run.resume(run) as opened:
        opened.drop("outcomes", [{"image": k, "attack": a, "epsilon": e} for k, a, e in keys(run)])
        shutil.copytree(run, copy)
    log = copy / "run.sqlite-wal"
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    audited(material, copy, resume=True)
    pd.testing.assert_frame_equal(tables(copy)[1], tables(folder / "plain")[1])


def keys(run: Path) -> list[tuple[str, str, float]]:
    _, outcomes, _ = tables(run)
    return list(zip(outcomes.image, outcomes.attack, outcomes.epsilon, strict=True))[::2]


def pages(run: Path) -> None:
    data = bytearray((run / "run.sqlite").read_bytes())
    data[4096:8192] = b"\xff" * 4096
    (run / "run.sqlite").write_bytes(bytes(data))


def header(run: Path) -> None:
    (run / "run.sqlite").write_bytes(b"no database" * 1000)


def half(run: Path) -> None:
    data = (run / "run.sqlite").read_bytes()
    (run / "run.sqlite").write_bytes(data[: len(data) // 2])


@pytest.mark.slow
@pytest.mark.parametrize("damage", [pages, header, half])
def test_a_damaged_database_is_reported_first(material, whole, tmp_path, damage):
    folder, _ = whole
    run = tmp_path / "run"
    shutil.copytree(folder / "plain", run)
    damage(run)
    with pytest.raises(
        RunError, match=r"run\.sqlite cannot be read .* Restore it from a copy"
    ) as e:
        audited(material, run, resume=True)
    assert "\n" not in str(e.value)


@pytest.mark.slow
def test_an_original_with_a_changed_source_cannot_be_restored(material, whole, tmp_path):
    folder, _ = whole
    run = tmp_path / "run"
    shutil.copytree(folder / "plain", run)
    deleted(run / names_of(run, "originals")[0])
    classifier, images, labels = material
    with pytest.raises(RunUsageError, match="cannot be made again"):
        audited((classifier, 255 - images, labels), run, resume=True)


def test_pictures_with_names_that_no_audit_writes_are_damaged(tmp_path):
    with Run.create(tmp_path / "run", Manifest()) as run:
        name = run.save_png(b"nine byte")
        folder, file = str(Path(name).parent), Path(name).name
        odd = {
            f"./{name}",
            f"{name}/",
            name.replace("/", "//"),
            f"{folder}/../{file}",
            f"{folder}/a:b",
        }
        odd |= {f"/{name}", "", "/", folder, f"{folder}/", file}
        for first in (name, *odd):
            assert run.damaged([first, name, *odd]) == odd
        deleted(run.path / name)
        assert run.damaged([name]) == {name}


def test_every_picture_is_looked_for_and_the_newest_are_hashed(tmp_path, monkeypatch):
    monkeypatch.setattr(finding, "MOST_HASHED", 2)
    with Run.create(tmp_path / "run", Manifest()) as run:
        names = [run.save_png(bytes([n]) * 9) for n in range(6)]
        for age, name in enumerate(names):
            (run.path / name).write_bytes(b"altered" if age in (1, 4) else bytes([age]) * 9)
            os.utime(run.path / name, (age, age))
        deleted(run.path / names[0])
        emptied(run.path / names[2])
        outside = "run.json"
        bad = run.damaged([*names, outside, "../run.json"])
    # 4 and 5 are the newest; 1 is altered, but older.
    assert bad == {names[0], names[2], names[4], outside, "../run.json"}
