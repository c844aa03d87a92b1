"""The page as PDF, printed by an installed Chromium."""

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
    """Return the path of a Chromium; the environment variable CHROME names another program.

    Raises
    ------
    SettingError
        If none is installed.
    """
    chosen = os.environ.get("CHROME")
    for name in [chosen] if chosen else NAMES:
        if path := shutil.which(name):
            return path
    raise SettingError(
        f"No Chromium was found (looked for {chosen or ', '.join(NAMES)}). Install one, set the "
        "environment variable CHROME to its program, or print report.html from any browser."
    )


def print_page(page: Path) -> bytes:
    """Return the PDF of an HTML file; SettingError if the browser fails."""
    path = browser()
    with tempfile.TemporaryDirectory(prefix="robustness-pdf-") as folder:
        target = Path(folder) / "page.pdf"
        options = ["--headless", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
        # Chromium's sandbox refuses to run as root; the page is our own and loads nothing.
        options += ["--no-sandbox"] * (hasattr(os, "geteuid") and os.geteuid() == 0)
        options += [f"--user-data-dir={folder}/profile", "--no-pdf-header-footer"]
        command = [path, *options, f"--print-to-pdf={target}", page.resolve().as_uri()]
        try:
            finished = subprocess.run(  # noqa: S603  a browser on our own page
                command, capture_output=True, timeout=SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SettingError(f"{path} could not print the page: {error}.") from None
        if not target.is_file():
            output = finished.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise SettingError(f"{path} printed no PDF: {' '.join(output) or 'it gave no reason'}.")
        return target.read_bytes()
