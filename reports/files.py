"""Where reports go: a file in the run or wherever asked, replaced in one step, nothing planted followed."""

from __future__ import annotations

from pathlib import Path

from robustness.files import disk_errors, writing


def target_of(run: str | Path, path: str | Path | None, name: str) -> Path:
    """`path` if given, else the file `name` in the run; SettingError where no report may go."""
    if path is None:
        return Path(run) / name
    disk_errors.expect_named(path, "The path of the report")
    disk_errors.expect_place(Path(path))
    return Path(path)


def replace(target: Path, content: str | bytes) -> Path:
    """Write `content` so that a reader sees the old file or the whole new one; returns `target`.

    RunError if it cannot be written.
    """
    return writing.replace(
        target, content.encode("utf-8", "replace") if isinstance(content, str) else content
    )
