"""Opens the images that a text names: those that an installed package offers by name, or a path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustness import plugins
from robustness.errors import SettingError
from robustness.images.entries import Source
from robustness.images.source_kinds import CACHE_BYTES
from robustness.images.sources import open_source


def open_named(
    name: str | Path,
    class_names: Sequence[str] | None = None,
    label_column: str | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> Source:
    """Open the images of a name such as `pets:8`, or of a path. A `Path` is never a name.

    Parameters
    ----------
    name : str or Path
        The name or the path.
    class_names, label_column, cache_bytes
        As for `open_source`.

    Raises
    ------
    SettingError
        The name is also that of a file or folder in the current folder.
    ImagesError
        The images cannot be used.
    """
    source = plugins.load(plugins.INPUTS, "images")(name) if isinstance(name, str) else None
    if source is None:
        return open_source(name, class_names, label_column, cache_bytes)
    if Path(name).exists():
        raise SettingError(
            f"{name!r} names the images of the toolkit, and there is a file or folder of that name here. "
            f"Write ./{name} for these, or run the command in another folder."
        )
    return source
