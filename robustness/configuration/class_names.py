"""Reads the names of a model's classes, in the order of its outputs: from text, a list, a dict or a file.

Files that trainings leave behind are read as they are: one name per line, Teachable Machine's ``0 Cat``,
`class_indices` of Keras as JSON (name -> index), ``{"0": "cat"}``, ImageNet's `imagenet_class_index.json` and
`LOC_synset_mapping.txt`, a CSV of index and name, the `classes_` of scikit-learn's LabelEncoder as `.npy`.
Nothing in a file is run. No framework is imported here.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from robustness.errors import SettingError
from robustness.files.bounded import parse_json, read_bytes_bounded
from robustness.files.npy import read_npy
from robustness.text import shown

MAX_FILE_BYTES = 8 << 20
MOST = 100_000
"""The largest number of classes that a file may name."""
SUFFIXES = (".txt", ".json", ".csv", ".npy", ".names", ".labels", ".classes")
TABLES = ("class_names", "classes", "labels", "names", "class_indices", "id2label", "label2id")
"""Keys under which a JSON file may hold the names."""
BESIDE = (
    *("{stem}.labels.txt", "{stem}.classes.txt", "{stem}_labels.txt", "{stem}_classes.txt"),
    *("{stem}_class_names.txt", "{stem}.class_names.txt", "{stem}_class_indices.json"),
    *("class_names.txt", "labels.txt", "classes.txt", "class_indices.json", "class_names.json"),
    *("labels.json", "classes.json", "imagenet_class_index.json"),
)
"""Files beside a model that name its classes; those with the name of the model come first."""
_NUMBERED = re.compile(r"(\d{1,6})[\s,:;.|\t-]+(.+)")
_SYNSET = re.compile(r"n\d{8}")


def parse_class_names(value: object) -> object:
    """Return the names that an option gives as a tuple; None if it gives none.

    Parameters
    ----------
    value : names with commas between them, a JSON list, the path of a file, an iterable of names, or a dict
        name -> index or index -> name. Anything else is returned as it is, for the field to refuse.

    Raises
    ------
    SettingError
        The file cannot be read, or its content is not understood.
    """
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            return _of_json(_parsed(text, "the class names"), "the class names")
        if "," in text or not text:
            return tuple(text.split(",")) if text else None
        value = Path(text)
    if isinstance(value, Path):
        return read_class_names(value.expanduser())
    if isinstance(value, Mapping):
        return _of_json(dict(value), "the class names")
    if isinstance(value, Iterable):
        return tuple(value)
    return value


def recorded_names(names: Sequence[str]) -> str:
    """Return the text that `from_recorded_names` reads to the same names."""
    plain = len(names) > 1 and not any("," in name for name in names)
    text = ",".join(names)
    return (
        text
        if plain and not text.lstrip().startswith("[") and text == text.strip()
        else json.dumps(list(names))
    )


def from_recorded_names(text: str) -> tuple[str, ...]:
    """Return the names that a run records; unlike `parse_class_names` it never reads a file."""
    if text.lstrip().startswith("["):
        return _of_json(_parsed(text, "run.json"), "run.json")
    return tuple(text.split(","))


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read the names of the classes, in the order of the outputs, from a file.

    Raises
    ------
    SettingError
        The file cannot be read, is too large, or does not name each class once from 0 without gaps.
    """
    if path.suffix.lower() in (".pkl", ".pickle", ".joblib"):
        raise SettingError(
            f"{path} is a pickle, which runs code when it is opened; it is not read. Write the names into a "
            "text file, one per line, in the order of the model's outputs."
        )
    try:
        if path.suffix.lower() == ".npy":
            return _checked([str(one) for one in read_npy(path).ravel().tolist()], str(path))
        text = read_bytes_bounded(path, MAX_FILE_BYTES).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingError(
            f"{path} cannot be read as class names ({reason}); expected names with commas between them, or a "
            "file with one name per line (or JSON) in the order of the model's outputs."
        ) from None
    if text.lstrip().startswith(("{", "[")):
        return _of_json(_parsed(text, str(path)), str(path))
    if path.suffix.lower() == ".csv":
        return _of_csv(text, str(path))
    return _of_lines(text, str(path))


def _parsed(text: str, where: str) -> Any:
    try:
        return parse_json(text, max_bytes=MAX_FILE_BYTES, max_values=4 * MOST, max_depth=4)
    except ValueError as error:
        raise SettingError(f"{where} cannot be read as JSON: {error}.") from None


