"""Where reports go: a file in the run or wherever asked, replaced in one step."""

from __future__ import annotations

from pathlib import Path


def target_of(run: str | Path, path: str | Path | None, name: str) -> Path:
    """`path` if given, else the file `name` in the run."""
    return Path(run) / name if path is None else Path(path)


def replace(target: Path, content: str | bytes) -> Path:
    """Write `content` so that a reader sees the old file or the whole new one; returns `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    part.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    part.replace(target)
    return target
