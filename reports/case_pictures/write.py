"""Writes a case of a run as a PNG strip or as a GIF."""

from __future__ import annotations

import io
from pathlib import Path

from robustness.errors import SettingError
from robustness.files import disk_errors
from robustness.reports.case_pictures.chosen import chosen
from robustness.reports.case_pictures.drawing import frames, strip
from robustness.reports.case_pictures.sheet import sheet
from robustness.reports.files import write_file
from robustness.runs.store import Run

_MILLISECONDS = 1000


def write_case(
    run: str | Path,
    image: str,
    path: str | Path = "strip.png",
    attack: str | None = None,
    epsilon: float | None = None,
    pixels: bool = False,
) -> Path:
    """Draw one flip of a run, with its classes and confidences.

    Parameters
    ----------
    run
        The run folder; it is only read.
    image
        The name of the image, its path in the run, or the end of that path.
    path
        The file to write. A .png shows original, difference and adversarial picture side by side; a .gif
        shows original and adversarial picture in turn, in 256 colours.
    attack
        The attack whose flip is drawn, with or without its parameters; by default the one with the
        smallest change.
    epsilon
        The epsilon of the flip, in the unit of the run's norm; by default that of the smallest change.
    pixels
        Whether the square of 8 x 8 pixel values with the largest change is shown too.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    SettingError
        If the file has another ending or cannot be written, or the run has no such flip.
    RunError
        If the folder is not a run, or the pictures are missing, damaged or altered.
    """
    disk_errors.expect_named(path, "The path of the picture")
    target = Path(path)
    ending = target.suffix.lower()
    if ending not in (".png", ".gif"):
        raise SettingError(
            f"{target.name} does not say what to write; expected a name that ends in .png or .gif."
        )
    disk_errors.expect_place(target)
    with Run.open(run) as opened:
        case = sheet(opened, chosen(opened, image, attack, epsilon))
    buffer = io.BytesIO()
    if ending == ".png":
        strip(case, values=pixels).save(buffer, "PNG")
    else:
        first, second = frames(case, values=pixels)
        first.save(
            buffer,
            "GIF",
            save_all=True,
            append_images=[second],
            duration=_MILLISECONDS,
            loop=0,
            optimize=False,
        )
    return write_file(target, buffer.getvalue())
