"""The page as PDF, printed by a Chromium where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from robustness.errors import SettingError

NAMES = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"),
    *("microsoft-edge", "msedge"),
)
SECONDS = 300


def browser() -> str:
    """The path of a Chromium; SettingError without one. The variable CHROME names another."""
    wanted = os.environ.get("CHROME")
    for name in [wanted] if wanted else NAMES:
        if path := shutil.which(name):
            return path
    raise SettingError(
        f"No Chromium was found (looked for {wanted or ', '.join(NAMES)}). Install one, name its "
        "program in the variable CHROME, or print report.html from any browser."
    )


def print_page(page: Path) -> bytes:
    """The PDF of an HTML file. SettingError if the browser fails."""
    path = browser()
    with tempfile.TemporaryDirectory(prefix="robustness-pdf-") as folder:
        target = Path(folder) / "page.pdf"
        options = ["--headless", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
        # Chromium's sandbox refuses to run as root; the page is our own and loads nothing.
        options += ["--no-sandbox"] * (hasattr(os, "geteuid") and os.geteuid() == 0)
        options += [f"--user-data-dir={folder}/profile", "--no-pdf-header-footer"]
        command = [path, *options, f"--print-to-pdf={target}", page.resolve().as_uri()]
        try:
            done = subprocess.run(  # noqa: S603  a browser on our own page
                command, capture_output=True, timeout=SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SettingError(f"{path} could not print the page: {error}.") from None
        if not target.is_file():
            said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise SettingError(f"{path} printed no PDF: {' '.join(said) or 'it said nothing'}.")
        return target.read_bytes()
