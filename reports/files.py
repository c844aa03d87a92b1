"""Where reports are written: into the run or to a given path, each file replaced in one step."""

from __future__ import annotations

from pathlib import Path

from robustness.files import disk_errors, writing


def report_path(run: str | Path, path: str | Path | None, name: str) -> Path:
    """Return `path` if given, else the file `name` in the run folder.

    Raises
    ------
    SettingError
        If no report may be written to `path`.
    """
    if path is None:
        return Path(run) / name
    disk_errors.expect_named(path, "The path of the report")
    disk_errors.expect_place(Path(path))
    return Path(path)


def write_file(target: Path, content: str | bytes) -> Path:
    """Write a report so that a reader sees the old file or the whole new one.

    Parameters
    ----------
    target
        The file. A link planted in its place is replaced, not followed.
    content
        Text, written as UTF-8, or bytes.

    Returns
    -------
    Path
        `target`.

    Raises
    ------
    RunError
        If the file cannot be written.
    """
    return writing.replace(
        target, content.encode("utf-8", "replace") if isinstance(content, str) else content
    )