def _of_lines(text: str, where: str) -> tuple[str, ...]:
    """One name per line; a number before each name is its index if the numbers run from 0."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and all(_SYNSET.match(line) for line in lines):
        return _checked([_with_synset(*_split_synset(line)) for line in lines], where)
    matches = [_NUMBERED.fullmatch(line) for line in lines]
    if lines and all(matches):
        numbered = {int(match[1]): match[2].strip() for match in matches if match}
        if sorted(numbered) == list(range(len(lines))) and len(set(numbered.values())) == len(
            lines
        ):
            return _checked([numbered[n] for n in range(len(lines))], where)
    return _checked(lines, where)


def _of_csv(text: str, where: str) -> tuple[str, ...]:
    """Rows of index and name, with or without a header; or one name per row."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if row]
    if rows and all(len(row) == 1 for row in rows):
        return _checked([row[0] for row in rows], where)
    for body in (rows, rows[1:]):
        for number, name in ((0, 1), (1, 0)):
            pairs = [(row[number], row[name]) for row in body if len(row) > 1]
            if pairs and len(pairs) == len(body) and all(n.isdecimal() for n, _ in pairs):
                return _of_pairs({int(n): one for n, one in pairs}, len(pairs), where)
    raise SettingError(f"{where} is no list of classes; expected two columns, index and name.")


def _of_json(value: Any, where: str) -> tuple[str, ...]:
    """A list of names, or a dict of either direction, maybe under a key of its own."""
    if isinstance(value, Mapping):
        inner = [key for key in TABLES if isinstance(value.get(key), (list, Mapping))]
        if inner:
            return _of_json(value[inner[0]], where)
        keys, values = list(value), list(value.values())
        numbers = [_index(one) is not None for one in values]
        # Where both are numbers, as in class_indices of folders called by numbers, an index is no text.
        whole = all(isinstance(one, int) for one in values) and all(
            isinstance(k, str) for k in keys
        )
        if numbers and all(numbers) and (whole or not all(_index(k) is not None for k in keys)):
            return _of_pairs({_index(v): str(k) for k, v in value.items()}, len(keys), where)
        if keys and all(_index(key) is not None for key in keys):
            names = {_index(key): _name(one, where) for key, one in value.items()}
            return _of_pairs(names, len(keys), where)
    if isinstance(value, list):
        return _checked([_name(one, where) for one in value], where)
    raise SettingError(
        f"{where} does not name classes ({shown(value, 80)}); expected a list of names, or a dict from names "
        "to "
        "indices or from indices to names."
    )


def _index(value: Any) -> int | None:
    """The whole number from 0 that a value or a text stands for; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    text = str(value)
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _name(value: Any, where: str) -> str:
    """A name; a pair of synset and name, as ImageNet's list has it, as one text."""
    pair = isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value)
    if pair and _SYNSET.fullmatch(value[0]):
        return _with_synset(value[0], value[1])
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        return str(value["name"])
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value)
    raise SettingError(f"{where} has {shown(value, 80)} where the name of a class is expected.")


def _split_synset(line: str) -> tuple[str, str]:
    synset, _, name = line.partition(" ") if " " in line else line.partition("\t")
    return synset, name.strip()


def _with_synset(synset: str, name: str) -> str:
    """`tench (n01440764)`: names of ImageNet repeat, synsets do not, and folders are called by either."""
    first = name.split(",", maxsplit=1)[0].strip()
    return f"{first} ({synset})" if first else synset


def _of_pairs(names: Mapping[int | None, str], count: int, where: str) -> tuple[str, ...]:
    if sorted(names, key=lambda n: -1 if n is None else n) != list(range(count)):
        missing = [n for n in range(count) if n not in names]
        raise SettingError(
            f"{where} has {count} classes whose indices do not run from 0 to {count - 1} (index "
            f"{missing[0] if missing else '?'} is missing or given twice); expected each once."
        )
    return _checked([names[n] for n in range(count)], where)


def _checked(names: list[str], where: str) -> tuple[str, ...]:
    if not 0 < len(names) <= MOST:
        raise SettingError(f"{where} names {len(names):,} classes; expected 1 to {MOST:,}.")
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise SettingError(
            f"{where} names {twice[0][:60]!r} more than once; expected each class once, in the order of the "
            "model's outputs."
        )
    return tuple(names)
