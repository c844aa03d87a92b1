"""Reads sources of other packages: what they raise or return wrongly is told in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar, cast

import numpy as np

from robustness.errors import ImagesError, RobustnessError
from robustness.images.entries import Entry, Picture, Shape, Source, readable, unreadable
from robustness.images.streams import Sample, Stream
from robustness.plugins import first_line
from robustness.text import visible

Result = TypeVar("Result")
_LABELS = (int, float, str, bytes, list, tuple, np.ndarray, np.generic)


def checked(kind: str, source: object) -> Source | Stream:
    """Return what a kind of images of another package has opened, with all that it gives checked.

    Parameters
    ----------
    kind : str
        The name of the kind, for messages.
    source : object
        What its `open` returned.

    Raises
    ------
    ImagesError
        It is neither a source nor a stream.
    """
    if isinstance(source, Stream):
        return replace(source, samples=lambda: _samples(kind, source))
    if not all(hasattr(type(source), name) for name in ("entries", "read")):
        raise _broken(
            kind, f"opened {_shown(source)}", "a Source with `entries` and `read`, or a Stream"
        )
    return ForeignSource(kind, cast("Source", source))


def calling(kind: str, what: str, call: Callable[[], Result]) -> Result:
    """Return ``call()``; ImagesError, one sentence that names the kind, whatever else it raises."""
    try:
        return call()
    except (RobustnessError, KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # a plug-in may raise anything, SystemExit included
        raise ImagesError(
            f"The kind of images {kind!r} failed {what}: {visible(first_line(error))}. Correct, reinstall or "
            "remove the package that brings it."
        ) from error


def _samples(kind: str, stream: Stream) -> Iterator[Sample]:
    samples = calling(kind, "to begin a pass", lambda: iter(stream.samples()))
    number = 0
    while True:
        end = object()
        sample = calling(kind, f"at image {number}", lambda: next(samples, end))  # noqa: B023 - called at once
        if sample is end:
            return
        if not isinstance(sample, Sample):
            raise _broken(kind, f"gave {_shown(sample)} as image {number}", "a Sample")
        if sample.label is not None and not isinstance(sample.label, _LABELS):
            expected = "a number, a name, a one-hot row or None"
            raise _broken(kind, f"gave image {number} the label {_shown(sample.label)}", expected)
        yield sample
        number += 1


class ForeignSource:
    """A source of another package, with checked entries and pictures.

    Parameters
    ----------
    kind : str
        The name of its kind, for messages.
    source : Source
        The source.
    """

    access: ClassVar[str] = "random"

    def __init__(self, kind: str, source: Source) -> None:
        self._kind, self._source = kind, source
        self._listed: Sequence[Entry] | None = None
        names = calling(kind, "to tell its `class_names`", lambda: source.class_names)
        if names is not None:
            named = isinstance(names, (list, tuple)) and all(isinstance(n, str) for n in names)
            if not named:
                raise _broken(
                    kind, f"has the `class_names` {_shown(names)}", "a tuple of names, or None"
                )
            names = tuple(names)
        self.class_names: tuple[str, ...] | None = names

    def __getattr__(self, name: str) -> Any:
        # What a source may have besides, such as `threads`.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._source, name)

    @property
    def description(self) -> str:
        """One line for the report."""
        text = calling(self._kind, "to tell its `description`", lambda: self._source.description)
        if not isinstance(text, str):
            raise _broken(self._kind, f"has the `description` {_shown(text)}", "a text")
        return text

    def entries(self) -> list[Entry]:
        """Return all entries, always in the same order."""
        entries = calling(self._kind, "to list its `entries`", lambda: list(self._source.entries()))
        if self._listed is None:
            entries = self._plain(entries)
            self._listed = tuple(entries)
        elif len(entries) != len(self._listed) or any(
            one != before for one, before in zip(entries, self._listed, strict=True)
        ):
            raise _broken(
                self._kind, "listed other `entries` than before", "the same, in the same order"
            )
        return list(self._listed)

    def _plain(self, entries: list[Any]) -> list[Entry]:
        """Entries with labels of Python's own type; ImagesError for one that is none, or a repeated key."""
        most = len(self.class_names) if self.class_names is not None else 1 << 31
        plain: list[Entry] = []
        seen: set[str] = set()
        for entry in entries:
            if not isinstance(entry, Entry) or not (isinstance(entry.key, str) and entry.key):
                raise _broken(self._kind, f"listed {_shown(entry)}", "an Entry whose key is a text")
            if not isinstance(entry.name, str):
                raise _broken(
                    self._kind, f"listed {_shown(entry)}", "an Entry whose name is a text"
                )
            label = entry.label
            if label is not None:
                if not isinstance(label, (int, np.integer)) or not 0 <= label < most:
                    names = "" if self.class_names is None else f", one of {most} classes"
                    expected = f"a whole number from 0{names}, or None"
                    raise _broken(
                        self._kind, f"gave {_shown(entry.key)} the label {_shown(label)}", expected
                    )
                label = int(label)
            if entry.key in seen:
                raise _broken(
                    self._kind,
                    f"listed the key {_shown(entry.key)} twice",
                    "one entry for each key",
                )
            seen.add(entry.key)
            plain.append(entry._replace(label=label))
        return plain

    def read(self, entry: Entry, shape: Shape) -> Picture:
        """Decode one picture to `shape`; its digest is computed here.

        Raises
        ------
        ImagesError
            The source raised an exception, or returned something that is no picture of that shape.
        """
        named = _shown(entry.key)
        picture = calling(self._kind, f"to read {named}", lambda: self._source.read(entry, shape))
        if not isinstance(picture, Picture):
            raise _broken(self._kind, f"read {named} as {_shown(picture)}", "a Picture")
        pixels, reason = picture.pixels, picture.reason
        if not isinstance(reason, str) or not isinstance(picture.note, str):
            raise _broken(self._kind, f"read {named} with the reason {_shown(reason)}", "texts")
        if pixels is None:
            return unreadable(
                entry, reason or f"The kind of images {self._kind!r} gives no reason."
            )
        if reason:
            raise _broken(self._kind, f"read {named} with pixels and a reason", "one of them")
        found = (getattr(pixels, "dtype", type(pixels).__name__), getattr(pixels, "shape", ()))
        wanted = tuple(b if a is None else a for a, b in zip(shape, found[1], strict=False))
        if (
            not isinstance(pixels, np.ndarray)
            or found != (np.uint8, wanted)
            or len(wanted) != len(shape)
        ):
            expected = f"uint8 {tuple('any' if side is None else side for side in shape)}"
            raise _broken(self._kind, f"read {named} as {found[0]} {found[1]}", expected)
        return readable(entry, pixels, picture.note)


def _shown(value: object) -> str:
    return visible(" ".join(repr(value).split())[:100])


def _broken(kind: str, did: str, expected: str) -> ImagesError:
    return ImagesError(
        f"The kind of images {kind!r} {did}; expected {expected}. Correct, reinstall or remove the package "
        "that brings it."
    )
