"""The same 200 pictures from sources of every kind: the same keys where there are any, and outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import robustness
from robustness.files.remote import errors
from robustness.files.remote.stores import store_of
from robustness.runs.store import Run
from tests.robustness import helpers
from tests.robustness.files.object_server import serving
from tests.robustness.images import source_files

COUNT, SHAPE = 200, (6, 6, 3)


def _subject():
    """A linear model and pictures around its boundary, the classes in turn."""
    rng = np.random.default_rng(3)
    classifier, images, labels, _ = helpers.two_sided(rng, rows=600, far=3.0)
    chosen = np.concatenate([np.flatnonzero(labels == c)[: COUNT // 2] for c in (0, 1)])
    return classifier.with_class_names(source_files.CLASSES), images[chosen], labels[chosen]


def _outcomes(
    classifier, images: Any, folder: Path, **options: Any
) -> dict[str, list[tuple[Any, ...]]]:
    """By key: epsilon, outcome and distance of each row."""
    robustness.audit(
        classifier,
        images,
        attacks=["fgsm"],
        epsilons=[1, 2],
        evidence="flips" if "evidence_to" in options else "none",
        batch_size=64,
        out=folder,
        **options,
    )
    with Run.open(folder) as run:
        table = run.outcomes()
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for row in table.sort_values(["image", "epsilon"]).fillna({"linf": -1.0}).itertuples():
        rows.setdefault(str(row.image), []).append((row.epsilon, row.status, row.linf))
    return rows


@pytest.mark.slow
def test_every_kind_gives_the_same_outcomes(tmp_path, monkeypatch):
    tf = pytest.importorskip("tensorflow")
    import keras

    classifier, images, labels = _subject()
    files = source_files.members(images, labels)
    data = tmp_path / "data"
    data.mkdir()
    source_files.write_folder(files, data / "folder")
    places: dict[str, Any] = {
        "folder": data / "folder",
        "zip": source_files.write_zip(files, data / "photos.zip"),
        "csv": source_files.write_list(files, data / "listed"),
        "tar": source_files.write_shards(files, data / "shards"),
        "tfrecord": source_files.write_records(files, data / "data.tfrecord"),
    }
    pytest.importorskip("pyarrow")
    places["parquet"] = source_files.write_parquet(files, data / "data.parquet", rows=32)
    expected = _outcomes(classifier, places["folder"], tmp_path / "run-folder")
    assert set(expected) == set(files)
    outcomes = {row[1] for rows in expected.values() for row in rows}
    assert outcomes == {"flipped", "robust"}
    for kind, place in places.items():
        if kind != "folder":
            assert _outcomes(classifier, place, tmp_path / f"run-{kind}") == expected, kind

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 7

        def __getitem__(self, number):
            part = slice(30 * number, 30 * number + 30)
            return images[part], labels[part]

    by_row = {f"row {n}": expected[name] for n, name in enumerate(files)}
    objects = {
        "array": images,
        "tf-data": tf.data.Dataset.from_tensor_slices((images, labels)).batch(32),
        "py-dataset": Batches(),
    }
    for kind, given in objects.items():
        more = {"labels": labels} if kind == "array" else {}
        assert _outcomes(classifier, given, tmp_path / f"run-{kind}", **more) == by_row, kind

    pytest.importorskip("s3fs")
    with serving() as server:
        monkeypatch.setattr(errors, "PAUSE", 0.001)
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_ENDPOINT_URL": server.url,
            "AWS_DEFAULT_REGION": "us-east-1", "ROBUSTNESS_CACHE": str(tmp_path / "cache"),
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        store_of.cache_clear()
        for path in data.rglob("*"):
            if path.is_file():
                server.objects[f"bucket/{path.relative_to(data).as_posix()}"] = path.read_bytes()
        # The model comes from the bucket as well, and is scanned like any other file.
        classifier.model.save(tmp_path / "model.keras")
        server.objects["bucket/model.keras"] = (tmp_path / "model.keras").read_bytes()
        reading: dict[str, Any] = {
            "scaling": "0..255",
            "head": "logits",
            "classes": source_files.CLASSES,
            "evidence_to": "s3://bucket/evidence",
        }
        for kind in ("folder", "tar", "parquet"):
            place = places[kind]
            url = f"s3://bucket/{place.relative_to(data).as_posix()}"
            run = tmp_path / f"run-s3-{kind}"
            remote = kind == "folder"
            model = "s3://bucket/model.keras" if remote else classifier
            assert _outcomes(model, url, run, **(reading if remote else {})) == expected, kind
        folder = tmp_path / "run-s3-folder"
        saved = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in (folder / "images").rglob("*.png")
        }
        before = "bucket/evidence/"
        sent = {k.removeprefix(before): v for k, v in server.objects.items() if "/images/" in k}
        assert saved and sent == saved
        store_of.cache_clear()
