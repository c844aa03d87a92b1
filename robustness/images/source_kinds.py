"""Finds the kind of source that opens what was given as images: the toolkit's own kinds, and plug-ins'.

Every kind, the built-in ones included, is an entry point of the group `robustness.sources` that names a
`SourceKind`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from robustness import plugins
from robustness.errors import ImagesError, RobustnessError, SettingError
from robustness.files.remote import BYTES
from robustness.images.entries import Source
from robustness.images.foreign_source import calling, checked
from robustness.images.streams import Stream, spooled

CACHE_BYTES = BYTES
"""The most bytes on the disk that copies of remote files, and of streams, take by default."""


@dataclass(frozen=True)
class SourceOptions:
    """What the user states about images.

    Parameters
    ----------
    class_names : tuple of str or None
        The class names in the order of the labels; None if they are not known.
    label_column : str or None
        The name of what holds the labels, "none" for no labels; None to find it.
    cache_bytes : int
        The most bytes on the disk that copies take.
    """

    class_names: tuple[str, ...] | None = None
    label_column: str | None = None
    cache_bytes: int = CACHE_BYTES


@dataclass(frozen=True)
class SourceKind:
    """A kind of source: which texts, paths or objects it opens, and how.

    Parameters
    ----------
    form : str
        What it opens, for messages, such as "a .zip".
    takes : callable
        `takes(given)` tells whether this kind opens what was given: a `robustness.files.places.Place` (a
        file, folder or range that exists, local or remote), a text that names nothing that exists, or any
        other Python object. It must be quick, and must not raise.
    open : callable
        `open(given, options)` returns a `Source`, or a `Stream`, which is then copied to the disk within
        `options.cache_bytes`. It raises ImagesError if the source cannot be used as a whole.
    columns : bool
        Whether `options.label_column` means something to it.
    general : bool
        Whether it is asked only if no other kind takes what was given, as a folder of pictures is.
    """

    form: str
    takes: Callable[[object], bool]
    open: Callable[[object, SourceOptions], Source | Stream]
    columns: bool = False
    general: bool = False


@cache
def _survey() -> tuple[dict[str, SourceKind], list[plugins.Broken]]:
    names: list[str] = []

    def kind(name: str) -> SourceKind:
        made = plugins.load(plugins.SOURCES, name)
        if not isinstance(made, SourceKind):
            raise SettingError(
                f"The kind of images {name!r} is {type(made).__name__}; expected a SourceKind "
                "(robustness.images). Reinstall or remove the package that brings it."
            )
        names.append(name)
        return made

    kinds, broken = plugins.survey(plugins.SOURCES, kind)
    return dict(zip(names, kinds, strict=True)), broken


def kind_of(given: object) -> SourceKind | None:
    """Return the kind that opens what was given; None if there is none.

    Raises
    ------
    ImagesError
        Several kinds open it.
    """
    kinds, _ = _survey()
    for general in (False, True):
        taking = {
            name: kind
            for name, kind in kinds.items()
            if kind.general is general and _takes(name, kind, given)
        }
        own = {n: kind for n, kind in taking.items() if plugins.is_own(plugins.SOURCES, n)}
        if len(own or taking) > 1:
            forms = "; ".join(f"{name}: {kind.form}" for name, kind in (own or taking).items())
            raise ImagesError(
                f"{_word(given)} can be read as several kinds of images ({forms}). Name the files "
                "themselves."
            )
        for kind in (own or taking).values():
            return kind
    return None


def opened(kind: SourceKind, given: object, options: SourceOptions) -> Source:
    """Open what was given as images of this kind; a stream is copied to the disk.

    Raises
    ------
    ImagesError
        It cannot be used as a whole, or a label column was given for a kind without columns.
    """
    if options.label_column is not None and not kind.columns:
        forms = " or ".join(one.form for one in _survey()[0].values() if one.columns)
        raise ImagesError(
            f"{_word(given)} has no columns, and a label column ({options.label_column!r}) was given; "
            f"expected {forms}. Leave it out."
        )
    foreign = _foreign_name(kind)
    try:
        source = (
            _open_foreign(foreign, kind, given, options) if foreign else kind.open(given, options)
        )
    except RobustnessError:
        raise
    except (OSError, MemoryError, ValueError) as error:
        raise ImagesError(
            f"{_word(given)} cannot be read ({error}); expected {kind.form}."
        ) from error
    if isinstance(source, Stream):
        return spooled(source, options.class_names, options.cache_bytes)
    return source


def _foreign_name(kind: SourceKind) -> str:
    """The name under which another package brings the kind; "" for a kind of the toolkit."""
    names = [name for name, known in _survey()[0].items() if known is kind]
    return next((name for name in names if not plugins.is_own(plugins.SOURCES, name)), "")


def _open_foreign(
    name: str, kind: SourceKind, given: object, options: SourceOptions
) -> Source | Stream:
    """What a kind of another package opens, checked; ImagesError whatever it raises."""

    def opens() -> Source | Stream:
        try:
            return kind.open(given, options)
        except (OSError, ValueError) as error:
            raise ImagesError(
                f"{_word(given)} cannot be read ({error}); expected {kind.form}."
            ) from error

    return checked(name, calling(name, f"to open {_word(given)}", opens))


def further_forms() -> str:
    """Return what plug-ins open, and which cannot be used, for messages; "" without plug-ins."""
    kinds, broken = _survey()
    more = [k.form for n, k in kinds.items() if not plugins.is_own(plugins.SOURCES, n)]
    return "".join([f", or {form}" for form in more] + [f". {one.reason}" for one in broken])


def _takes(name: str, kind: SourceKind, given: object) -> bool:
    try:
        return bool(kind.takes(given))
    except Exception as error:  # a plug-in may raise anything
        raise SettingError(
            f"The kind of images {name!r} failed to tell whether it opens {_word(given)}: "
            f"{type(error).__name__}: {str(error)[:200]}. Reinstall or remove the package that brings it."
        ) from error


def _word(given: object) -> str:
    """What was given, for messages."""
    name = getattr(given, "name", given)
    return str(name)[:200] if isinstance(name, str) else f"The object {type(given).__name__}"
