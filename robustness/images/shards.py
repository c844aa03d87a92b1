"""Finds the files of a data set that is one file, a folder of shards, or a numbered range of files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import PurePosixPath

from robustness.errors import ImagesError
from robustness.files.places import MAX_FILES, ByteFile, Place, incomplete
from robustness.images.decode import SUFFIXES

Match = Callable[[str], bool]


def has_suffix(*suffixes: str) -> Match:
    """Return a test of whether the name of a file ends like one of the suffixes, in any case."""
    return lambda name: name.lower().endswith(suffixes)


def holds(given: object, match: Match) -> bool:
    """Return whether this is a matching file, a range of such files, or a folder of them.

    A folder with pictures or further folders in it is a folder of pictures.
    """
    if not isinstance(given, Place):
        return False
    if given.is_file:
        return match(given.name)
    files, inner = given.names()
    if not any(map(match, files)):
        return False
    if not given.is_folder:
        return all(map(match, files))
    return not inner and not any(PurePosixPath(name).suffix.lower() in SUFFIXES for name in files)


def shards(place: Place, match: Match) -> list[ByteFile]:
    """Return the matching files of a place.

    Raises
    ------
    ImagesError
        There are too many, some of a series are missing, or one cannot be opened.
    """
    names = [] if place.is_file else [name for name in place.names()[0] if match(name)]
    if len(names) > MAX_FILES:
        raise ImagesError(f"{place.name} holds more than {MAX_FILES:,} files; name fewer.")
    if wrong := "" if place.is_file else incomplete(names):
        raise ImagesError(f"{place.name} cannot be read as one data set: {wrong}")
    try:
        return place.files(names)
    except FileNotFoundError as error:
        raise ImagesError(
            f"{error.filename or error} is missing; expected every file of {place.name}."
        ) from error
    except (OSError, ValueError) as error:
        raise ImagesError(f"{place.name} cannot be opened ({error}).") from error


def expect_no_page(file: ByteFile, start: bytes) -> None:
    """Raise ImagesError for a web page, given in place of a file; `start` are its first bytes."""
    if start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        raise ImagesError(
            f"{file.name} is a web page, as servers give for a login or an error; expected a file of "
            "pictures. Check the URL where it came from, and whether it needs an account."
        )


def in_turn(files: Sequence[ByteFile], ahead: int = 4) -> Iterator[ByteFile]:
    """Yield the files in order; remote ones are fetched ahead of use, `ahead` at a time."""
    remote = [file for file in files if hasattr(file, "warm")]
    if not remote:
        yield from files
        return
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(ahead, thread_name_prefix="shards") as pool:
        try:
            for number, file in enumerate(files):
                for later in remote[number + len(waiting) : number + ahead]:
                    waiting.append(pool.submit(later.warm))
                if waiting:
                    waiting.popleft().result()
                yield file
        finally:
            for future in waiting:
                future.cancel()
