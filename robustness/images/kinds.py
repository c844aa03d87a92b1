"""The toolkit's own kinds of images: entry points of the group `robustness.sources` name these objects."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any, cast

from robustness.files.places import Place
from robustness.files.remote import RemotePlace
from robustness.files.remote.places import THREADS
from robustness.images import arrays, datasets, remote_folder, shards, sources
from robustness.images.decode import SUFFIXES
from robustness.images.entries import Source, key_of
from robustness.images.kept_listings import kept
from robustness.images.parquet import open_parquet
from robustness.images.source_kinds import SourceKind, SourceOptions
from robustness.images.streams import Stream
from robustness.images.tar_shards import open_shards
from robustness.images.tfrecords import open_records, picture_in


def _file(given: object, *suffixes: str) -> bool:
    """Whether this is one file with one of the suffixes."""
    if not isinstance(given, Place) or not given.is_file:
        return False
    return PurePosixPath(given.name).suffix.lower() in suffixes


def _path(given: object) -> Path:
    return cast("Place", given).path()


def _open_picture(given: object, options: SourceOptions) -> Source:
    return sources.open_picture(_path(given), options.class_names)


def _open_folder(given: object, options: SourceOptions) -> Source:
    if isinstance(given, RemotePlace):
        return remote_folder.open_remote_folder(given, options.class_names)
    return sources.open_folder(_path(given), options.class_names)


def _open_zip(given: object, options: SourceOptions) -> Source:
    return sources.open_archive(_path(given), options.class_names)


def _open_csv(given: object, options: SourceOptions) -> Source:
    read = remote_folder.reader_beside(given) if isinstance(given, RemotePlace) else None
    threads = 2 if read is None else THREADS
    return sources.open_list(_path(given), options.class_names, options.label_column, read, threads)


def _open_npz(given: object, options: SourceOptions) -> Source:
    return arrays.open_npz(_path(given), options.class_names, options.label_column)


PICTURE = SourceKind(
    "a picture (PNG, JPEG, BMP, WebP, GIF, TIFF)",
    lambda given: _file(given, *SUFFIXES),
    _open_picture,
)
FOLDER = SourceKind(
    "a folder of pictures",
    lambda given: isinstance(given, Place) and given.is_folder,
    _open_folder,
    general=True,
)
ZIP = SourceKind("a .zip", lambda given: _file(given, ".zip"), _open_zip)
CSV = SourceKind("a .csv", lambda given: _file(given, ".csv"), _open_csv, columns=True)
NPZ = SourceKind("a .npz", lambda given: _file(given, ".npz"), _open_npz, columns=True)
_IS_TAR = shards.has_suffix(".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def _open_tar(given: object, options: SourceOptions) -> Source:
    place = cast("Place", given)
    files = shards.shards(place, _IS_TAR)
    what = f"tar {'file' if len(files) == 1 else 'shards'} {key_of(place.name)}"
    return kept(
        "tar",
        what,
        files,
        options,
        lambda: open_shards(files, what, options.class_names, options.label_column),
    )


TAR = SourceKind(
    "a .tar, a folder of them, or a range such as data-{000..255}.tar",
    lambda given: shards.holds(given, _IS_TAR),
    _open_tar,
    columns=True,
)

_IS_PARQUET = shards.has_suffix(".parquet")
_RECORDS = re.compile(
    r".*(\.tfrecords?|\.tfrec|\.tfrecords?\.gz|\.tfrecords?-\d+-of-\d+|[^.]*-\d{5}-of-\d{5})"
)


def _is_records(name: str) -> bool:
    return _RECORDS.fullmatch(name.lower()) is not None


def _open_parquet(given: object, options: SourceOptions) -> Source:
    place = cast("Place", given)
    return open_parquet(
        shards.shards(place, _IS_PARQUET),
        f"Parquet {key_of(place.name)}",
        options.class_names,
        options.label_column,
        options.cache_bytes,
    )


def _open_records(given: object, options: SourceOptions) -> Source:
    place = cast("Place", given)
    files = shards.shards(place, _is_records)
    what = f"TFRecord {key_of(place.name)}"
    return kept(
        "TFRecord",
        what,
        files,
        options,
        lambda: open_records(files, what, options.class_names, options.label_column),
        picture_in,
    )


def _open_tf_data(given: Any, _: SourceOptions) -> Stream:
    return datasets.stream_of_tf_data(given)


def _open_py_dataset(given: Any, _: SourceOptions) -> Stream:
    return datasets.stream_of_py_dataset(given)


def _open_pytorch(given: Any, _: SourceOptions) -> Stream:
    return datasets.stream_of_torch(given)


PARQUET = SourceKind(
    "a .parquet with a column of pictures, or a folder of them",
    lambda given: shards.holds(given, _IS_PARQUET),
    _open_parquet,
    columns=True,
)
TFRECORD = SourceKind(
    "a .tfrecord, or a folder of them",
    lambda given: shards.holds(given, _is_records),
    _open_records,
    columns=True,
)
TF_DATA = SourceKind("a tf.data.Dataset", datasets.is_tf_data, _open_tf_data)
PY_DATASET = SourceKind("a keras.utils.PyDataset", datasets.is_py_dataset, _open_py_dataset)
PYTORCH = SourceKind("a PyTorch Dataset or DataLoader", datasets.is_torch, _open_pytorch)
